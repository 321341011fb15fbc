//! Which records a function is called with: patterns as Lambda has them.
//!
//! Invariant: a record that a filter leaves out counts as processed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::read::Record;

/// How deep patterns nest.
const DEPTH_MAX: usize = 32;

/// A pattern of a record, in the language of Lambda's filter criteria (and EventBridge).
///
/// A pattern is a JSON object. `data` stands for the payload: an object is matched with the payload's JSON, and a payload
/// that is no JSON never matches; a list is matched with the payload as text. Beside it `partitionKey`, `sequenceNumber` and
/// `approximateArrivalTimestamp` (seconds since 1970) may be asked for. All members must match; of a list one. A list's
/// members are values, or `{"prefix": ..}`, `{"suffix": ..}`, `{"equals-ignore-case": ..}`, `{"anything-but": ..}`,
/// `{"numeric": ["<", 5]}`, `{"exists": true}`. `"$or"` has a list of patterns, of which one must match.
///
/// ```
/// use kinesis_core::mapping::Filter;
///
/// Filter::new(r#"{"data": {"kind": ["order"], "total": [{"numeric": [">", 100, "<=", 500]}]}}"#)?;
/// assert!(Filter::new(r#"{"data": {"kind": "order"}}"#).is_err());
/// # Ok::<(), kinesis_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pattern: Pattern,
}

/// What an object has to be like.
#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    members: Vec<(String, Member)>,
    /// Of each list one must match.
    any_of: Vec<Vec<Pattern>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Member {
    Object(Pattern),
    /// One of these holds of the value.
    Leaf(Vec<Test>),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Is(Value),
    Prefix(String),
    Suffix(String),
    IgnoreCase(String),
    AnythingBut(Vec<Value>),
    AnythingButPrefix(String),
    AnythingButSuffix(String),
    Numeric(Vec<(Comparison, f64)>),
    Exists(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Filter {
    /// The filter of a pattern.
    ///
    /// # Errors
    /// `InvalidInput` if the text is no pattern: it says where and why.
    pub fn new(pattern: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(pattern)
            .map_err(|error| Error::invalid(format!("this filter is no JSON: {error}")))?;
        let Value::Object(object) = value else { return Err(Error::invalid("a filter is a JSON object")) };
        Ok(Self { pattern: Pattern::parse(&object, "filter", 0)? })
    }

    /// Whether it matches a record.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.pattern.matches(&event(record))
    }
}

/// A record as a filter sees it.
fn event(record: &Record) -> Map<String, Value> {
    let data = match serde_json::from_slice(&record.data) {
        Ok(json) => json,
        Err(_) => match std::str::from_utf8(&record.data) {
            Ok(text) => Value::from(text),
            Err(_) => Value::from(STANDARD.encode(&record.data)),
        },
    };
    let mut event = Map::new();
    event.insert("data".to_owned(), data);
    event.insert("partitionKey".to_owned(), record.partition_key.as_str().into());
    event.insert("sequenceNumber".to_owned(), record.sequence_number.to_string().into());
    let arrival = record.arrival.timestamp_millis();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
    event.insert("approximateArrivalTimestamp".to_owned(), (arrival as f64 / 1000.0).into());
    event
}

impl Pattern {
    fn parse(object: &Map<String, Value>, place: &str, depth: usize) -> Result<Self> {
        if depth > DEPTH_MAX {
            return Err(Error::invalid(format!("{place}: patterns nest {DEPTH_MAX} deep at most")));
        }
        if object.is_empty() {
            return Err(Error::invalid(format!("{place}: an empty object asks for nothing")));
        }
        let mut pattern = Self { members: Vec::new(), any_of: Vec::new() };
        for (name, value) in object {
            let place = format!("{place}.{name}");
            match value {
                Value::Array(choices) if name == "$or" => {
                    let choice = |choice: &Value| match choice {
                        Value::Object(object) => Self::parse(object, &place, depth + 1),
                        _ => Err(Error::invalid(format!("{place}: a list of objects is expected"))),
                    };
                    pattern.any_of.push(choices.iter().map(choice).collect::<Result<_>>()?);
                }
                Value::Object(object) => {
                    pattern.members.push((name.clone(), Member::Object(Self::parse(object, &place, depth + 1)?)));
                }
                Value::Array(tests) if !tests.is_empty() => {
                    let tests = tests.iter().map(|test| Test::parse(test, &place)).collect::<Result<_>>()?;
                    pattern.members.push((name.clone(), Member::Leaf(tests)));
                }
                _ => return Err(Error::invalid(format!("{place}: a list of values or an object is expected"))),
            }
        }
        Ok(pattern)
    }

    fn matches(&self, object: &Map<String, Value>) -> bool {
        self.members.iter().all(|(name, member)| member.matches(object.get(name)))
            && self.any_of.iter().all(|choices| choices.iter().any(|choice| choice.matches(object)))
    }
}

impl Member {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Object(pattern), Some(Value::Object(object))) => pattern.matches(object),
            // What lies in a list is matched one by one.
            (Self::Object(pattern), Some(Value::Array(values))) => {
                values.iter().any(|value| value.as_object().is_some_and(|object| pattern.matches(object)))
            }
            (Self::Object(pattern), _) => pattern.matches(&Map::new()),
            (Self::Leaf(tests), Some(Value::Array(values))) if !values.is_empty() => {
                tests.iter().any(|test| values.iter().any(|value| test.holds(Some(value))))
            }
            (Self::Leaf(tests), value) => tests.iter().any(|test| test.holds(value)),
        }
    }
}

impl Test {
    fn parse(value: &Value, place: &str) -> Result<Self> {
        let object = match value {
            Value::Object(object) => object,
            Value::Array(_) => return Err(Error::invalid(format!("{place}: a list in a list asks for nothing"))),
            plain => return Ok(Self::Is(plain.clone())),
        };
        let mut operators = object.iter();
        let (Some((operator, operand)), None) = (operators.next(), operators.next()) else {
            return Err(Error::invalid(format!("{place}: one operator is expected")));
        };
        let place = format!("{place}.{operator}");
        let text = |operand: &Value| match operand {
            Value::String(text) => Ok(text.clone()),
            _ => Err(Error::invalid(format!("{place}: a text is expected"))),
        };
        Ok(match operator.as_str() {
            "prefix" => Self::Prefix(text(operand)?),
            "suffix" => Self::Suffix(text(operand)?),
            "equals-ignore-case" => Self::IgnoreCase(text(operand)?.to_lowercase()),
            "exists" => match operand {
                Value::Bool(exists) => Self::Exists(*exists),
                _ => return Err(Error::invalid(format!("{place}: true or false is expected"))),
            },
            "anything-but" => match operand {
                Value::Array(values) if !values.is_empty() => Self::AnythingBut(values.clone()),
                Value::Object(object) => match (object.get("prefix"), object.get("suffix"), object.len()) {
                    (Some(prefix), None, 1) => Self::AnythingButPrefix(text(prefix)?),
                    (None, Some(suffix), 1) => Self::AnythingButSuffix(text(suffix)?),
                    _ => return Err(Error::invalid(format!("{place}: a prefix or a suffix is expected"))),
                },
                Value::String(_) | Value::Number(_) => Self::AnythingBut(vec![operand.clone()]),
                _ => return Err(Error::invalid(format!("{place}: a text, a number or a list of them is expected"))),
            },
            "numeric" => Self::Numeric(comparisons(operand, &place)?),
            _ => return Err(Error::invalid(format!("{place}: there is no such operator"))),
        })
    }

    fn holds(&self, value: Option<&Value>) -> bool {
        let text = || value.and_then(Value::as_str);
        match self {
            Self::Exists(exists) => value.is_some() == *exists,
            Self::Is(expected) => value.is_some_and(|value| equal(value, expected)),
            Self::Prefix(prefix) => text().is_some_and(|text| text.starts_with(prefix)),
            Self::Suffix(suffix) => text().is_some_and(|text| text.ends_with(suffix)),
            Self::IgnoreCase(expected) => text().is_some_and(|text| text.to_lowercase() == *expected),
            Self::AnythingBut(values) => value.is_some_and(|value| !values.iter().any(|other| equal(value, other))),
            Self::AnythingButPrefix(prefix) => text().is_some_and(|text| !text.starts_with(prefix)),
            Self::AnythingButSuffix(suffix) => text().is_some_and(|text| !text.ends_with(suffix)),
            Self::Numeric(comparisons) => value.and_then(Value::as_f64).is_some_and(|number| {
                comparisons.iter().all(|(comparison, bound)| match comparison {
                    Comparison::Equal => number == *bound,
                    Comparison::Less => number < *bound,
                    Comparison::LessOrEqual => number <= *bound,
                    Comparison::Greater => number > *bound,
                    Comparison::GreaterOrEqual => number >= *bound,
                })
            }),
        }
    }
}

/// Numbers are equal by value, however they are written.
fn equal(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn comparisons(operand: &Value, place: &str) -> Result<Vec<(Comparison, f64)>> {
    let expected = || Error::invalid(format!("{place}: one or two pairs of a comparison and a number are expected"));
    let list = operand.as_array().filter(|list| list.len() == 2 || list.len() == 4).ok_or_else(expected)?;
    let pairs = list.chunks(2).map(|pair| {
        let (operator, number) = (pair.first().and_then(Value::as_str), pair.get(1).and_then(Value::as_f64));
        let comparison = match operator {
            Some("=") => Comparison::Equal,
            Some("<") => Comparison::Less,
            Some("<=") => Comparison::LessOrEqual,
            Some(">") => Comparison::Greater,
            Some(">=") => Comparison::GreaterOrEqual,
            _ => return Err(expected()),
        };
        Ok((comparison, number.ok_or_else(expected)?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::read::PartitionKey;
    use crate::stream::{HashKey, SequenceNumber, ShardId};

    fn record(data: &[u8]) -> Record {
        Record {
            sequence_number: SequenceNumber::new(0, ShardId::new(0), 7, 0),
            arrival: DateTime::UNIX_EPOCH,
            partition_key: PartitionKey::new("key-1".into()),
            hash_key: HashKey(0),
            data: data.to_vec().into(),
        }
    }

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let filter = Filter::new(pattern).unwrap();
        for data in yes {
            assert!(filter.matches(&record(data.as_bytes())), "{pattern} should match {data}");
        }
        for data in no {
            assert!(!filter.matches(&record(data.as_bytes())), "{pattern} should not match {data}");
        }
    }

    #[test]
    fn patterns_match_as_lambdas_do() {
        let order = r#"{"kind": "order", "total": 120.5, "tags": ["a", "b"], "to": {"city": "Oslo"}, "note": null}"#;
        check(
            r#"{"data": {"kind": ["order", "offer"]}}"#,
            &[order, r#"{"kind":"offer"}"#],
            &["{}", "order", r#"{"kind":1}"#],
        );
        check(r#"{"data": {"total": [120.50]}}"#, &[order], &[r#"{"total":"120.5"}"#]);
        check(r#"{"data": {"total": [{"numeric": [">", 100, "<=", 120.5]}]}}"#, &[order], &[r#"{"total":100}"#, "{}"]);
        check(r#"{"data": {"tags": ["b"]}}"#, &[order], &[r#"{"tags":["c"]}"#, r#"{"tags":[]}"#]);
        check(r#"{"data": {"to": {"city": [{"prefix": "Os"}]}}}"#, &[order], &[r#"{"to":"Oslo"}"#]);
        check(r#"{"data": {"to": {"city": [{"suffix": "lo"}]}}}"#, &[order], &[r#"{"to":{"city":"Bergen"}}"#]);
        check(r#"{"data": {"kind": [{"equals-ignore-case": "ORDER"}]}}"#, &[order], &[r#"{"kind":"orders"}"#]);
        check(r#"{"data": {"kind": [{"anything-but": ["offer"]}]}}"#, &[order], &[r#"{"kind":"offer"}"#, "{}"]);
        check(r#"{"data": {"kind": [{"anything-but": {"prefix": "of"}}]}}"#, &[order], &[r#"{"kind":"offer"}"#]);
        check(r#"{"data": {"note": [null]}}"#, &[order], &["{}", r#"{"note":0}"#]);
        check(r#"{"data": {"other": [{"exists": false}]}}"#, &[order], &[r#"{"other":1}"#]);
        check(r#"{"data": {"to": {"zip": [{"exists": false}]}}}"#, &[order, "{}"], &[r#"{"to":{"zip":1}}"#]);
        check(r#"{"data": {"$or": [{"kind": ["x"]}, {"total": [{"numeric": ["<", 121]}]}]}}"#, &[order], &["{}"]);
        check(r#"{"data": ["plain text"]}"#, &["plain text"], &["other", order]);
        check(r#"{"partitionKey": ["key-1"]}"#, &["x", order], &[]);
        check(r#"{"partitionKey": ["key-2"]}"#, &[], &["x"]);
        check(r#"{"data": {"kind": ["order"]}, "partitionKey": [{"prefix": "key"}]}"#, &[order], &["{}"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_place() {
        for (pattern, told) in [
            ("", "no JSON"),
            ("[]", "JSON object"),
            ("{}", "an empty object"),
            (r#"{"data": {"a": 1}}"#, "filter.data.a"),
            (r#"{"data": {"a": []}}"#, "filter.data.a"),
            (r#"{"data": {"a": [{"near": 1}]}}"#, "filter.data.a.near"),
            (r#"{"data": {"a": [{"prefix": 1}]}}"#, "a text is expected"),
            (r#"{"data": {"a": [{"numeric": [">"]}]}}"#, "one or two pairs"),
            (r#"{"data": {"a": [{"prefix": "x", "suffix": "y"}]}}"#, "one operator"),
        ] {
            let error = Filter::new(pattern).unwrap_err();
            assert!(error.message().contains(told), "{pattern}: {error}");
        }
        let deep = format!("{}[1]{}", r#"{"a":"#.repeat(40), "}".repeat(40));
        assert!(Filter::new(&deep).is_err());
    }
}
