//! The rules of a service's model, and AWS's words when a request breaks them.
//!
//! Invariant: all broken rules are told at once, in the order in which they were checked, ten at most.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::WireError;

/// How many broken rules one answer tells, as AWS does.
const VIOLATIONS_MAX: usize = 10;

/// How much an answer repeats of what is wrong, in characters.
const VALUE_CHARS_MAX: usize = 1024;

/// Collects what is wrong with a request.
///
/// Paths are AWS's: `streamName`, `records.1.member.partitionKey` (list elements count from 1).
///
/// ```
/// use wire_core::Validation;
///
/// let (name, limit) = ("", Some(20_000));
/// let error = Validation::new()
///     .length("streamName", name, 1..=128)
///     .range("limit", limit.as_ref(), 1..=10_000)
///     .finish()
///     .unwrap_err();
/// assert_eq!(
///     error.message(),
///     Some(
///         "2 validation errors detected: \
///          Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1; \
///          Value '20000' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"
///     )
/// );
/// ```
#[derive(Debug, Default)]
#[must_use = "`finish` tells whether the request holds"]
pub struct Validation {
    violations: Vec<String>,
}

impl Validation {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The member must be there.
    pub fn require<T: ?Sized>(self, path: &str, value: Option<&T>) -> Self {
        self.check(value.is_some(), path, || None, || "Member must not be null".into())
    }

    /// A text, where present, has that many characters.
    pub fn length<'a>(self, path: &str, text: impl Into<Option<&'a str>>, characters: RangeInclusive<usize>) -> Self {
        let Some(text) = text.into() else { return self };
        self.bounded("length", path, &text.chars().count(), &characters, || text.to_owned())
    }

    /// A list, where present, has that many elements; `shown` is how AWS prints it, `[a, b]`.
    pub fn count(
        self,
        path: &str,
        count: impl Into<Option<usize>>,
        elements: RangeInclusive<usize>,
        shown: impl FnOnce() -> String,
    ) -> Self {
        let Some(count) = count.into() else { return self };
        self.bounded("length", path, &count, &elements, shown)
    }

    /// A blob, where present, has that many bytes.
    pub fn bytes<'a>(self, path: &str, blob: impl Into<Option<&'a [u8]>>, bytes: RangeInclusive<usize>) -> Self {
        let Some(length) = blob.into().map(<[u8]>::len) else { return self };
        // AWS prints the buffer object of its implementation, never the bytes.
        self.bounded("length", path, &length, &bytes, || {
            format!("java.nio.HeapByteBuffer[pos=0 lim={length} cap={length}]")
        })
    }

    /// A number, where present, lies within the range.
    pub fn range<'a, T>(self, path: &str, value: impl Into<Option<&'a T>>, range: RangeInclusive<T>) -> Self
    where
        T: PartialOrd + Display + 'a,
    {
        let Some(value) = value.into() else { return self };
        self.bounded("value", path, value, &range, || value.to_string())
    }

    /// A text, where present, matches; `matches` decides, `pattern` is what AWS prints.
    pub fn pattern<'a>(
        self,
        path: &str,
        text: impl Into<Option<&'a str>>,
        pattern: &str,
        matches: impl FnOnce(&str) -> bool,
    ) -> Self {
        let Some(text) = text.into() else { return self };
        let constraint = || format!("Member must satisfy regular expression pattern: {pattern}");
        self.check(matches(text), path, || Some(text.to_owned()), constraint)
    }

    /// A text, where present, is one of the model's values.
    pub fn one_of<'a>(self, path: &str, text: impl Into<Option<&'a str>>, values: &[&str]) -> Self {
        let Some(text) = text.into() else { return self };
        let constraint = || format!("Member must satisfy enum value set: [{}]", values.join(", "));
        self.check(values.contains(&text), path, || Some(text.to_owned()), constraint)
    }

    /// Any other rule, in AWS's words: `constraint` follows "failed to satisfy constraint: ". No value is `null`.
    pub fn rule(self, holds: bool, path: &str, value: Option<&str>, constraint: &str) -> Self {
        self.check(holds, path, || value.map(str::to_owned), || constraint.to_owned())
    }

    /// Whether the request holds.
    ///
    /// # Errors
    ///
    /// `ValidationException` with every broken rule.
    pub fn finish(self) -> Result<(), WireError> {
        let count = self.violations.len();
        if count == 0 {
            return Ok(());
        }
        let errors = if count == 1 { "error" } else { "errors" };
        Err(WireError::validation(format!("{count} validation {errors} detected: {}", self.violations.join("; "))))
    }

    /// Both bounds as AWS tells them: the one that is broken.
    fn bounded<T: PartialOrd + Display>(
        self,
        what: &str,
        path: &str,
        measure: &T,
        range: &RangeInclusive<T>,
        value: impl FnOnce() -> String,
    ) -> Self {
        let (relation, bound) = match () {
            () if measure < range.start() => ("greater", range.start()),
            () if measure > range.end() => ("less", range.end()),
            () => return self,
        };
        let constraint = || format!("Member must have {what} {relation} than or equal to {bound}");
        self.check(false, path, || Some(value()), constraint)
    }

    fn check(
        mut self,
        holds: bool,
        path: &str,
        value: impl FnOnce() -> Option<String>,
        constraint: impl FnOnce() -> String,
    ) -> Self {
        if !holds && self.violations.len() < VIOLATIONS_MAX {
            let value = value().map_or_else(|| "null".to_owned(), |value| format!("'{}'", shortened(value)));
            let constraint = constraint();
            self.violations.push(format!("Value {value} at '{path}' failed to satisfy constraint: {constraint}"));
        }
        self
    }
}

/// A text that may be as long as the request, cut to what an answer repeats of it.
pub(crate) fn shortened(mut value: String) -> String {
    if let Some((end, _)) = value.char_indices().nth(VALUE_CHARS_MAX) {
        value.truncate(end);
        value.push_str("...");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(validation: Validation, expected: &str) {
        let message = validation.finish().err().map(|error| error.message().unwrap_or_default().to_owned());
        assert_eq!(message.unwrap_or_default(), expected);
    }

    const ONE: &str = "1 validation error detected: ";

    #[test]
    fn what_holds_and_what_is_absent_is_no_violation() {
        let validation = Validation::new()
            .require("streamName", Some("a"))
            .length("streamName", "ü", 1..=1)
            .length("partitionKey", None, 1..=256)
            .range("limit", None::<&i32>, 1..=10)
            .pattern("streamName", "a", "[a-z]+", |text| text == "a")
            .one_of("mode", "A", &["A", "B"])
            .bytes("data", &[][..], 0..=0)
            .count("records", 1, 1..=500, String::new);
        check(validation, "");
    }

    #[test]
    fn each_rule_is_told_in_awss_words() {
        let told = |validation, constraint: &str| check(validation, &format!("{ONE}{constraint}"));
        told(
            Validation::new().require("streamName", None::<&str>),
            "Value null at 'streamName' failed to satisfy constraint: Member must not be null",
        );
        told(
            Validation::new().length("k", "abc", 1..=2),
            "Value 'abc' at 'k' failed to satisfy constraint: Member must have length less than or equal to 2",
        );
        told(
            Validation::new().range("limit", &0, 1..=10),
            "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
        );
        told(
            Validation::new().pattern("k", "a b", "[a-zA-Z0-9_.-]+", |_| false),
            "Value 'a b' at 'k' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
        );
        told(
            Validation::new().one_of("shardIteratorType", "X", &["LATEST", "TRIM_HORIZON"]),
            "Value 'X' at 'shardIteratorType' failed to satisfy constraint: \
             Member must satisfy enum value set: [LATEST, TRIM_HORIZON]",
        );
        told(
            Validation::new().bytes("records.1.member.data", &b"abc"[..], 0..=2),
            "Value 'java.nio.HeapByteBuffer[pos=0 lim=3 cap=3]' at 'records.1.member.data' failed to satisfy constraint: \
             Member must have length less than or equal to 2",
        );
        told(
            Validation::new().count("records", 0, 1..=500, || "[]".into()),
            "Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1",
        );
        told(
            Validation::new().rule(false, "tags", Some("{a=}"), "Map value must not be empty"),
            "Value '{a=}' at 'tags' failed to satisfy constraint: Map value must not be empty",
        );
    }

    #[test]
    fn ten_violations_are_told_and_little_of_a_long_value() {
        let validation = (0..20).fold(Validation::new(), |validation, _| validation.length("k", "abc", 1..=2));
        let message = validation.finish().unwrap_err().to_string();
        assert!(message.starts_with("ValidationException: 10 validation errors detected: "), "{message}");
        let message =
            Validation::new().length("k", "ü".repeat(1 << 20).as_str(), 1..=2).finish().unwrap_err().to_string();
        assert!(message.len() < 3 * VALUE_CHARS_MAX, "{}", message.len());
    }
}
