//! What a set of values has shown about a column, and the type that holds them all.
//!
//! Invariant: an [`Observed`] is a tally of counts, sets and minima, so merging is commutative and associative: neither the
//! order of the files nor how the work is split changes the type. The type is drawn from the tally at the end, and holds
//! every value that was counted.

mod json;
mod resolve;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use text::{NULL_TOKENS, is_null_token};

use crate::{Error, ErrorKind, HiveType, Result};

/// The most distinct keys of one object, and columns of one table.
pub const FIELDS_MAX: usize = crate::COLUMNS_MAX;

/// How often something was seen, and in which source first by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seen {
    /// How many values.
    pub count: u64,
    /// The smallest name of a source that has one, whatever the order in which sources were read.
    pub first: String,
}

impl Seen {
    fn add(&mut self, source: &str, count: u64) {
        if count == 0 {
            return;
        }
        if self.count == 0 || source < self.first.as_str() {
            source.clone_into(&mut self.first);
        }
        self.count += count;
    }
}

/// What was seen of a column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    #[serde(skip_serializing_if = "is_zero")]
    nulls: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tokens: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    scalars: BTreeMap<HiveType, Seen>,
    /// Integers that a double does not hold exactly.
    #[serde(skip_serializing_if = "is_zero")]
    wide_integers: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<Box<ObservedList>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Box<ObservedFields>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map: Option<Box<ObservedMap>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ObservedList {
    seen: Seen,
    item: Observed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ObservedMap {
    seen: Seen,
    key: Observed,
    value: Observed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Observed {
    /// Counts a NULL.
    pub fn null(&mut self) {
        self.nulls += 1;
    }

    /// Counts one field of delimited text.
    pub fn text(&mut self, text: &str, source: &str) {
        if is_null_token(text) {
            *self.tokens.entry(text.to_owned()).or_default() += 1;
        } else {
            self.scalar(text::classify(text), text::is_wide(text), source);
        }
    }

    /// Counts `count` values of a declared type, such as a Parquet column's.
    pub fn declared(&mut self, hive_type: &HiveType, count: u64, source: &str) {
        match hive_type {
            HiveType::Array(item) => {
                let list = self.list.get_or_insert_default();
                list.seen.add(source, count);
                list.item.declared(item, count, source);
            }
            HiveType::Map(key, value) => {
                let map = self.map.get_or_insert_default();
                map.seen.add(source, count);
                map.key.declared(key, count, source);
                map.value.declared(value, count, source);
            }
            HiveType::Struct(fields) => {
                let object = self.object.get_or_insert_default();
                object.seen.add(source, count);
                for (index, (name, field)) in (0_u32..).zip(fields) {
                    object.field(name, index, source).declared(field, count, source);
                }
            }
            scalar => self.scalars.entry(scalar.clone()).or_default().add(source, count),
        }
    }

    fn scalar(&mut self, hive_type: HiveType, wide: bool, source: &str) {
        self.wide_integers += u64::from(wide);
        self.scalars.entry(hive_type).or_default().add(source, 1);
    }

    /// Adds what another tally has seen.
    pub fn merge(&mut self, other: Self) {
        self.nulls += other.nulls;
        self.wide_integers += other.wide_integers;
        for (token, count) in other.tokens {
            *self.tokens.entry(token).or_default() += count;
        }
        for (hive_type, seen) in other.scalars {
            self.scalars.entry(hive_type).or_default().add(&seen.first, seen.count);
        }
        if let Some(list) = other.list {
            let mine = self.list.get_or_insert_default();
            mine.seen.add(&list.seen.first, list.seen.count);
            mine.item.merge(list.item);
        }
        if let Some(map) = other.map {
            let mine = self.map.get_or_insert_default();
            mine.seen.add(&map.seen.first, map.seen.count);
            mine.key.merge(map.key);
            mine.value.merge(map.value);
        }
        if let Some(object) = other.object {
            self.object.get_or_insert_default().merge(*object);
        }
    }

    /// How many values were counted, NULLs and null tokens included.
    #[must_use]
    pub fn count(&self) -> u64 {
        let nested = [
            self.list.as_ref().map_or(0, |list| list.seen.count),
            self.map.as_ref().map_or(0, |map| map.seen.count),
            self.object.as_ref().map_or(0, |object| object.seen.count),
        ];
        let scalars: u64 = self.scalars.values().map(|seen| seen.count).sum();
        self.nulls + self.tokens.values().sum::<u64>() + scalars + nested.iter().sum::<u64>()
    }
}

/// What was seen of the columns of a table, or of the fields of an object. Names are lower-case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedFields {
    seen: Seen,
    fields: BTreeMap<String, ObservedField>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ObservedField {
    /// The smallest (source, index) at which it stood: what columns are ordered by.
    place: (String, u32),
    observed: Observed,
}

impl ObservedFields {
    /// Counts a row.
    pub fn row(&mut self, source: &str) {
        self.seen.add(source, 1);
    }

    /// Counts rows without looking at them.
    pub fn rows_of(&mut self, source: &str, rows: u64) {
        self.seen.add(source, rows);
    }

    /// The tally of a column that stands at `index` in `source`.
    pub fn field(&mut self, name: &str, index: u32, source: &str) -> &mut Observed {
        let lower = name.chars().any(char::is_uppercase).then(|| name.to_lowercase());
        let name = lower.as_deref().unwrap_or(name);
        let field = self
            .fields
            .entry(name.to_owned())
            .or_insert_with(|| ObservedField { place: (source.to_owned(), index), observed: Observed::default() });
        if (source, index) < (field.place.0.as_str(), field.place.1) {
            field.place = (source.to_owned(), index);
        }
        &mut field.observed
    }

    /// Counts one JSON object as a row.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the text is no JSON object, or nests too deep; `LimitExceeded` past [`FIELDS_MAX`] keys. What had been
    /// counted of the row stays counted, so count into a fresh tally if the row may be refused.
    pub fn json(&mut self, text: &str, source: &str) -> Result<()> {
        json::observe(self, text, source)?;
        self.check_width()
    }

    fn check_width(&self) -> Result<()> {
        if self.fields.len() > FIELDS_MAX {
            return Err(Error::new(ErrorKind::LimitExceeded, format!("an object has more than {FIELDS_MAX} keys")));
        }
        Ok(())
    }

    /// Adds what another tally has seen.
    pub fn merge(&mut self, other: Self) {
        self.seen.add(&other.seen.first, other.seen.count);
        for (name, field) in other.fields {
            match self.fields.get_mut(&name) {
                Some(mine) => {
                    mine.place = std::mem::take(&mut mine.place).min(field.place);
                    mine.observed.merge(field.observed);
                }
                None => {
                    self.fields.insert(name, field);
                }
            }
        }
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.seen.count
    }

    /// Names and tallies in the order of the columns: that of the source whose name is smallest, then what later sources add.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Observed)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by(|a, b| a.1.place.cmp(&b.1.place).then_with(|| a.0.cmp(b.0)));
        fields.into_iter().map(|(name, field)| (name.as_str(), &field.observed))
    }

    /// The tally of one column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Observed> {
        self.fields.get(name).map(|field| &field.observed)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::rows::Cell;

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?[0-9]{1,3}",
            "-?[1-9][0-9]{15,20}",
            "-?[0-9]{1,3}\\.[0-9]{1,3}",
            "-?[0-9]{0,9}\\.[0-9]{12,30}",
            "1e[0-9]{1,2}",
            "true|False",
            "NA||\\\\N",
            "202[0-9]-0[1-9]-1[0-9]",
            "2024-01-01[ T]1[0-9]:00:00(Z|\\+01:00)?",
            "[a-c]{1,2}",
            "0[0-9]{4}",
            " 7",
        ]
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "0|[1-9][0-9]{0,2}",
            "[1-9]{18,22}",
            "1\\.5",
            "-?0\\.[1-9]{12,24}",
            "true",
            "null",
            "\"[a-z]{0,2}\"",
            "\"2024-01-0[1-9]\""
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let object = prop::collection::vec(("[abC]", inner.clone()), 0..3).prop_map(|pairs| {
                format!("{{{}}}", pairs.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect::<Vec<_>>().join(","))
            });
            prop_oneof![prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))), object]
        })
    }

    fn tally(values: &[String], source: &str) -> Observed {
        values.iter().fold(Observed::default(), |mut observed, value| {
            observed.text(value, source);
            observed
        })
    }

    fn rows(values: &[String], source: &str) -> ObservedFields {
        values.iter().fold(ObservedFields::default(), |mut fields, value| {
            fields.json(&format!("{{\"v\":{value}}}"), source).unwrap();
            fields
        })
    }

    proptest! {
        #[test]
        fn merging_text_is_commutative_and_associative(a in prop::collection::vec(value(), 0..6), b in prop::collection::vec(value(), 0..6), c in prop::collection::vec(value(), 0..6)) {
            let [a, b, c] = [tally(&a, "a"), tally(&b, "b"), tally(&c, "c")];
            let join = |x: &Observed, y: &Observed| { let mut x = x.clone(); x.merge(y.clone()); x };
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        }

        #[test]
        fn merging_json_is_commutative_and_associative(a in prop::collection::vec(json(), 0..4), b in prop::collection::vec(json(), 0..4), c in prop::collection::vec(json(), 0..4)) {
            let [a, b, c] = [rows(&a, "a"), rows(&b, "b"), rows(&c, "c")];
            let join = |x: &ObservedFields, y: &ObservedFields| { let mut x = x.clone(); x.merge(y.clone()); x };
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &b).rows(), a.rows() + b.rows());
        }

        #[test]
        fn the_type_holds_every_value_that_was_seen(values in prop::collection::vec(value(), 1..12)) {
            let observed = tally(&values, "f");
            let hive_type = observed.hive_type();
            for value in &values {
                if hive_type.is_text() || !is_null_token(value) {
                    let cell = Cell::from_text(Cow::Borrowed(value.as_str()), &hive_type.to_arrow());
                    prop_assert!(cell.is_some(), "{value} as {hive_type}");
                }
            }
        }

        #[test]
        fn every_json_value_reads_back_as_the_type_found(values in prop::collection::vec(json(), 1..8)) {
            let fields = rows(&values, "f");
            let hive_type = fields.column("v").unwrap().hive_type();
            let schema = arrow::datatypes::Schema::new(vec![crate::Column::new("v", hive_type.clone()).to_field()]);
            let text: String = values.iter().map(|value| format!("{{\"v\":{value}}}\n")).collect();
            for decoded in crate::json::JsonReader::new(text.as_bytes(), "f", std::sync::Arc::new(schema)).unwrap() {
                let decoded = decoded.unwrap();
                prop_assert!(decoded.rejects.is_empty() && decoded.nulled.is_empty(), "{text} as {hive_type}: {decoded:?}");
            }
        }
    }

    #[test]
    fn types_are_the_narrowest_that_lose_nothing() {
        let cases: [(&[&str], &str); 21] = [
            (&["1", "2"], "bigint"),
            (&["1", "NA", ""], "bigint"),
            (&["1", "2.5"], "double"),
            (&["9007199254740993", "2.5"], "string"),
            (&["00501", "10001"], "string"),
            (&["1", "9223372036854775808"], "decimal(19,0)"),
            (&["2024-01-01"], "date"),
            (&["2024-01-01", "2024-01-03T10:00:00Z"], "timestamp"),
            (&["2024-01-01", "1"], "string"),
            (&["true", "FALSE"], "boolean"),
            (&["true", "1"], "string"),
            (&["NA", ""], "string"),
            (&["1.5", "x7"], "string"),
            (&["0", "-0.5", "1e3"], "double"),
            (&["0.1", "0.10000000000000001", "1.000000000000000056e-01"], "double"),
            (&["-0.1234567890123456789"], "decimal(19,19)"),
            (&["1234567890.12345678", "7"], "decimal(27,8)"),
            (&["1234567890.12345678", "1.5"], "string"),
            (&["1.2345678901234567899e3"], "string"),
            (&["1e-400"], "string"),
            (&["0.000", "-0.0"], "double"),
        ];
        for (values, expected) in cases {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            assert_eq!(tally(&values, "f").hive_type().to_string(), expected, "{values:?}");
        }
        let cases = [
            ("0.1234567890123456789", "decimal(19,19)"),
            ("[1234567890.12345678]", "array<decimal(18,8)>"),
            ("1234567890123456789012", "decimal(22,0)"),
            ("1e400", "string"),
            ("-0", "double"),
        ];
        for (value, expected) in cases {
            let fields = rows(&[value.to_owned()], "f");
            assert_eq!(fields.column("v").unwrap().hive_type().to_string(), expected, "{value}");
        }
    }

    #[test]
    fn a_row_that_nests_too_deep_is_refused() {
        let deep = format!("{{\"v\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(ObservedFields::default().json(&deep, "f").unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
