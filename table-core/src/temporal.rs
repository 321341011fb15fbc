//! Dates and timestamps as text: the forms that data files use.
//!
//! Invariant: what these functions accept names exactly one day or one microsecond; everything else is `None`.

use chrono::{Days, NaiveDate};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Days since 1970-01-01 of `YYYY-MM-DD`.
#[must_use]
pub fn parse_date(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = bytes else { return None };
    let year = digits(&[*y0, *y1, *y2, *y3])?;
    let (month, day) = (digits(&[*m0, *m1])?, digits(&[*d0, *d1])?);
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    days_since_epoch(date)
}

/// The text `YYYY-MM-DD` of a day, or `None` outside the years 0 to 9999.
#[must_use]
pub fn format_date(days: i32) -> Option<String> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let distance = Days::new(u64::from(days.unsigned_abs()));
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) }?;
    let text = date.to_string();
    (text.len() == 10).then_some(text)
}

/// Microseconds since 1970-01-01T00:00:00 UTC of `YYYY-MM-DD[ T]HH:MM:SS[.fraction][Z|+HH[[:]MM]]`. Text without a zone is
/// taken as UTC; digits past microseconds must be zeros, so that nothing is rounded away.
#[must_use]
pub fn parse_timestamp_micros(text: &str) -> Option<i64> {
    let days = parse_date(text.get(..10)?)?;
    let rest = text.get(10..)?;
    let clock = rest.strip_prefix(' ').or_else(|| rest.strip_prefix('T')).or_else(|| rest.strip_prefix('t'))?;
    let [h0, h1, b':', m0, m1, b':', s0, s1, ..] = clock.as_bytes() else { return None };
    let (hour, minute, second) = (digits(&[*h0, *h1])?, digits(&[*m0, *m1])?, digits(&[*s0, *s1])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, zone) = fraction(clock.get(8..)?)?;
    let local = i64::from(days) * SECONDS_PER_DAY + i64::from(hour * 3600 + minute * 60 + second);
    let seconds = local - offset_seconds(zone)?;
    seconds.checked_mul(MICROS_PER_SECOND)?.checked_add(micros)
}

fn days_since_epoch(date: NaiveDate) -> Option<i32> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    i32::try_from(date.signed_duration_since(epoch).num_days()).ok()
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// Microseconds of `.123456`, and what follows it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(after) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = after.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = after.split_at_checked(length)?;
    if digits.is_empty() || digits.bytes().skip(6).any(|digit| digit != b'0') {
        return None;
    }
    let micros = digits.bytes().chain(std::iter::repeat(b'0')).take(6);
    Some((micros.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')), zone))
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let (sign, digits_of) = match zone.as_bytes() {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match digits_of {
        [h0, h1] => (digits(&[*h0, *h1])?, 0),
        [h0, h1, m0, m1] | [h0, h1, b':', m0, m1] => (digits(&[*h0, *h1])?, digits(&[*m0, *m1])?),
        _ => return None,
    };
    (hours <= 14 && minutes <= 59).then(|| sign * i64::from(hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days_and_nothing_else_is_a_date() {
        assert_eq!(parse_date("1970-01-02"), Some(1));
        assert_eq!(parse_date("1969-12-31"), Some(-1));
        assert_eq!(format_date(-1).as_deref(), Some("1969-12-31"));
        for text in ["2024-02-30", "2024-1-1", "20240101", "2024-01-01 ", "+024-01-01", "२०२४-01-01"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn one_instant_has_many_spellings() {
        let noon = parse_timestamp_micros("2024-01-01 12:00:00");
        assert!(noon.is_some());
        for text in ["2024-01-01T12:00:00Z", "2024-01-01T14:30:00.000000000+02:30", "2024-01-01 04:00:00.0-0800"] {
            assert_eq!(parse_timestamp_micros(text), noon, "{text}");
        }
        for text in ["2024-01-01", "2024-01-01 24:00:00", "2024-01-01 12:00:00.0000001", "2024-01-01 12:00:00 PM"] {
            assert_eq!(parse_timestamp_micros(text), None, "{text}");
        }
    }
}
