//! What one piece of text is, by itself.
//!
//! Invariant: text is given a type only if reading it as that type loses nothing that its writer meant: `007`, `+1` and
//! `-0` stay text, and a fraction of more digits than a double holds is a decimal.

use crate::HiveType;
use crate::temporal::{parse_date, parse_timestamp_micros};

/// Texts that mean NULL in a column whose other values are no text.
pub const NULL_TOKENS: [&str; 12] =
    ["", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "Null", "None", "\\N", "NaN", "nan"];

/// Whether text may mean NULL.
#[must_use]
pub fn is_null_token(text: &str) -> bool {
    text.len() <= 4 && NULL_TOKENS.contains(&text)
}

/// The narrowest type of a text; `string` if it is nothing else.
pub(super) fn classify(text: &str) -> HiveType {
    let trimmed = text.trim();
    match trimmed.as_bytes() {
        [b'0'..=b'9' | b'-' | b'.', ..] => number(trimmed).or_else(|| moment(trimmed)),
        [b't' | b'T' | b'f' | b'F', ..] => boolean(trimmed),
        _ => None,
    }
    .unwrap_or(HiveType::String)
}

/// The type of a text that its format marks as text: a date or a timestamp, or a string.
pub(super) fn classify_quoted(text: &str) -> HiveType {
    moment(text).unwrap_or(HiveType::String)
}

/// The type of a number of JSON, whose `-0` is a number like any other.
pub(super) fn classify_number(text: &str) -> HiveType {
    if text == "-0" { HiveType::Double } else { number(text).unwrap_or(HiveType::String) }
}

/// Whether it is an integer that a double does not hold exactly.
pub(super) fn is_wide(text: &str) -> bool {
    text.trim().parse::<i64>().is_ok_and(|value| value.unsigned_abs() > 1 << 53)
}

fn boolean(text: &str) -> Option<HiveType> {
    (text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")).then_some(HiveType::Boolean)
}

fn moment(text: &str) -> Option<HiveType> {
    if parse_date(text).is_some() {
        Some(HiveType::Date)
    } else {
        parse_timestamp_micros(text).map(|_| HiveType::Timestamp)
    }
}

fn number(text: &str) -> Option<HiveType> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = digits.bytes().take_while(u8::is_ascii_digit).count();
    if whole > 1 && digits.starts_with('0') {
        return None;
    }
    if whole == digits.len() { integer(text, whole) } else { real(digits.get(whole..)?, whole, text) }
}

fn integer(text: &str, digits: usize) -> Option<HiveType> {
    if digits == 0 || text == "-0" {
        None
    } else if text.parse::<i64>().is_ok() {
        Some(HiveType::BigInt)
    } else {
        decimal(digits, 0)
    }
}

fn decimal(whole: usize, scale: usize) -> Option<HiveType> {
    let precision = u8::try_from(whole + scale).ok()?;
    let scale = i8::try_from(scale).ok()?;
    (precision <= crate::DECIMAL_PRECISION_MAX).then_some(HiveType::Decimal(precision, scale))
}

/// `.5`, `1.5`, `1e3`, but not `1.` or `.`; what a double does not hold is a decimal, or else text.
fn real(rest: &str, whole: usize, text: &str) -> Option<HiveType> {
    let (fraction, exponent) =
        rest.split_once(['e', 'E']).map_or((rest, None), |(fraction, exponent)| (fraction, Some(exponent)));
    let fraction_ok = match fraction.strip_prefix('.') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => fraction.is_empty() && whole > 0,
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !fraction_ok || !exponent_ok {
        return None;
    }
    if double_holds(text) {
        return Some(HiveType::Double);
    }
    let zero_before = text.trim_start_matches('-').starts_with("0.");
    if exponent.is_none() { decimal(if zero_before { 0 } else { whole }, fraction.len() - 1) } else { None }
}

/// Whether a double, written with as many digits, is the number again.
fn double_holds(text: &str) -> bool {
    // Any number of so few digits comes back from a double; none of more than so many is one.
    const DIGITS_SAFE: usize = 15;
    const DIGITS_MAX: usize = 767;
    let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()).map(f64::abs) else { return false };
    let digits = |text: &str| {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        digits.trim_start_matches('0').to_owned()
    };
    let meant = digits(text);
    if meant.is_empty() || (meant.len() <= DIGITS_SAFE && value >= f64::MIN_POSITIVE) {
        return true;
    }
    meant.len() <= DIGITS_MAX && digits(&format!("{value:.*e}", meant.len() - 1)) == meant
}
