//! One value on its way from text to a column, already of the column's type.
//!
//! Invariant: a cell made for an Arrow type fits it, so that appending it cannot fail.

use std::borrow::Cow;

use arrow::datatypes::{DataType, TimeUnit};

use crate::partition::parse_decimal;
use crate::temporal::{parse_date, parse_timestamp_micros};

/// A value of a known Arrow type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Boolean(bool),
    /// Integers, dates in days, timestamps in the column's unit.
    Int(i64),
    Real(f64),
    /// Unscaled.
    Decimal(i128),
    Text(Cow<'a, str>),
    List(Vec<Cell<'a>>),
    Struct(Vec<Cell<'a>>),
    Map(Vec<(Cell<'a>, Cell<'a>)>),
}

impl<'a> Cell<'a> {
    /// Text as a value of a type, or `None` if it is none. Blanks around what is not text do not matter.
    pub(crate) fn from_text(text: Cow<'a, str>, data_type: &DataType) -> Option<Self> {
        if matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary) {
            return Some(Self::Text(text));
        }
        let text = text.trim();
        match data_type {
            DataType::Boolean => boolean(text).map(Self::Boolean),
            DataType::Date32 => parse_date(text).map(|days| Self::Int(i64::from(days))),
            DataType::Timestamp(unit, _) => timestamp(text, *unit).map(Self::Int),
            _ => Self::from_number(text, data_type),
        }
    }

    /// A number's text as a value of a numeric type.
    pub(crate) fn from_number(text: &str, data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Float32 => finite(text.parse::<f32>().ok().map(f64::from)),
            DataType::Float64 => finite(text.parse().ok()),
            DataType::Decimal128(precision, scale) => parse_decimal(text, *precision, *scale).map(Self::Decimal),
            DataType::Int8 => within(text, i64::from(i8::MIN), i64::from(i8::MAX)),
            DataType::Int16 => within(text, i64::from(i16::MIN), i64::from(i16::MAX)),
            DataType::Int32 => within(text, i64::from(i32::MIN), i64::from(i32::MAX)),
            DataType::Int64 => within(text, i64::MIN, i64::MAX),
            DataType::UInt8 => within(text, 0, i64::from(u8::MAX)),
            DataType::UInt16 => within(text, 0, i64::from(u16::MAX)),
            DataType::UInt32 => within(text, 0, i64::from(u32::MAX)),
            _ => None,
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// Text that overflows is no value: `1e999` is not infinity.
fn finite(real: Option<f64>) -> Option<Cell<'static>> {
    real.filter(|real| real.is_finite()).map(Cell::Real)
}

fn within(text: &str, low: i64, high: i64) -> Option<Cell<'static>> {
    let value = text.parse::<i64>().ok().or_else(|| whole(text))?;
    (low..=high).contains(&value).then_some(Cell::Int(value))
}

/// `12.0` and `1e3` are whole numbers too, as long as a double holds them exactly.
fn whole(text: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !text.contains(['.', 'e', 'E']) {
        return None;
    }
    let real: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    let value = real as i64;
    (real.fract() == 0.0 && real.abs() < EXACT).then_some(value)
}

/// A bare date is its midnight, so that a column of dates and timestamps loses nothing.
fn timestamp(text: &str, unit: TimeUnit) -> Option<i64> {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let midnight = || parse_date(text).map(|days| i64::from(days) * MICROS_PER_DAY);
    let micros = parse_timestamp_micros(text).or_else(midnight)?;
    match unit {
        TimeUnit::Second => (micros % 1_000_000 == 0).then_some(micros / 1_000_000),
        TimeUnit::Millisecond => (micros % 1_000 == 0).then_some(micros / 1_000),
        TimeUnit::Microsecond => Some(micros),
        TimeUnit::Nanosecond => micros.checked_mul(1_000),
    }
}
