//! JSON values as cells: a value is parsed only as deep as its column's type asks, and numbers keep every digit.
//!
//! Invariant: keys are matched without regard to case, the last of equal keys counts, and keys that no column has are skipped
//! without being stored.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use arrow::datatypes::{DataType, Field, Fields};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Cell;

/// Keys of a row whose order is remembered.
const ORDER_MAX: usize = 1_024;

/// Where a key's value goes: a lower-case name to a slot.
#[derive(Debug)]
pub(super) struct Slots {
    by_name: HashMap<String, usize>,
    /// The keys of the row before, in their order, with their slots: rows of one kind are written in one order.
    order: RefCell<Vec<(Box<str>, Option<usize>)>>,
}

impl Slots {
    pub(super) fn new(fields: &Fields) -> Self {
        let by_name = fields.iter().enumerate().map(|(slot, field)| (field.name().to_lowercase(), slot)).collect();
        Self { by_name, order: RefCell::default() }
    }

    /// The slot of the key that stands at this place in its row.
    fn find(&self, place: usize, name: &str) -> Option<usize> {
        let mut order = self.order.borrow_mut();
        if let Some((_, slot)) = order.get(place).filter(|(before, _)| **before == *name) {
            return *slot;
        }
        // Most keys are lower-case already.
        let slot = self.by_name.get(name).or_else(|| self.by_name.get(&name.to_lowercase())).copied();
        if place == order.len() && place < ORDER_MAX {
            order.push((name.into(), slot));
        } else if let Some(before) = order.get_mut(place) {
            *before = (name.into(), slot);
        }
        slot
    }

    /// The raw values of an object, by slot.
    ///
    /// # Errors
    ///
    /// Text that is no JSON object.
    pub(super) fn split<'de>(&self, text: &'de str) -> serde_json::Result<Vec<Option<&'de RawValue>>> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let values = ObjectSplit { slots: self }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(values)
    }
}

struct ObjectSplit<'a> {
    slots: &'a Slots,
}

impl<'de> DeserializeSeed<'de> for ObjectSplit<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSplit<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.slots.by_name.len()];
        let mut places = 0..;
        while let Some(Key(key)) = map.next_key()? {
            let slot = self.slots.find(places.next().unwrap_or(usize::MAX), &key);
            match slot.and_then(|slot| values.get_mut(slot)) {
                Some(slot) => *slot = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// A key, borrowed from the text unless it holds an escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A JSON value as a cell of a type. What does not fit becomes NULL and adds to `misfits`, also inside nested values.
pub(super) fn cell<'a>(raw: &'a RawValue, data_type: &DataType, misfits: &mut u64) -> Cell<'a> {
    let text = raw.get();
    let made = match text.as_bytes() {
        b"null" => return Cell::Null,
        [b'"', ..] => string(text).and_then(|text| Cell::from_text(text, data_type)),
        [b'[', ..] if is_text(data_type) => Some(Cell::Text(Cow::Borrowed(text))),
        [b'{', ..] if is_text(data_type) => Some(Cell::Text(Cow::Borrowed(text))),
        [b'[', ..] => list(text, data_type, misfits),
        [b'{', ..] => object(text, data_type, misfits),
        [b't' | b'f', ..] => Cell::from_text(Cow::Borrowed(text), data_type),
        _ if is_text(data_type) => Some(Cell::Text(Cow::Borrowed(text))),
        _ => Cell::from_number(text, data_type),
    };
    made.unwrap_or_else(|| {
        *misfits += 1;
        Cell::Null
    })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary)
}

fn string(text: &str) -> Option<Cow<'_, str>> {
    match serde_json::from_str::<&str>(text) {
        Ok(plain) => Some(Cow::Borrowed(plain)),
        Err(_) => serde_json::from_str::<String>(text).ok().map(Cow::Owned),
    }
}

fn list<'a>(text: &'a str, data_type: &DataType, misfits: &mut u64) -> Option<Cell<'a>> {
    let DataType::List(item) = data_type else { return None };
    let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
    Some(Cell::List(items.into_iter().map(|raw| field_cell(Some(raw), item, misfits)).collect()))
}

fn object<'a>(text: &'a str, data_type: &DataType, misfits: &mut u64) -> Option<Cell<'a>> {
    match data_type {
        DataType::Struct(fields) => {
            let values = Slots::new(fields).split(text).ok()?;
            let cells = fields.iter().zip(values).map(|(field, raw)| field_cell(raw, field, misfits));
            Some(Cell::Struct(cells.collect()))
        }
        DataType::Map(entries, _) => map(text, entries, misfits),
        _ => None,
    }
}

fn field_cell<'a>(raw: Option<&'a RawValue>, field: &Field, misfits: &mut u64) -> Cell<'a> {
    raw.map_or(Cell::Null, |raw| cell(raw, field.data_type(), misfits))
}

fn map<'a>(text: &'a str, entries: &Field, misfits: &mut u64) -> Option<Cell<'a>> {
    let DataType::Struct(pair) = entries.data_type() else { return None };
    let [key_field, value_field] = pair.as_ref() else { return None };
    let pairs: Pairs<'a> = serde_json::from_str(text).ok()?;
    let mut cells = Vec::with_capacity(pairs.0.len());
    for (key, raw) in pairs.0 {
        // A key that is none of its type names nothing: the whole map does not fit.
        let key = Cell::from_text(key, key_field.data_type())?;
        cells.push((key, field_cell(Some(raw), value_field, misfits)));
    }
    Some(Cell::Map(cells))
}

/// Keys and raw values in order.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}
