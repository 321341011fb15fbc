//! Athena's text form of a value and the columns it announces.
//!
//! Invariant: these are the bytes that a client of the service parses; a form is never changed to look nicer.
//! Source of the forms: the service's `GetQueryResults`, as its Python clients expect them.

use std::fmt::Write;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One column of a result, as the service describes it. `Nullable` is always unknown, so it is not repeated here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnInfo {
    /// The column's label.
    pub name: String,
    /// The service's type name, such as `varchar`, `integer` or `timestamp with time zone`.
    pub type_name: String,
    /// The service's precision: digits, or the length of a text.
    pub precision: u32,
    /// Digits after the point of a decimal, else 0.
    pub scale: u32,
}

impl ColumnInfo {
    pub(crate) fn of(field: &Field) -> Self {
        let (type_name, precision, scale) = announced(field.data_type());
        Self { name: field.name().clone(), type_name: type_name.to_owned(), precision, scale }
    }
}

fn announced(data_type: &DataType) -> (&'static str, u32, u32) {
    match data_type {
        DataType::Boolean => ("boolean", 0, 0),
        DataType::Int8 => ("tinyint", 3, 0),
        DataType::Int16 | DataType::UInt8 => ("smallint", 5, 0),
        DataType::Int32 | DataType::UInt16 => ("integer", 10, 0),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => ("bigint", 19, 0),
        DataType::Float16 | DataType::Float32 => ("float", 17, 0),
        DataType::Float64 => ("double", 17, 0),
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => ("decimal", u32::from(*p), u32::try_from(*s).unwrap_or(0)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ("varchar", 2_147_483_647, 0),
        DataType::Date32 | DataType::Date64 => ("date", 0, 0),
        DataType::Timestamp(_, None) => ("timestamp", 3, 0),
        DataType::Timestamp(_, Some(_)) => ("timestamp with time zone", 3, 0),
        DataType::Time32(_) | DataType::Time64(_) => ("time", 3, 0),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            ("varbinary", 1_073_741_824, 0)
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => ("array", 0, 0),
        DataType::Map(..) => ("map", 0, 0),
        DataType::Struct(_) => ("row", 0, 0),
        DataType::Interval(IntervalUnit::YearMonth) => ("interval year to month", 0, 0),
        DataType::Interval(_) | DataType::Duration(_) => ("interval day to second", 0, 0),
        DataType::Dictionary(_, value) => announced(value),
        DataType::RunEndEncoded(_, value) => announced(value.data_type()),
        DataType::Null | DataType::Union(..) => ("unknown", 0, 0),
    }
}

/// Writes the text of one value; nothing, and `false`, for NULL.
///
/// # Errors
/// A value that has no text form (a union, a date outside chrono's range) is refused.
pub(crate) fn write_value(array: &dyn Array, row: usize, out: &mut String) -> Result<bool> {
    if array.is_null(row) {
        return Ok(false);
    }
    match array.data_type() {
        DataType::Null => return Ok(false),
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => number::<Int8Type>(array, row, out),
        DataType::Int16 => number::<Int16Type>(array, row, out),
        DataType::Int32 => number::<Int32Type>(array, row, out),
        DataType::Int64 => number::<Int64Type>(array, row, out),
        DataType::UInt8 => number::<UInt8Type>(array, row, out),
        DataType::UInt16 => number::<UInt16Type>(array, row, out),
        DataType::UInt32 => number::<UInt32Type>(array, row, out),
        DataType::UInt64 => number::<UInt64Type>(array, row, out),
        DataType::Float16 => float(f64::from(array.as_primitive::<Float16Type>().value(row)), out),
        DataType::Float32 => real(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.push_str(array.as_string_view().value(row)),
        DataType::Binary => hex(array.as_binary::<i32>().value(row), out),
        DataType::LargeBinary => hex(array.as_binary::<i64>().value(row), out),
        DataType::BinaryView => hex(array.as_binary_view().value(row), out),
        DataType::FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row), out),
        DataType::Decimal32(..) => out.push_str(&array.as_primitive::<Decimal32Type>().value_as_string(row)),
        DataType::Decimal64(..) => out.push_str(&array.as_primitive::<Decimal64Type>().value_as_string(row)),
        DataType::Decimal128(..) => out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Decimal256(..) => out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Dictionary(..) => return dictionary(array, row, out),
        DataType::List(_) => return list(&array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => return list(&array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => return list(&array.as_fixed_size_list().value(row), out),
        DataType::Map(..) => return map(&array.as_map().value(row), out),
        DataType::Struct(_) => return record(array, row, out),
        _ => return write_time(array, row, out),
    }
    Ok(true)
}

fn write_time(array: &dyn Array, row: usize, out: &mut String) -> Result<bool> {
    match array.data_type() {
        DataType::Date32 => date(i64::from(array.as_primitive::<Date32Type>().value(row)), out)?,
        DataType::Date64 => date(array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000), out)?,
        DataType::Timestamp(unit, zone) => {
            let at = match unit {
                TimeUnit::Second => instant(native::<TimestampSecondType>(array, row), 1),
                TimeUnit::Millisecond => instant(native::<TimestampMillisecondType>(array, row), 1_000),
                TimeUnit::Microsecond => instant(native::<TimestampMicrosecondType>(array, row), 1_000_000),
                TimeUnit::Nanosecond => instant(native::<TimestampNanosecondType>(array, row), 1_000_000_000),
            };
            timestamp(
                at.ok_or_else(|| Error::invalid("a timestamp lies outside the years that can be written"))?,
                zone.as_deref(),
                out,
            )?;
        }
        DataType::Time32(TimeUnit::Second) => clock_time(native::<Time32SecondType>(array, row) * 1_000, out),
        DataType::Time32(_) => clock_time(native::<Time32MillisecondType>(array, row), out),
        DataType::Time64(TimeUnit::Nanosecond) => {
            clock_time(native::<Time64NanosecondType>(array, row) / 1_000_000, out);
        }
        DataType::Time64(_) => clock_time(native::<Time64MicrosecondType>(array, row) / 1_000, out),
        DataType::Duration(unit) => {
            let millis = match unit {
                TimeUnit::Second => native::<DurationSecondType>(array, row).saturating_mul(1_000),
                TimeUnit::Millisecond => native::<DurationMillisecondType>(array, row),
                TimeUnit::Microsecond => native::<DurationMicrosecondType>(array, row) / 1_000,
                TimeUnit::Nanosecond => native::<DurationNanosecondType>(array, row) / 1_000_000,
            };
            day_to_second(millis, out);
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            year_to_month(array.as_primitive::<IntervalYearMonthType>().value(row), out);
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            day_to_second(i64::from(value.days) * 86_400_000 + i64::from(value.milliseconds), out);
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            let millis = i64::from(value.days) * 86_400_000 + value.nanoseconds / 1_000_000;
            if value.months != 0 {
                year_to_month(value.months, out);
            }
            if value.months != 0 && millis != 0 {
                out.push(' ');
            }
            if value.months == 0 || millis != 0 {
                day_to_second(millis, out);
            }
        }
        other => return Err(Error::invalid(format!("a value of type {other} has no text form; cast it to varchar"))),
    }
    Ok(true)
}

/// The value as a 64-bit number; every type this is called with is at most that wide.
fn native<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> i64
where
    T::Native: Into<i64>,
{
    array.as_primitive::<T>().value(row).into()
}

fn number<T: ArrowPrimitiveType>(array: &dyn Array, row: usize, out: &mut String)
where
    T::Native: std::fmt::Display,
{
    // Writing to a string cannot fail.
    let _ = write!(out, "{}", array.as_primitive::<T>().value(row));
}

/// Java's `Double.toString`: always a fraction, an exponent outside [1e-3, 1e7).
fn float(value: f64, out: &mut String) {
    let magnitude = value.abs();
    if value.is_nan() || value.is_infinite() {
        out.push_str(special(value.is_nan(), value > 0.0));
    } else if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        let _ = write!(out, "{value:?}");
    } else {
        scientific(&format!("{value:E}"), out);
    }
}

/// Java's `Float.toString`, by the same rule.
fn real(value: f32, out: &mut String) {
    let magnitude = value.abs();
    if value.is_nan() || value.is_infinite() {
        out.push_str(special(value.is_nan(), value > 0.0));
    } else if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        let _ = write!(out, "{value:?}");
    } else {
        scientific(&format!("{value:E}"), out);
    }
}

fn special(nan: bool, positive: bool) -> &'static str {
    match (nan, positive) {
        (true, _) => "NaN",
        (false, true) => "Infinity",
        (false, false) => "-Infinity",
    }
}

/// Rust writes `1E10` where Java writes `1.0E10`.
fn scientific(text: &str, out: &mut String) {
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            let _ = write!(out, "{mantissa}.0E{exponent}");
        }
        _ => out.push_str(text),
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    for (at, byte) in bytes.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        let _ = write!(out, "{space}{byte:02x}");
    }
}

fn date(days: i64, out: &mut String) -> Result<()> {
    let date = i32::try_from(days)
        .ok()
        .and_then(NaiveDate::from_epoch_days)
        .ok_or_else(|| Error::invalid(format!("day {days} since 1970 lies outside the years that can be written")))?;
    let _ = write!(out, "{}", date.format("%Y-%m-%d"));
    Ok(())
}

fn instant(value: i64, per_second: i64) -> Option<DateTime<Utc>> {
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    DateTime::from_timestamp(value.div_euclid(per_second), u32::try_from(nanos).ok()?)
}

fn timestamp(at: DateTime<Utc>, zone: Option<&str>, out: &mut String) -> Result<()> {
    const FORM: &str = "%Y-%m-%d %H:%M:%S%.3f";
    match zone {
        None => {
            let _ = write!(out, "{}", at.format(FORM));
        }
        Some("UTC" | "+00:00" | "Z" | "Etc/UTC") => {
            let _ = write!(out, "{} UTC", at.format(FORM));
        }
        Some(name) => {
            let zone: Tz = name.parse()?;
            let _ = write!(out, "{} {name}", zone.from_utc_datetime(&at.naive_utc()).format(FORM));
        }
    }
    Ok(())
}

fn clock_time(millis: i64, out: &mut String) {
    let (seconds, millis) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    let _ = write!(out, "{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

fn day_to_second(millis: i64, out: &mut String) {
    let sign = if millis < 0 { "-" } else { "" };
    let millis = millis.unsigned_abs();
    let seconds = millis / 1_000;
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let _ = write!(out, "{sign}{} {hours:02}:{minutes:02}:{:02}.{:03}", seconds / 86_400, seconds % 60, millis % 1_000);
}

fn year_to_month(months: i32, out: &mut String) {
    let sign = if months < 0 { "-" } else { "" };
    let months = months.unsigned_abs();
    let _ = write!(out, "{sign}{}-{}", months / 12, months % 12);
}

/// The batch with dictionaries at the top unpacked, so that no value has to be looked up in one.
///
/// # Errors
/// As arrow's cast, which this never meets.
pub(crate) fn unpacked(batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let unpack = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(_, value) => Ok(cast(column, value)?),
        _ => Ok(ArrayRef::clone(column)),
    };
    batch.columns().iter().map(unpack).collect()
}

/// A dictionary inside a nested value, where it is short.
fn dictionary(array: &dyn Array, row: usize, out: &mut String) -> Result<bool> {
    let dictionary = array.as_any_dictionary();
    let key = dictionary.normalized_keys().get(row).copied().unwrap_or_default();
    write_value(dictionary.values().as_ref(), key, out)
}

/// An element inside a nested value; NULL shows as `null` there.
fn element(array: &dyn Array, row: usize, out: &mut String) -> Result<()> {
    if !write_value(array, row, out)? {
        out.push_str("null");
    }
    Ok(())
}

fn list(values: &dyn Array, out: &mut String) -> Result<bool> {
    out.push('[');
    for at in 0..values.len() {
        if at > 0 {
            out.push_str(", ");
        }
        element(values, at, out)?;
    }
    out.push(']');
    Ok(true)
}

fn map(entries: &arrow::array::StructArray, out: &mut String) -> Result<bool> {
    out.push('{');
    for at in 0..entries.len() {
        if at > 0 {
            out.push_str(", ");
        }
        element(entries.column(0).as_ref(), at, out)?;
        out.push('=');
        element(entries.column(1).as_ref(), at, out)?;
    }
    out.push('}');
    Ok(true)
}

fn record(array: &dyn Array, row: usize, out: &mut String) -> Result<bool> {
    let record = array.as_struct();
    out.push('{');
    for (at, (field, column)) in record.fields().iter().zip(record.columns()).enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        out.push_str(field.name());
        out.push('=');
        element(column.as_ref(), row, out)?;
    }
    out.push('}');
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut out = String::new();
        float(value, &mut out);
        out
    }

    #[test]
    fn doubles_read_as_java_writes_them() {
        let forms = [0.5, 1.0, 1e7, 1e10, 9_999_999.0, 1e-3, 9.5e-4, -1.5e300, -0.0, f64::NAN, f64::NEG_INFINITY];
        let written: Vec<_> = forms.into_iter().map(double).collect();
        let expected =
            ["0.5", "1.0", "1.0E7", "1.0E10", "9999999.0", "0.001", "9.5E-4", "-1.5E300", "-0.0", "NaN", "-Infinity"];
        assert_eq!(written, expected);
    }

    #[test]
    fn intervals_read_as_trino_writes_them() {
        let mut out = String::new();
        day_to_second(93_784_005, &mut out);
        out.push('|');
        year_to_month(-14, &mut out);
        assert_eq!(out, "1 02:03:04.005|-1-2");
    }
}
