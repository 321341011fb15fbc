//! One typed value of a partition key, ordered as SQL compares it.
//!
//! Invariant: values of one column are all of one variant, so that their order is the column type's order.

use std::cmp::Ordering;

use crate::temporal::{format_date, parse_date, parse_timestamp_micros};
use crate::{Error, HiveType, Result};

/// A value of a partition key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scalar {
    /// Of `boolean`.
    Boolean(bool),
    /// Of `tinyint`, `smallint`, `int`, `bigint`.
    Int(i64),
    /// Of `float` and `double`.
    Real(Real),
    /// Of `decimal`: the unscaled value at the column's own scale.
    Decimal(i128),
    /// Of `date`: days since 1970-01-01.
    Date(i32),
    /// Of `timestamp`: microseconds since 1970-01-01T00:00:00.
    Timestamp(i64),
    /// Of `string`, `varchar`, `char`; ordered by bytes.
    Text(String),
}

/// A floating-point number in IEEE 754's total order.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Scalar {
    /// Reads a partition's text as a value of a type. `01` is the `int` 1; the text itself stays the partition's identity.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the text is no value of the type, or the type cannot be a partition key.
    pub fn parse(text: &str, hive_type: &HiveType) -> Result<Self> {
        let value = match hive_type {
            HiveType::Boolean => parse_boolean(text).map(Self::Boolean),
            HiveType::TinyInt => integer::<i8>(text),
            HiveType::SmallInt => integer::<i16>(text),
            HiveType::Int => integer::<i32>(text),
            HiveType::BigInt => integer::<i64>(text),
            HiveType::Float => text.parse::<f32>().ok().map(|real| Self::Real(Real(f64::from(real)))),
            HiveType::Double => text.parse().ok().map(|real| Self::Real(Real(real))),
            HiveType::Decimal(precision, scale) => parse_decimal(text, *precision, *scale).map(Self::Decimal),
            HiveType::Date => parse_date(text).map(Self::Date),
            HiveType::Timestamp => parse_partition_timestamp(text).map(Self::Timestamp),
            HiveType::String | HiveType::Varchar(_) | HiveType::Char(_) => Some(Self::Text(text.to_owned())),
            HiveType::Binary | HiveType::Array(_) | HiveType::Map(..) | HiveType::Struct(_) => None,
        };
        value.ok_or_else(|| Error::invalid(format!("partition value \"{text}\" is no {hive_type}")))
    }

    /// The shortest text that parses to the value, as Hive would name the folder; decimals are unscaled integers.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Real(value) => value.0.to_string(),
            Self::Decimal(unscaled) => unscaled.to_string(),
            Self::Date(days) => format_date(*days).unwrap_or_else(|| days.to_string()),
            Self::Timestamp(micros) => chrono::DateTime::from_timestamp_micros(*micros)
                .map_or_else(|| micros.to_string(), |at| at.format("%Y-%m-%d %H:%M:%S%.f").to_string()),
            Self::Text(text) => text.clone(),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "TRUE" | "True" => Some(true),
        "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn integer<T: std::str::FromStr + Into<i64>>(text: &str) -> Option<Scalar> {
    text.parse::<T>().ok().map(|value| Scalar::Int(value.into()))
}

/// Partition folders also name a midnight by its date alone.
fn parse_partition_timestamp(text: &str) -> Option<i64> {
    parse_timestamp_micros(text).or_else(|| parse_date(text).map(|days| i64::from(days) * 86_400_000_000))
}

/// The unscaled value of plain decimal text, exactly: `None` if a digit would be lost.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let scale = usize::try_from(scale).ok()?;
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let plain =
        !(whole.is_empty() && digits.len() < 2) && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !plain || fraction.len() > scale {
        return None;
    }
    let zeros = std::iter::repeat_n(b'0', scale - fraction.len());
    let unscaled = whole
        .bytes()
        .chain(fraction.bytes())
        .chain(zeros)
        .try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit - b'0')))?;
    let fits = unscaled < 10_i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -unscaled } else { unscaled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_by_type_or_refused() {
        assert_eq!(Scalar::parse("01", &HiveType::Int).unwrap(), Scalar::Int(1));
        assert_eq!(Scalar::parse("-1.50", &HiveType::Decimal(5, 2)).unwrap(), Scalar::Decimal(-150));
        assert_eq!(
            Scalar::parse("2024-01-01", &HiveType::Timestamp).unwrap(),
            Scalar::Timestamp(1_704_067_200_000_000)
        );
        for (text, hive_type) in [
            ("128", HiveType::TinyInt),
            ("1.234", HiveType::Decimal(5, 2)),
            (".", HiveType::Decimal(5, 2)),
            ("", HiveType::Decimal(5, 2)),
            ("1000", HiveType::Decimal(5, 2)),
            ("yes", HiveType::Boolean),
            ("2024-1-1", HiveType::Date),
        ] {
            assert!(Scalar::parse(text, &hive_type).is_err(), "{text} as {hive_type}");
        }
    }
}
