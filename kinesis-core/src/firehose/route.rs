//! Which partition a record belongs to, by top-level fields of its JSON or a query over it, and by keys of the transform.
//!
//! Pure: the same record and settings give the same route.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error_output::Failure;
use super::event::PartitionKeys;
use super::place::Part;
use super::prefix::Prefix;
use super::query::Query;
use super::signature::{self, Kind, Signature, Signatures};
use super::transform::{Kept, Transformed};
use crate::read::Record;

/// A record with its destination.
#[derive(Clone, Debug)]
pub(super) struct Routed {
    pub(super) record: Record,
    pub(super) part: Part,
    /// The payload to deliver; of a failed record the one it came with.
    pub(super) data: Bytes,
    pub(super) route: Route,
    /// Of the payload, if the schema is inferred and it is JSON.
    pub(super) signature: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Partition(PartitionKeys),
    Failed(Failure),
    Dropped,
}

/// Finds routes.
#[derive(Clone, Debug)]
pub(super) struct Router {
    /// Top-level fields, or keys of the query.
    fields: Vec<String>,
    query: Option<Query>,
    lambda_keys: Vec<String>,
    prefix: Prefix,
    signatures: Option<Signatures>,
}

/// Keys and values that were seen, so that the records of a partition share one allocation.
type Seen = HashMap<Vec<String>, Result<PartitionKeys, Failure>>;

impl Router {
    /// Partitions by the keys that `prefix` names: fields of the record, or what `query` makes of it.
    pub(super) fn new(query: Option<Query>, prefix: &Prefix, signatures: Option<Signatures>) -> Self {
        let owned = |keys: BTreeSet<&str>| keys.into_iter().map(str::to_owned).collect();
        let (fields, lambda_keys) = (owned(prefix.query_keys()), owned(prefix.lambda_keys()));
        Self { fields, query, lambda_keys, prefix: prefix.clone(), signatures }
    }

    /// The route of each record, in order.
    pub(super) fn route(&self, records: Vec<Transformed>) -> Vec<Routed> {
        let mut seen = Seen::new();
        records.into_iter().map(|record| self.route_one(record, &mut seen)).collect()
    }

    fn route_one(&self, Transformed { record, part, result }: Transformed, seen: &mut Seen) -> Routed {
        let raw = record.data.clone();
        let (data, route, signature) = match result {
            Err(failure) => (raw, Route::Failed(failure), None),
            Ok(Kept::Dropped) => (raw, Route::Dropped, None),
            Ok(Kept::Data { data, partition_keys }) => match self.keys(&data, &partition_keys, seen) {
                Ok((keys, signature)) => (data, Route::Partition(keys), signature),
                Err(failure) => (raw, Route::Failed(failure), None),
            },
        };
        Routed { record, part, data, route, signature }
    }

    fn keys(
        &self,
        data: &[u8],
        given: &BTreeMap<String, String>,
        seen: &mut Seen,
    ) -> Result<(PartitionKeys, Option<u64>), Failure> {
        let (mut values, signature) = match &self.query {
            Some(query) => (self.queried(query, data).map_err(Failure::partition_keys)?, self.sign(data)),
            None if self.fields.is_empty() => (Vec::new(), self.sign(data)),
            None => {
                let mut signature = self.signatures.as_ref().map(Signatures::begin);
                let values = top_level(data, &self.fields, signature.as_mut()).map_err(Failure::partition_keys)?;
                (values, signature.map(Signature::finish))
            }
        };
        for key in &self.lambda_keys {
            let value = given.get(key).filter(|value| !value.is_empty());
            let missing = || Failure::partition_keys(format!("the transform gave no value for partition key '{key}'"));
            values.push(value.ok_or_else(missing)?.clone());
        }
        if let Some(keys) = seen.get(&values) {
            return keys.clone().map(|keys| (keys, signature));
        }
        let names = self.fields.iter().chain(&self.lambda_keys);
        let keys = PartitionKeys::new(names.zip(&values));
        let keys = match self.prefix.refusal(&keys) {
            Some(why) => Err(Failure::partition_keys(why)),
            None => Ok(keys),
        };
        seen.insert(values, keys.clone());
        keys.map(|keys| (keys, signature))
    }

    fn sign(&self, data: &[u8]) -> Option<u64> {
        self.signatures.as_ref().and_then(|signatures| signatures.of(data))
    }

    fn queried(&self, query: &Query, data: &[u8]) -> Result<Vec<String>, String> {
        let mut keys = query.keys(data)?;
        let value = |key: &String| keys.remove(key).ok_or_else(|| format!("the partition query gave no key '{key}'"));
        self.fields.iter().map(value).collect()
    }
}

/// The scalars that `fields` have at the top level of the JSON object in `data`, as text. Adds all of the object to `signature`.
fn top_level(data: &[u8], fields: &[String], signature: Option<&mut Signature>) -> Result<Vec<String>, String> {
    let data = simdutf8::compat::from_utf8(data).map_err(|error| format!("the record is no JSON object: {error}"))?;
    let mut values = vec![Value::Missing; fields.len()];
    let mut json = serde_json::Deserializer::from_str(data);
    let read = Object { fields, values: &mut values, signature }.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| format!("the record is no JSON object: {error}"))?;
    let text = |(value, field): (Value, &String)| match value {
        Value::Text(text) if !text.is_empty() => Ok(text),
        Value::Nested => Err(format!("partition field '{field}' is an object or an array")),
        Value::Missing | Value::Text(_) => Err(format!("partition field '{field}' is missing, null or empty")),
    };
    values.into_iter().zip(fields).map(text).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Missing,
    Text(String),
    Nested,
}

struct Object<'a> {
    fields: &'a [String],
    values: &'a mut [Value],
    signature: Option<&'a mut Signature>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(at) = map.next_key_seed(Key { fields: self.fields, signature: self.signature.as_deref_mut() })? {
            let signature = self.signature.as_deref_mut();
            match (at.and_then(|at| self.values.get_mut(at)), signature) {
                (Some(value), signature) => *value = map.next_value_seed(Scalar { signature })?,
                (None, Some(signature)) => map.next_value_seed(signature::Value(signature))?,
                (None, None) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A field's name, as its place among the wanted ones.
struct Key<'a> {
    fields: &'a [String],
    signature: Option<&'a mut Signature>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        if let Some(signature) = self.signature {
            signature.key(name);
        }
        Ok(self.fields.iter().position(|field| field == name))
    }
}

/// A value as text, if it is a scalar.
struct Scalar<'a> {
    signature: Option<&'a mut Signature>,
}

impl Scalar<'_> {
    fn sign(self, kind: Kind) {
        if let Some(signature) = self.signature {
            signature.kind(kind);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Scalar<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        self.sign(Kind::Bool);
        Ok(Value::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        self.sign(Kind::Int);
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        self.sign(if i64::try_from(value).is_ok() { Kind::Int } else { Kind::Large });
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.sign(Kind::Float);
        if value.is_finite() { Ok(Value::Text(value.to_string())) } else { Err(E::custom("a number out of range")) }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        self.sign(Kind::Text);
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        self.sign(Kind::Null);
        Ok(Value::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        // It is put aside: its signature does not matter.
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Nested)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &str, expected: Result<&[&str], &str>) {
        let fields = ["month".to_owned(), "day".to_owned()];
        match (top_level(data.as_bytes(), &fields, None), expected) {
            (Ok(values), Ok(expected)) => assert_eq!(values, expected, "{data}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{data}: {reason}"),
            (found, expected) => panic!("{data}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn scalars_at_the_top_level_are_keys() {
        check(r#"{"month": 1, "x": {"day": 7}, "day": "02"}"#, Ok(&["1", "02"]));
        check(r#"{"day": true, "month": -1.5}"#, Ok(&["-1.5", "true"]));
        check(r#"{"day": "a\"b", "month": "\u00e9"}"#, Ok(&["é", "a\"b"]));
    }

    #[test]
    fn everything_else_is_a_failure_with_its_reason() {
        check(r#"{"month": 1}"#, Err("'day' is missing"));
        check(r#"{"month": 1, "day": null}"#, Err("'day' is missing"));
        check(r#"{"month": "", "day": 1}"#, Err("'month' is missing"));
        check(r#"{"month": [1], "day": {}}"#, Err("'month' is an object or an array"));
        check(r#"{"month": 1, "day": 2"#, Err("no JSON object"));
        check(r#"{"month": 1, "day": 2} {}"#, Err("trailing characters"));
        check("[1]", Err("no JSON object"));
        check("", Err("no JSON object"));
    }
}
