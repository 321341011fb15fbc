//! A JSON object counted value by value, as it stands: a number is judged by all of its digits.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{FIELDS_MAX, Observed, ObservedFields, text};
use crate::{Error, ErrorKind, HiveType, Result};

/// How deep a row may nest.
const DEPTH_MAX: usize = 128;

pub(super) fn observe(fields: &mut ObservedFields, text: &str, source: &str) -> Result<()> {
    let outcome = object(fields, text, source, 1);
    outcome.map_err(|error| Error::new(ErrorKind::Corrupt, format!("the row is no JSON object: {error}")))
}

fn object(fields: &mut ObservedFields, text: &str, source: &str, depth: usize) -> serde_json::Result<()> {
    if depth > DEPTH_MAX {
        return Err(serde_json::Error::custom(format!("it nests deeper than {DEPTH_MAX}")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    ObjectSeed { fields, source, depth }.deserialize(&mut deserializer)?;
    deserializer.end()
}

struct ObjectSeed<'a> {
    fields: &'a mut ObservedFields,
    source: &'a str,
    depth: usize,
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
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if self.fields.fields.len() > FIELDS_MAX {
                return Err(A::Error::custom(format!("more than {FIELDS_MAX} distinct keys")));
            }
            let raw: &'de RawValue = map.next_value()?;
            let observed = self.fields.field(&key, index, self.source);
            value(observed, raw.get(), self.source, self.depth).map_err(A::Error::custom)?;
            index += 1;
        }
        Ok(())
    }
}

fn value(observed: &mut Observed, text: &str, source: &str, depth: usize) -> serde_json::Result<()> {
    match text.as_bytes() {
        b"null" => observed.null(),
        [b't' | b'f', ..] => observed.scalar(HiveType::Boolean, false, source),
        [b'"', ..] => observed.scalar(text::classify_quoted(&serde_json::from_str::<String>(text)?), false, source),
        [b'[', ..] => return list(observed, text, source, depth + 1),
        [b'{', ..] => {
            let fields = observed.object.get_or_insert_default();
            // Past the bound the column becomes text in the end: enough was seen.
            if fields.fields.len() <= FIELDS_MAX {
                return object(fields, text, source, depth + 1);
            }
        }
        _ => observed.scalar(text::classify_number(text), text::is_wide(text), source),
    }
    Ok(())
}

fn list(observed: &mut Observed, text: &str, source: &str, depth: usize) -> serde_json::Result<()> {
    if depth > DEPTH_MAX {
        return Err(serde_json::Error::custom(format!("it nests deeper than {DEPTH_MAX}")));
    }
    let list = observed.list.get_or_insert_default();
    list.seen.add(source, 1);
    let items: Vec<&RawValue> = serde_json::from_str(text)?;
    items.into_iter().try_for_each(|item| value(&mut list.item, item.get(), source, depth))
}
