//! What a column holds, decided over the whole input, and each value as that.
//!
//! Invariant: joining kinds is commutative, associative and only widens, so that the order of files and rows does not matter.
//! A value is never changed by its kind: digits that a number would not give back as written (`007`, 20 digits) stay text.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

/// Integers beyond this magnitude (2^53) are not exact as a double, so that their column cannot become one.
const EXACT_IN_DOUBLE: u64 = 1 << 53;

/// One value as the file gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Missing, empty, `NA` or JSON's null.
    Null,
    /// The text of a delimited field: its kind is to be found out.
    Written(String),
    /// A JSON value: it says what it is.
    Typed(Value),
}

impl Cell {
    /// A JSON value as it is written. A number is what its text is in a delimited file, so that digits which a number would not
    /// give back stay text (and a double is the nearest, which serde_json's own is not always); nested JSON is its text.
    ///
    /// # Errors
    /// A text with an escape that is no character.
    pub(super) fn of_json(json: &RawValue) -> serde_json::Result<Self> {
        let text = json.get();
        let value = match text.as_bytes().first() {
            Some(b'{' | b'[') => Value::from(text),
            Some(b'-' | b'0'..=b'9') => Kind::of_text(text).of_written(text),
            _ => serde_json::from_str(text)?,
        };
        Ok(if value.is_null() { Self::Null } else { Self::Typed(value) })
    }
}

/// What all values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `true` and `false`.
    Boolean,
    /// 64-bit integers, all of them exact as doubles.
    Integer,
    /// 64-bit integers, some of them too large to be exact as doubles.
    LongInteger,
    /// Doubles, written with a point, an exponent or as integers.
    Double,
    /// Anything else, and every mixture; nested JSON stands as its text.
    Text,
}

impl Kind {
    /// The kind of one value; `None` for null, which fits every kind.
    #[must_use]
    pub fn of(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Null | Cell::Typed(Value::Null) => None,
            Cell::Written(text) => Some(Self::of_text(text)),
            Cell::Typed(Value::Bool(_)) => Some(Self::Boolean),
            Cell::Typed(Value::Number(number)) => Some(Self::of_number(number)),
            Cell::Typed(_) => Some(Self::Text),
        }
    }

    fn of_text(text: &str) -> Self {
        if text == "true" || text == "false" {
            return Self::Boolean;
        }
        if let Ok(integer) = text.parse::<i64>() {
            // `007` and `+1` would come back as `7` and `1`.
            return if integer.to_string() == text { Self::of_integer(integer) } else { Self::Text };
        }
        if is_decimal(text) { Self::Double } else { Self::Text }
    }

    fn of_number(number: &Number) -> Self {
        match number.as_i64() {
            Some(integer) => Self::of_integer(integer),
            None if number.is_u64() => Self::Text,
            None => Self::Double,
        }
    }

    fn of_integer(integer: i64) -> Self {
        if integer.unsigned_abs() <= EXACT_IN_DOUBLE { Self::Integer } else { Self::LongInteger }
    }

    /// The narrowest kind that holds the values of both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Integer, Self::LongInteger) | (Self::LongInteger, Self::Integer) => Self::LongInteger,
            (Self::Integer, Self::Double) | (Self::Double, Self::Integer) => Self::Double,
            _ => Self::Text,
        }
    }

    /// The value as this kind, or the reason why it is not one.
    ///
    /// # Errors
    /// The value is not of this kind, which happens only where the kind was decided over other data.
    pub fn convert(self, cell: &Cell) -> Result<Value, String> {
        let Some(found) = Self::of(cell) else { return Ok(Value::Null) };
        // Both kinds of integer are stored alike.
        let fits = found.join(self) == self || (self == Self::Integer && found == Self::LongInteger);
        if !fits {
            return Err(format!("{} is not {}", shown(cell), self.described()));
        }
        Ok(match cell {
            Cell::Null => Value::Null,
            Cell::Written(text) => self.of_written(text),
            Cell::Typed(Value::String(text)) => Value::String(text.clone()),
            Cell::Typed(value) if self == Self::Text => Value::String(value.to_string()),
            Cell::Typed(Value::Number(number)) if self == Self::Double => {
                number.as_f64().map_or(Value::Null, Value::from)
            }
            Cell::Typed(value) => value.clone(),
        })
    }

    fn of_written(self, text: &str) -> Value {
        match self {
            Self::Boolean => Value::Bool(text == "true"),
            Self::Integer | Self::LongInteger => text.parse::<i64>().map_or(Value::Null, Value::from),
            Self::Double => text.parse::<f64>().map_or(Value::Null, Value::from),
            Self::Text => Value::from(text),
        }
    }

    /// In words, with its article.
    #[must_use]
    pub fn described(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Integer | Self::LongInteger => "an integer",
            Self::Double => "a number",
            Self::Text => "a text",
        }
    }
}

/// Whether the text is a finite decimal number as people and JSON write one: no leading zeros, no `inf`, no `1.`.
fn is_decimal(text: &str) -> bool {
    let number = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
    // A 20-digit id is digits only: as a double it would lose its end.
    let has_point = text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    number && has_point && serde_json::from_str::<f64>(text).is_ok_and(f64::is_finite)
}

fn shown(cell: &Cell) -> String {
    let text = match cell {
        Cell::Null => "null".to_owned(),
        Cell::Written(text) => text.clone(),
        Cell::Typed(value) => value.to_string(),
    };
    format!("`{}`", text.chars().take(60).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Kind {
        Kind::of(&Cell::Written(text.to_owned())).unwrap()
    }

    #[test]
    fn digits_that_a_number_would_not_give_back_stay_text() {
        for text in ["007", "+1", "-0", "12345678901234567890", "00.5", "1.", ".5", "inf", "NaN", "1e999", "0x10", "1 "]
        {
            assert_eq!(written(text), Kind::Text, "{text}");
        }
        assert_eq!(written("-12"), Kind::Integer);
        assert_eq!(written("9007199254740993"), Kind::LongInteger);
        assert_eq!(written("-1.50"), Kind::Double);
        assert_eq!(written("1e3"), Kind::Double);
        assert_eq!(written("true"), Kind::Boolean);
    }

    #[test]
    fn json_is_not_changed_by_being_read() {
        let read = |json: &str| Cell::of_json(serde_json::from_str(json).unwrap()).unwrap();
        for text in [
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890",
            "1e999",
            r#"{"b": 18446744073709551616, "a": [1.10], "a": 2}"#,
        ] {
            let cell = read(text);
            assert_eq!(Kind::of(&cell), Some(Kind::Text), "{text}");
            assert_eq!(Kind::Text.convert(&cell).unwrap(), Value::from(text));
        }
        assert_eq!(read("9223372036854775807"), Cell::Typed(Value::from(i64::MAX)));
        assert_eq!(read("-9223372036854775808"), Cell::Typed(Value::from(i64::MIN)));
        // serde_json by itself reads the double beside the nearest one.
        assert_eq!(read("11.495639322887863"), Cell::Typed(Value::from(11.495_639_322_887_863)));
        assert_eq!(read("-1.50"), Cell::Typed(Value::from(-1.5)));
        assert_eq!(read("true"), Cell::Typed(Value::from(true)));
        assert_eq!(read(r#""\u00e9""#), Cell::Typed(Value::from("é")));
        assert_eq!(read("null"), Cell::Null);
    }

    #[test]
    fn joining_is_commutative_associative_and_widens() {
        let all = [Kind::Boolean, Kind::Integer, Kind::LongInteger, Kind::Double, Kind::Text];
        for a in all {
            for b in all {
                assert_eq!(a.join(b), b.join(a));
                assert_eq!(a.join(b).join(a), a.join(b), "{a:?} {b:?}");
                for c in all {
                    assert_eq!(a.join(b).join(c), a.join(b.join(c)), "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn a_value_of_a_wider_kind_is_refused_with_its_text() {
        let refused = Kind::Integer.convert(&Cell::Written("late".to_owned())).unwrap_err();
        assert_eq!(refused, "`late` is not an integer");
        assert_eq!(Kind::Double.convert(&Cell::Written("3".to_owned())).unwrap(), serde_json::json!(3.0));
        assert_eq!(
            Kind::Text.convert(&Cell::Typed(serde_json::json!({"a": 1}))).unwrap(),
            serde_json::json!("{\"a\":1}")
        );
        assert_eq!(Kind::Integer.convert(&Cell::Null).unwrap(), Value::Null);
    }
}
