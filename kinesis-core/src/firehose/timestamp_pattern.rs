//! The pattern letters of Java's `DateTimeFormatter`, as `!{timestamp:...}` takes them.
//!
//! A pattern is parsed once; what it cannot express is refused then, so that rendering never fails.

use std::fmt::Write;

use chrono::{DateTime, Datelike, Offset, Timelike};
use chrono_tz::Tz;

use crate::{Error, ErrorKind, Result};

/// Longest run of one letter, as in Java.
const RUN_MAX: usize = 19;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimestampPattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field { letter: char, count: usize },
}

impl TimestampPattern {
    /// Parses `yyyy/MM/dd`, `'year='yyyy` and the like.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a letter that has no meaning here, a run of more than 19, or an open quote.
    pub(super) fn parse(pattern: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\'' => push_literal(&mut parts, &quoted(&mut chars, pattern)?),
                '[' | ']' | '{' | '}' | '#' => return Err(refused(pattern, c, "is reserved: put it in single quotes")),
                letter if letter.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                    check(letter, count, pattern)?;
                    parts.push(Part::Field { letter, count });
                }
                other => push_literal(&mut parts, other.encode_utf8(&mut [0; 4])),
            }
        }
        if parts.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "an empty timestamp pattern: write for example yyyy/MM/dd",
            ));
        }
        Ok(Self { parts })
    }

    /// The text of `instant`.
    pub(super) fn render(&self, instant: DateTime<Tz>, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Field { letter, count } => field(*letter, *count, instant, out),
            }
        }
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Literal(last)) => last.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

/// What stands between quotes; two quotes in a row are one quote.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, pattern: &str) -> Result<String> {
    if chars.next_if_eq(&'\'').is_some() {
        return Ok("'".to_owned());
    }
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c != '\'' {
            text.push(c);
        } else if chars.next_if_eq(&'\'').is_some() {
            text.push('\'');
        } else {
            return Ok(text);
        }
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("timestamp pattern '{pattern}' has a quote that is never closed")))
}

/// How often a letter may stand in a row.
fn check(letter: char, count: usize, pattern: &str) -> Result<()> {
    let most = match letter {
        'y' | 'u' | 'Y' => RUN_MAX,
        'M' | 'L' | 'E' | 'Q' | 'q' => 4,
        'd' | 'H' | 'k' | 'K' | 'h' | 'm' | 's' | 'w' | 'V' => 2,
        'D' => 3,
        'S' => 9,
        'a' | 'e' => 1,
        'X' | 'x' => 5,
        'Z' | 'z' => 3,
        'n' | 'N' | 'A' => RUN_MAX,
        _ => return Err(refused(pattern, letter, "is no pattern letter known here: put text in single quotes")),
    };
    if count > most || (letter == 'V' && count != 2) {
        return Err(refused(pattern, letter, &format!("stands {count} times in a row, at most {most} are possible")));
    }
    Ok(())
}

fn refused(pattern: &str, c: char, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("timestamp pattern '{pattern}': '{c}' {why}"))
}

fn field(letter: char, count: usize, at: DateTime<Tz>, out: &mut String) {
    let written = match letter {
        'y' | 'u' => year(at.year(), count, out),
        'Y' => year(at.iso_week().year(), count, out),
        'w' => number(at.iso_week().week(), count, out),
        'M' | 'L' => month(at, count, out),
        'Q' | 'q' => quarter(at.month0() / 3 + 1, count, out),
        'd' => number(at.day(), count, out),
        'D' => number(at.ordinal(), count, out),
        'E' => weekday(at, count, out),
        'e' => number(at.weekday().number_from_monday(), count, out),
        'a' => write!(out, "{}", if at.hour() < 12 { "AM" } else { "PM" }),
        'H' => number(at.hour(), count, out),
        'k' => number((at.hour() + 23) % 24 + 1, count, out),
        'K' => number(at.hour() % 12, count, out),
        'h' => number(at.hour12().1, count, out),
        'm' => number(at.minute(), count, out),
        's' => number(at.second(), count, out),
        'S' => write!(out, "{}", &format!("{:09}", nanos(at))[..count]),
        'n' => number(nanos(at), count, out),
        'N' => number(u64::from(at.num_seconds_from_midnight()) * 1_000_000_000 + u64::from(nanos(at)), count, out),
        'A' => number(at.num_seconds_from_midnight() * 1_000 + nanos(at) / 1_000_000, count, out),
        'X' if at.offset().fix().local_minus_utc() == 0 => write!(out, "Z"),
        'X' | 'x' => offset(at, count, out),
        'Z' => offset(at, 2, out),
        'z' => write!(out, "{}", at.format("%Z")),
        // `VV`; parsing refused everything else.
        _ => write!(out, "{}", at.timezone().name()),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

/// How far the zone is from UTC: `+HH`, with minutes if there are any, for one letter; `+HHmm` for 2 and 4, `+HH:mm` for 3 and
/// 5, of which 4 and 5 have seconds if there are any.
fn offset(at: DateTime<Tz>, count: usize, out: &mut String) -> std::fmt::Result {
    let seconds = at.offset().fix().local_minus_utc();
    let (sign, rest) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    let colon = if matches!(count, 3 | 5) { ":" } else { "" };
    write!(out, "{sign}{hours:02}")?;
    if count > 1 || minutes > 0 {
        write!(out, "{colon}{minutes:02}")?;
    }
    if count > 3 && seconds > 0 {
        write!(out, "{colon}{seconds:02}")?;
    }
    Ok(())
}

/// Nanoseconds within the second; a leap second counts as its last nanosecond.
fn nanos(at: DateTime<Tz>) -> u32 {
    at.nanosecond().min(999_999_999)
}

fn number(value: impl std::fmt::Display, width: usize, out: &mut String) -> std::fmt::Result {
    write!(out, "{value:0>width$}")
}

fn year(year: i32, count: usize, out: &mut String) -> std::fmt::Result {
    if count == 2 { write!(out, "{:02}", year.rem_euclid(100)) } else { write!(out, "{year:0count$}") }
}

fn month(at: DateTime<Tz>, count: usize, out: &mut String) -> std::fmt::Result {
    let name = MONTHS[at.month0() as usize];
    match count {
        1 | 2 => number(at.month(), count, out),
        3 => write!(out, "{}", &name[..3]),
        _ => write!(out, "{name}"),
    }
}

fn quarter(quarter: u32, count: usize, out: &mut String) -> std::fmt::Result {
    match count {
        1 | 2 => number(quarter, count, out),
        3 => write!(out, "Q{quarter}"),
        _ => write!(out, "{} quarter", ["1st", "2nd", "3rd", "4th"][quarter as usize - 1]),
    }
}

fn weekday(at: DateTime<Tz>, count: usize, out: &mut String) -> std::fmt::Result {
    write!(out, "{}", at.format(if count == 4 { "%A" } else { "%a" }))
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};

    use super::*;

    fn check(pattern: &str, expected: &str) {
        check_in(Tz::UTC, pattern, expected);
    }

    fn check_in(zone: Tz, pattern: &str, expected: &str) {
        let instant = Utc.with_ymd_and_hms(2018, 8, 27, 0, 5, 9).unwrap() + chrono::TimeDelta::microseconds(1_250);
        let instant = instant.with_timezone(&zone);
        let mut out = String::new();
        TimestampPattern::parse(pattern).unwrap().render(instant, &mut out);
        assert_eq!(out, expected, "{pattern}");
    }

    #[test]
    fn letters_mean_what_they_mean_in_java() {
        check("yyyy/MM/dd/HH", "2018/08/27/00");
        check("yy-M-d", "18-8-27");
        check("'year='yyyy'/month='MM'/hour='HH", "year=2018/month=08/hour=00");
        check("h:k:K a", "12:24:0 AM");
        check("EEE EEEE MMM MMMM", "Mon Monday Aug August");
        check("D DDD e Q QQQ QQQQ", "239 239 1 3 Q3 3rd quarter");
        check("ss.SSS SSSSSS", "09.001 001250");
        check("XXX xxx Z VV", "Z +00:00 +0000 UTC");
        check("YYYY-'W'ww", "2018-W35");
        check("hh 'o''clock' ''", "12 o'clock '");
        check("A", "309001");
    }

    #[test]
    fn zones_shift_the_time_and_tell_how_far() {
        check_in(Tz::Asia__Tokyo, "yyyy-MM-dd HH:mm XXX X Z VV z", "2018-08-27 09:05 +09:00 +09 +0900 Asia/Tokyo JST");
        check_in(Tz::America__New_York, "dd HH x XXXX z", "26 20 -04 -0400 EDT");
        check_in(Tz::Asia__Kolkata, "HH:mm X xx xxxxx", "05:35 +0530 +0530 +05:30");
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for pattern in ["", "yyyy'open", "bb", "MMMMM", "dd[HH]", "V", "zzzz", "SSSSSSSSSS"] {
            let error = TimestampPattern::parse(pattern).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{pattern}");
        }
    }
}
