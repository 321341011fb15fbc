//! From a tally to a type: the narrowest that holds all that was seen, and the words that say why.
//!
//! Invariant: the answer depends on the set of types seen, not on their order; types that share no wider type but text
//! become `string`.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Observed, ObservedFields, Seen};
use crate::{Column, DECIMAL_PRECISION_MAX, HiveType};

/// How deep inferred types nest; what is deeper is kept as text.
const DEPTH_MAX: usize = 16;

impl ObservedFields {
    /// The columns that hold all that was seen, in order.
    #[must_use]
    pub fn to_columns(&self) -> Vec<Column> {
        self.columns().map(|(name, observed)| Column::new(name, observed.hive_type())).collect()
    }

    /// The null tokens that stand in columns which are no text.
    #[must_use]
    pub fn null_tokens(&self) -> BTreeSet<String> {
        let typed = self.columns().filter(|(_, observed)| !observed.hive_type().is_text());
        typed.flat_map(|(_, observed)| observed.tokens.keys().cloned()).collect()
    }
}

impl Observed {
    /// The narrowest type that holds every value seen; `string` if there was none.
    #[must_use]
    pub fn hive_type(&self) -> HiveType {
        self.at_depth(0)
    }

    fn at_depth(&self, depth: usize) -> HiveType {
        let kinds = [!self.scalars.is_empty(), self.list.is_some(), self.map.is_some(), self.object.is_some()];
        if kinds.into_iter().filter(|kind| *kind).count() != 1 || depth >= DEPTH_MAX {
            return HiveType::String;
        }
        if let Some(list) = &self.list {
            return HiveType::Array(Box::new(list.item.at_depth(depth + 1)));
        }
        if let Some(map) = &self.map {
            let key = map.key.at_depth(depth + 1);
            let key = if key.is_nested() { HiveType::String } else { key };
            return HiveType::Map(Box::new(key), Box::new(map.value.at_depth(depth + 1)));
        }
        if let Some(object) = &self.object {
            let fields = object.columns().map(|(name, observed)| (name.to_owned(), observed.at_depth(depth + 1)));
            let fields: Vec<_> = fields.collect();
            // A struct without fields can be neither stored nor read.
            let bounded = !fields.is_empty() && fields.len() <= super::FIELDS_MAX;
            return if bounded { HiveType::Struct(fields) } else { HiveType::String };
        }
        self.scalar_type()
    }

    fn scalar_type(&self) -> HiveType {
        let types: Vec<&HiveType> = self.scalars.keys().collect();
        match types.as_slice() {
            [] => HiveType::String,
            [only] => (*only).clone(),
            [HiveType::Date, HiveType::Timestamp] => HiveType::Timestamp,
            several if several.iter().all(|hive_type| is_number(hive_type)) => self.widest_number(several),
            _ => HiveType::String,
        }
    }

    fn widest_number(&self, types: &[&HiveType]) -> HiveType {
        let real = types.iter().any(|hive_type| matches!(hive_type, HiveType::Float | HiveType::Double));
        if real {
            let float_holds =
                |hive_type: &&HiveType| matches!(hive_type, HiveType::TinyInt | HiveType::SmallInt | HiveType::Float);
            let lossy =
                types.iter().any(|hive_type| matches!(hive_type, HiveType::Decimal(precision, _) if *precision > 15));
            return if lossy || self.wide_integers > 0 {
                HiveType::String
            } else if types.iter().all(float_holds) {
                HiveType::Float
            } else {
                HiveType::Double
            };
        }
        if !types.iter().any(|hive_type| matches!(hive_type, HiveType::Decimal(..))) {
            let order = [HiveType::TinyInt, HiveType::SmallInt, HiveType::Int, HiveType::BigInt];
            let widest = order.into_iter().rfind(|hive_type| types.contains(&hive_type));
            return widest.unwrap_or(HiveType::BigInt);
        }
        let whole = types.iter().map(|hive_type| decimal_shape(hive_type).0).max().unwrap_or(0);
        let scale = types.iter().map(|hive_type| decimal_shape(hive_type).1).max().unwrap_or(0);
        match i8::try_from(scale) {
            Ok(signed) if whole + scale <= DECIMAL_PRECISION_MAX => HiveType::Decimal(whole + scale, signed),
            _ => HiveType::String,
        }
    }

    /// What was seen and in which source first, in words: `bigint 80x (first in a.csv), string 20x (first in b.csv)`.
    #[must_use]
    pub fn evidence(&self) -> String {
        let mut words = String::new();
        let mut say = |what: &str, seen: &Seen| {
            let comma = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{comma}{what} {}x (first in {})", seen.count, seen.first);
        };
        for (hive_type, seen) in &self.scalars {
            say(&hive_type.to_string(), seen);
        }
        if let Some(list) = &self.list {
            say("array", &list.seen);
        }
        if let Some(map) = &self.map {
            say("map", &map.seen);
        }
        if let Some(object) = &self.object {
            say("struct", &object.seen);
        }
        let nulls = self.nulls + self.tokens.values().sum::<u64>();
        if nulls > 0 {
            let comma = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{comma}null {nulls}x");
        }
        words
    }

    /// Whether values of several types were seen, so that the column is wider than some of its values.
    #[must_use]
    pub fn is_widened(&self) -> bool {
        let nested = [self.list.is_some(), self.map.is_some(), self.object.is_some()];
        self.scalars.len() + nested.into_iter().filter(|kind| *kind).count() > 1
    }
}

fn is_number(hive_type: &HiveType) -> bool {
    decimal_shape(hive_type) != (0, 0) || matches!(hive_type, HiveType::Float | HiveType::Double)
}

/// Digits before and after the point; zeros for what is no exact number.
fn decimal_shape(hive_type: &HiveType) -> (u8, u8) {
    match hive_type {
        HiveType::TinyInt => (3, 0),
        HiveType::SmallInt => (5, 0),
        HiveType::Int => (10, 0),
        HiveType::BigInt => (19, 0),
        HiveType::Decimal(precision, scale) => {
            let scale = u8::try_from(*scale).unwrap_or(0);
            (precision.saturating_sub(scale), scale)
        }
        _ => (0, 0),
    }
}
