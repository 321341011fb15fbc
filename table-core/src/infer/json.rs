//! A JSON object counted as it is parsed, without building it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{FIELDS_MAX, Observed, ObservedFields, text};
use crate::{Error, ErrorKind, HiveType, Result};

pub(super) fn observe(fields: &mut ObservedFields, text: &str, source: &str) -> Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let seed = ObjectSeed { fields, source };
    let outcome = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    outcome.map_err(|error| Error::new(ErrorKind::Corrupt, format!("the row is no JSON object: {error}")))
}

struct ObjectSeed<'a> {
    fields: &'a mut ObservedFields,
    source: &'a str,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        self.fields.row(self.source);
        let mut index = 0;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.fields.fields.len() > FIELDS_MAX {
                return Err(A::Error::custom(format!("more than {FIELDS_MAX} distinct keys")));
            }
            let observed = self.fields.field(&key, index, self.source);
            map.next_value_seed(ValueSeed { observed, source: self.source })?;
            index += 1;
        }
        Ok(())
    }
}

struct ValueSeed<'a> {
    observed: &'a mut Observed,
    source: &'a str,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        self.observed.null();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        self.observed.scalar(HiveType::Boolean, false, self.source);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<(), E> {
        self.observed.scalar(HiveType::BigInt, value.unsigned_abs() > 1 << 53, self.source);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<(), E> {
        let hive_type = if i64::try_from(value).is_ok() { HiveType::BigInt } else { integer(value) };
        self.observed.scalar(hive_type, value > 1 << 53, self.source);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        self.observed.scalar(HiveType::Double, false, self.source);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<(), E> {
        self.observed.scalar(text::classify_quoted(value), false, self.source);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<(), A::Error> {
        let list = self.observed.list.get_or_insert_default();
        list.seen.add(self.source, 1);
        while items.next_element_seed(ValueSeed { observed: &mut list.item, source: self.source })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<(), A::Error> {
        let fields = self.observed.object.get_or_insert_default();
        if fields.fields.len() > FIELDS_MAX {
            // The column becomes text in the end: enough was seen.
            return map_ignored(map);
        }
        ObjectSeed { fields, source: self.source }.visit_map(map)
    }
}

fn map_ignored<'de, A: MapAccess<'de>>(mut map: A) -> std::result::Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

fn integer(value: u64) -> HiveType {
    let text = value.to_string();
    text::integer(&text, text.len()).unwrap_or(HiveType::String)
}
