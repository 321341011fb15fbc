//! Where the schema of Parquet files comes from: given, fetched, or inferred from the records and then kept.
//!
//! The first buffer decides: whole and other numbers together are floating point, other mixtures are text, objects and
//! lists are taken member by member, what was only ever null has no column yet. A later buffer only widens: a new field
//! becomes a new nullable column behind the others, and whole numbers become floating point. Records that do not fit
//! are put aside; files written before a widening keep their types. Names are matched without regard to case.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::Result;

/// Columns and fields below them that are inferred; records with more are put aside at conversion.
const FIELDS_MAX: usize = 4_096;

/// Fetches a schema.
type Fetch = Arc<dyn Fn() -> BoxFuture<'static, Result<SchemaRef>> + Send + Sync>;

/// Where the schema of Parquet files comes from.
#[derive(Clone)]
pub struct SchemaSource(pub(super) Kind);

#[derive(Clone)]
pub(super) enum Kind {
    Inferred,
    Fixed(SchemaRef),
    Function(Fetch),
}

impl SchemaSource {
    /// From the first buffer; kept with the delivery stream's state, and widened when a later buffer needs it.
    #[must_use]
    pub fn inferred() -> Self {
        Self(Kind::Inferred)
    }

    /// This one. Fields of a record that it does not have are left out of the file.
    #[must_use]
    pub fn fixed(schema: SchemaRef) -> Self {
        Self(Kind::Fixed(schema))
    }

    /// From a function, a catalog's newest table version for instance; called once for each round of sealing.
    pub fn function<F, R>(fetch: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SchemaRef>> + Send + 'static,
    {
        Self(Kind::Function(Arc::new(move || fetch().boxed())))
    }
}

impl Default for SchemaSource {
    fn default() -> Self {
        Self::inferred()
    }
}

impl fmt::Debug for SchemaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Inferred => f.write_str("Inferred"),
            Kind::Fixed(schema) => f.debug_tuple("Fixed").field(schema).finish(),
            Kind::Function(_) => f.write_str("Function"),
        }
    }
}

/// What was seen of a value.
#[derive(Clone, Debug, Default, PartialEq)]
enum Shape {
    #[default]
    Null,
    Bool,
    Int,
    Float,
    Text,
    List(Box<Shape>),
    Object(Object),
}

/// Fields in the order in which they were seen first.
#[derive(Clone, Debug, Default, PartialEq)]
struct Object {
    fields: Vec<(String, Shape)>,
}

/// The schema of the JSON objects in `records`, or `known` as far as they may widen it. Records that are no JSON objects
/// are passed over, fields named in `omitted` too.
pub(super) fn infer<'a>(
    known: Option<&Schema>,
    records: impl IntoIterator<Item = &'a [u8]>,
    omitted: &[String],
) -> Schema {
    let mut shape = Object::default();
    let mut budget = FIELDS_MAX;
    for record in records {
        // A broken record must leave no trace, so it is read in full before it counts.
        if !is_object(record) {
            continue;
        }
        let mut json = serde_json::Deserializer::from_slice(record);
        let _ = ObjectSeed { object: &mut shape, budget: &mut budget, omitted }.deserialize(&mut json);
    }
    match known {
        None => Schema::new(to_fields(&shape)),
        Some(known) => Schema::new_with_metadata(widen(known.fields(), shape), known.metadata().clone()),
    }
}

/// `known` with new fields, and with floating point where whole numbers are no longer enough.
fn widen(known: &Fields, mut seen: Object) -> Fields {
    let mut fields: Vec<_> = known.iter().cloned().collect();
    for field in &mut fields {
        let Some(at) = seen.position(field.name()) else { continue };
        let (_, shape) = seen.fields.remove(at);
        let data_type = widen_type(field.data_type(), shape);
        if data_type != *field.data_type() {
            *field = Arc::new(field.as_ref().clone().with_data_type(data_type));
        }
    }
    fields.into_iter().chain(to_fields(&seen).iter().cloned()).collect()
}

fn widen_type(known: &DataType, seen: Shape) -> DataType {
    match (known, seen) {
        (DataType::Int64, Shape::Float) => DataType::Float64,
        (DataType::Struct(fields), Shape::Object(object)) => DataType::Struct(widen(fields, object)),
        (DataType::List(item), Shape::List(seen)) => {
            let data_type = widen_type(item.data_type(), *seen);
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(data_type)))
        }
        _ => known.clone(),
    }
}

/// Whether these bytes are one JSON object.
pub(super) fn is_object(record: &[u8]) -> bool {
    record.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
        && serde_json::from_slice::<serde::de::IgnoredAny>(record).is_ok()
}

/// Columns of what was seen; what was only ever null has no type yet and no column.
fn to_fields(object: &Object) -> Fields {
    let field = |(name, shape): &(String, Shape)| Some(Field::new(name, to_type(shape)?, true));
    object.fields.iter().filter_map(field).collect()
}

fn to_type(shape: &Shape) -> Option<DataType> {
    match shape {
        Shape::Null => None,
        Shape::Bool => Some(DataType::Boolean),
        Shape::Int => Some(DataType::Int64),
        Shape::Float => Some(DataType::Float64),
        Shape::Text => Some(DataType::Utf8),
        Shape::List(item) => Some(DataType::List(Arc::new(Field::new_list_field(to_type(item)?, true)))),
        // Parquet has no group without members.
        Shape::Object(object) => Some(to_fields(object)).filter(|fields| !fields.is_empty()).map(DataType::Struct),
    }
}

impl Object {
    fn position(&self, name: &str) -> Option<usize> {
        let exact = self.fields.iter().position(|(field, _)| field == name);
        exact.or_else(|| {
            let lower = name.to_lowercase();
            self.fields.iter().position(|(field, _)| field.to_lowercase() == lower)
        })
    }
}

impl Shape {
    /// Widens to a scalar of this shape.
    fn see(&mut self, seen: Self) {
        *self = match (std::mem::take(self), seen) {
            (Self::Null, seen) => seen,
            (kept, Self::Null) => kept,
            (kept, seen) if kept == seen => kept,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            _ => Self::Text,
        };
    }
}

struct ObjectSeed<'a> {
    object: &'a mut Object,
    budget: &'a mut usize,
    omitted: &'a [String],
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut next = 0;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.omitted.iter().any(|omitted| *omitted == name) {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            // Records of one kind have their fields in one order: the next is mostly right behind the last.
            let at = match self.object.fields.get(next) {
                Some((field, _)) if *field == name => Some(next),
                _ => self.object.position(&name),
            };
            let fields = &mut self.object.fields;
            let at = match at {
                Some(at) => at,
                None if *self.budget == 0 => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    continue;
                }
                None => {
                    *self.budget -= 1;
                    fields.push((name.into_owned(), Shape::Null));
                    fields.len() - 1
                }
            };
            next = at + 1;
            if let Some((_, shape)) = fields.get_mut(at) {
                map.next_value_seed(ShapeSeed { shape, budget: self.budget })?;
            }
        }
        Ok(())
    }
}

struct ShapeSeed<'a> {
    shape: &'a mut Shape,
    budget: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.shape.see(Shape::Bool);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.shape.see(Shape::Int);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.shape.see(if i64::try_from(value).is_ok() { Shape::Int } else { Shape::Float });
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.shape.see(Shape::Float);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.shape.see(Shape::Text);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut item = match std::mem::take(self.shape) {
            Shape::List(item) => item,
            Shape::Null => Box::default(),
            _ => {
                // Another kind than before: both are text, this one as JSON; its members must still be read.
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                *self.shape = Shape::Text;
                return Ok(());
            }
        };
        while seq.next_element_seed(ShapeSeed { shape: &mut item, budget: self.budget })?.is_some() {}
        *self.shape = Shape::List(item);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut object = match std::mem::take(self.shape) {
            Shape::Object(object) => object,
            Shape::Null => Object::default(),
            _ => {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                *self.shape = Shape::Text;
                return Ok(());
            }
        };
        ObjectSeed { object: &mut object, budget: self.budget, omitted: &[] }.visit_map(map)?;
        *self.shape = Shape::Object(object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(records: &[&str], expected: &str) -> Schema {
        let schema = infer(None, records.iter().map(|record| record.as_bytes()), &["day".to_owned()]);
        let text = schema.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type()));
        assert_eq!(text.collect::<Vec<_>>().join(", "), expected, "{records:?}");
        schema
    }

    #[test]
    fn columns_come_in_the_order_in_which_they_were_seen() {
        check(
            &[r#"{"b": 1, "day": 3, "a": "x"}"#, r#"{"a": null, "c": true, "b": 2}"#],
            "b: Int64, a: Utf8, c: Boolean",
        );
    }

    #[test]
    fn mixtures_find_a_common_type_whatever_the_order() {
        let cases = [
            (["1", "1.5"], "a: Float64"),
            (["1", "\"x\""], "a: Utf8"),
            (["true", "1"], "a: Utf8"),
            (["{\"b\": 1}", "7"], "a: Utf8"),
            (["[1]", "{}"], "a: Utf8"),
            (["[]", "[1, 2.5]"], "a: List(Float64)"),
            (["null", "18446744073709551615"], "a: Float64"),
            (["null", "null"], ""),
        ];
        for ([first, second], expected) in cases {
            let (first, second) = (format!("{{\"a\": {first}}}"), format!("{{\"A\": {second}}}"));
            check(&[&first, &second], expected);
            check(&[&second, &first], &expected.replace('a', "A").replace("FloA", "Floa"));
        }
    }

    #[test]
    fn records_that_are_no_objects_leave_no_trace() {
        check(&["[1]", r#"{"b": 1, "c": "#, "7", "", r#"{"a": 1}"#], "a: Int64");
    }

    #[test]
    fn what_is_known_only_widens() {
        let known =
            check(&[r#"{"a": 1, "b": {"c": [1]}, "d": 1}"#], "a: Int64, b: Struct(\"c\": List(Int64)), d: Int64");
        let records = [r#"{"e": 1, "b": {"f": "x", "C": [1.5]}, "a": "n/a", "d": 2.5}"#.as_bytes()];
        let wider = infer(Some(&known), records, &[]);
        let types: Vec<_> = wider.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["Int64", "Struct(\"c\": List(Float64), \"f\": Utf8)", "Float64", "Int64"]);
        assert_eq!(infer(Some(&wider), records, &[]), wider);
    }
}
