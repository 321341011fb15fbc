//! Which records have fields of the same names and types: of those, one tells what all need of a schema.
//!
//! Invariant: records of one signature make inference do the same; keys are this process's own, so that no sender can make two
//! kinds of records alike.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use ahash::{AHasher, RandomState};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Makes signatures; those of clones compare.
#[derive(Clone, Debug, Default)]
pub(super) struct Signatures(RandomState);

/// A signature under way.
pub(super) struct Signature(AHasher);

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Int,
    Large,
    Float,
    Text,
    List,
    Object,
    End,
}

impl Signatures {
    pub(super) fn begin(&self) -> Signature {
        Signature(self.0.build_hasher())
    }

    /// The signature of a record, if it is a JSON object.
    pub(super) fn of(&self, record: &[u8]) -> Option<u64> {
        let text = simdutf8::basic::from_utf8(record).ok()?;
        let mut signature = self.begin();
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(Members(&mut signature)).ok()?;
        json.end().ok()?;
        Some(signature.finish())
    }
}

impl Signature {
    pub(super) fn key(&mut self, name: &str) {
        self.0.write(name.as_bytes());
        // Names end: `ab`, `c` is not `a`, `bc`.
        self.0.write_u8(0xff);
    }

    pub(super) fn kind(&mut self, kind: Kind) {
        self.0.write_u8(kind as u8);
    }

    pub(super) fn finish(self) -> u64 {
        self.0.finish()
    }
}

/// Adds a value to a signature.
pub(super) struct Value<'a>(pub(super) &'a mut Signature);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.kind(Kind::Null);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.0.kind(Kind::Bool);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.kind(Kind::Int);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.kind(if i64::try_from(value).is_ok() { Kind::Int } else { Kind::Large });
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.kind(Kind::Float);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.0.kind(Kind::Text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.kind(Kind::List);
        while seq.next_element_seed(Value(&mut *self.0))?.is_some() {}
        self.0.kind(Kind::End);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.kind(Kind::Object);
        Members(&mut *self.0).visit_map(map)?;
        self.0.kind(Kind::End);
        Ok(())
    }
}

/// Adds the members of an object.
struct Members<'a>(&'a mut Signature);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Name(&mut *self.0))?.is_some() {
            map.next_value_seed(Value(&mut *self.0))?;
        }
        Ok(())
    }
}

struct Name<'a>(&'a mut Signature);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<(), E> {
        self.0.key(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_tells_names_and_types_and_no_values() {
        let signatures = Signatures::default();
        let of = |record: &str| signatures.of(record.as_bytes()).unwrap();
        assert_eq!(of(r#"{"a":1,"b":["x",{"c":true}]}"#), of(r#" {"a": -7, "b": ["yy", {"c": false}]}"#));
        let different = [
            r#"{"a":1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":"1"}"#,
            r#"{"a":null}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            r#"{"A":1}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"ab":1}"#,
            "{}",
        ];
        let distinct: std::collections::BTreeSet<_> = different.into_iter().map(of).collect();
        assert_eq!(distinct.len(), different.len());
        for broken in ["", "[1]", "{\"a\":1", "{\"a\":1}{}", "{\"a\":1e999}"] {
            assert_eq!(signatures.of(broken.as_bytes()), None, "{broken}");
        }
        assert_eq!(signatures.of(b"{\"a\":\"\xff\"}"), None);
    }
}
