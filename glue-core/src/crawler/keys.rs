//! The types of partition keys, by all their values.
//!
//! Invariant: a key has a type other than text only if every value reads as it and is written back the same: `01` stays text,
//! so that `month=01` and `month=1` stay two partitions with two values.

use table_core::HiveType;
use table_core::temporal::{format_date, parse_date};

/// The type, and why in words.
pub(super) fn key_type<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> (HiveType, String) {
    let values = values.flatten();
    if values.clone().next().is_none() {
        return (HiveType::String, "no value but NULL".to_owned());
    }
    let first_not = |holds: fn(&str) -> bool| values.clone().find(|text| !holds(text));
    let Some(no_integer) = first_not(is_integer) else {
        let int = first_not(|text| text.parse::<i32>().is_ok()).is_none();
        let hive_type = if int { HiveType::Int } else { HiveType::BigInt };
        return (hive_type, "every value is an integer, written as one".to_owned());
    };
    match first_not(is_date) {
        None => (HiveType::Date, "every value is a date".to_owned()),
        Some(no_date) => (HiveType::String, format!("\"{no_integer}\" is no plain integer and \"{no_date}\" no date")),
    }
}

fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|value| value.to_string() == text)
}

fn is_date(text: &str) -> bool {
    parse_date(text).and_then(format_date).is_some_and(|date| date == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_given_only_if_it_keeps_every_value() {
        let cases: [(&[Option<&str>], HiveType); 6] = [
            (&[Some("1"), Some("12")], HiveType::Int),
            (&[Some("1"), Some("01")], HiveType::String),
            (&[Some("2024"), None], HiveType::Int),
            (&[Some("20240101000000")], HiveType::BigInt),
            (&[Some("2024-01-01"), None], HiveType::Date),
            (&[None], HiveType::String),
        ];
        for (values, expected) in cases {
            assert_eq!(key_type(values.iter().copied()).0, expected, "{values:?}");
        }
    }
}
