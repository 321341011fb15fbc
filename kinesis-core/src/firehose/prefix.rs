//! Prefixes of object names with Firehose's expressions: `!{timestamp:yyyy/MM/dd}/`, `!{partitionKeyFromQuery:day}/`.
//!
//! A template is parsed once, so that rendering cannot fail; what it renders holds no text that a record could use to
//! leave its folder: values of partition keys are percent-encoded as Hive does.

use std::collections::BTreeSet;

use chrono::DateTime;
use chrono_tz::Tz;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use table_core::partition_path;

use super::error_output::ErrorOutputType;
use super::event::PartitionKeys;
use super::timestamp_pattern::TimestampPattern;
use crate::{Error, Result};

/// Bytes of a prefix as it is written, and of one as it is rendered.
pub(super) const PREFIX_BYTES_MAX: usize = 512;
/// What a prefix without expressions gets behind it.
const DEFAULT_TIME: &str = "!{timestamp:yyyy/MM/dd/HH/}";
const RANDOM_CHARS: usize = 11;
/// Bytes of one folder or name: as long as those of the usual file systems can be.
const FOLDER_BYTES_MAX: usize = 255;
/// Bytes that an object's own name has behind the prefix, at most.
const OBJECT_NAME_BYTES: usize = 160;

/// A parsed prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Timestamp(TimestampPattern),
    QueryKey(String),
    LambdaKey(String),
    RandomString,
    ErrorOutputType,
}

/// Prefix and error prefix, checked against each other by Firehose's rules.
#[derive(Clone, Debug)]
pub(super) struct Prefixes {
    pub(super) data: Prefix,
    pub(super) errors: Prefix,
    /// Of what records came as, if that is backed up.
    pub(super) backup: Option<Prefix>,
}

impl Prefixes {
    /// Applies the default rules:
    ///
    /// | prefix | error prefix | data goes to | errors go to |
    /// |---|---|---|---|
    /// | without expression | not given | `<prefix>yyyy/MM/dd/HH/` | `<prefix><type>/yyyy/MM/dd/HH/` |
    /// | without expression | without expression | `<prefix>yyyy/MM/dd/HH/` | `<error prefix><type>/yyyy/MM/dd/HH/` |
    /// | with expressions | with `!{firehose:error-output-type}` | as rendered | as rendered |
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an expression that is unknown or stands in the wrong prefix, for an error prefix with
    /// expressions but without the error type, and if the prefix has expressions and the error prefix is missing.
    pub(super) fn parse(prefix: &str, errors: Option<&str>) -> Result<Self> {
        let data = Prefix::parse(prefix)?;
        if data.parts.contains(&Part::ErrorOutputType) {
            return Err(Error::invalid(format!(
                "prefix '{prefix}' holds !{{firehose:error-output-type}}, which belongs into the error output prefix"
            )));
        }
        let errors_text = errors.unwrap_or(prefix);
        let errors = match errors {
            Some(errors) => Self::errors(errors)?,
            None if data.has_expressions() => {
                return Err(Error::invalid(format!(
                    "prefix '{prefix}' has expressions, so an error output prefix must be given, \
                     for example errors/!{{firehose:error-output-type}}/"
                )));
            }
            None => Self::errors(prefix)?,
        };
        let data = if data.has_expressions() { data } else { Prefix::parse(&format!("{prefix}{DEFAULT_TIME}"))? };
        data.check_path(prefix)?;
        errors.check_path(errors_text)?;
        Ok(Self { data, errors, backup: None })
    }

    /// With a backup under this prefix.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an expression that is unknown, or that not every record has a value for.
    pub(super) fn with_backup(mut self, prefix: &str) -> Result<Self> {
        let backup = Prefix::parse(prefix)?;
        let plain = |part: &Part| matches!(part, Part::Literal(_) | Part::Timestamp(_) | Part::RandomString);
        if !backup.parts.iter().all(plain) {
            return Err(Error::invalid(format!(
                "backup prefix '{prefix}' holds an expression other than !{{timestamp:..}} and !{{firehose:random-string}}, \
                 which not every record has: take it out"
            )));
        }
        let backup = if backup.has_expressions() { backup } else { Prefix::parse(&format!("{prefix}{DEFAULT_TIME}"))? };
        backup.check_path(prefix)?;
        self.backup = Some(backup);
        Ok(self)
    }

    fn errors(text: &str) -> Result<Prefix> {
        let errors = Prefix::parse(text)?;
        if !errors.has_expressions() {
            return Prefix::parse(&format!("{text}!{{firehose:error-output-type}}/{DEFAULT_TIME}"));
        }
        let forbidden = |part: &Part| matches!(part, Part::QueryKey(_) | Part::LambdaKey(_));
        if errors.parts.iter().any(forbidden) {
            return Err(Error::invalid(format!(
                "error output prefix '{text}' holds a partition key, which a failed record may not have: take it out"
            )));
        }
        if !errors.parts.contains(&Part::ErrorOutputType) {
            return Err(Error::invalid(format!(
                "error output prefix '{text}' has expressions but not !{{firehose:error-output-type}}: add it"
            )));
        }
        Ok(errors)
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Self> {
        if text.len() > PREFIX_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a prefix of {} bytes: at most {PREFIX_BYTES_MAX} are possible",
                text.len()
            )));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, expression)) = rest.split_once("!{") {
            push_literal(&mut parts, literal, text)?;
            let (expression, behind) = expression.split_once('}').ok_or_else(|| {
                Error::invalid(format!("prefix '{text}' has an expression without its closing brace"))
            })?;
            parts.push(Part::parse(expression, text)?);
            rest = behind;
        }
        push_literal(&mut parts, rest, text)?;
        Ok(Self { parts })
    }

    fn has_expressions(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    /// The keys that `!{partitionKeyFromQuery:..}` names.
    pub(super) fn query_keys(&self) -> BTreeSet<&str> {
        self.parts
            .iter()
            .filter_map(|part| if let Part::QueryKey(key) = part { Some(key.as_str()) } else { None })
            .collect()
    }

    /// The keys that `!{partitionKeyFromLambda:..}` names.
    pub(super) fn lambda_keys(&self) -> BTreeSet<&str> {
        self.parts
            .iter()
            .filter_map(|part| if let Part::LambdaKey(key) = part { Some(key.as_str()) } else { None })
            .collect()
    }

    /// The prefix for an object whose oldest record arrived at `oldest`.
    pub(super) fn render(
        &self,
        oldest: DateTime<Tz>,
        keys: &PartitionKeys,
        error: Option<ErrorOutputType>,
        rng: &mut impl Rng,
    ) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Timestamp(pattern) => pattern.render(oldest, &mut out),
                Part::QueryKey(key) | Part::LambdaKey(key) => out.push_str(&escape(keys.get(key).unwrap_or_default())),
                Part::RandomString => out.push_str(&random_string(rng)),
                Part::ErrorOutputType => out.push_str(error.map_or("", ErrorOutputType::as_str)),
            }
        }
        out
    }

    /// Refuses what the text in timestamp patterns makes no path of: that is known only once it is rendered.
    fn check_path(&self, prefix: &str) -> Result<()> {
        let keys = self.query_keys().into_iter().chain(self.lambda_keys());
        check_text(&self.sample(&PartitionKeys::new(keys.map(|key| (key, "x")))), prefix)
    }

    /// Why no object can have this prefix with these keys, whatever the time.
    pub(super) fn refusal(&self, keys: &PartitionKeys) -> Option<String> {
        let rendered = self.sample(keys);
        let refused = |what: &str, bytes: usize, most: usize| {
            (bytes > most).then(|| format!("{what} with these partition keys has {bytes} bytes, more than {most}"))
        };
        refused("the prefix", rendered.len(), PREFIX_BYTES_MAX).or_else(|| {
            let (folders, name) = rendered.rsplit_once('/').unwrap_or(("", &rendered));
            let folder = folders.split('/').map(str::len).max().unwrap_or(0);
            let name = if name.is_empty() { 0 } else { name.len() + OBJECT_NAME_BYTES };
            refused("a folder or name", folder.max(name), FOLDER_BYTES_MAX).filter(|_| !keys.is_empty())
        })
    }

    /// The prefix at some time, with these keys.
    fn sample(&self, keys: &PartitionKeys) -> String {
        self.render(DateTime::UNIX_EPOCH.with_timezone(&Tz::UTC), keys, None, &mut SmallRng::seed_from_u64(0))
    }
}

impl Part {
    fn parse(expression: &str, prefix: &str) -> Result<Self> {
        match expression.split_once(':') {
            Some(("timestamp", pattern)) => Ok(Self::Timestamp(TimestampPattern::parse(pattern)?)),
            Some(("partitionKeyFromQuery", key)) if !key.is_empty() => Ok(Self::QueryKey(key.to_owned())),
            Some(("partitionKeyFromLambda", key)) if !key.is_empty() => Ok(Self::LambdaKey(key.to_owned())),
            Some(("firehose", "random-string")) => Ok(Self::RandomString),
            Some(("firehose", "error-output-type")) => Ok(Self::ErrorOutputType),
            _ => Err(Error::invalid(format!(
                "prefix '{prefix}': unknown expression !{{{expression}}}; known are timestamp:.., \
                 partitionKeyFromQuery:.., partitionKeyFromLambda:.., firehose:random-string and \
                 firehose:error-output-type"
            ))),
        }
    }
}

fn check_text(text: &str, prefix: &str) -> Result<()> {
    let bad_folder = text.split('/').any(|folder| folder == "." || folder == "..");
    if bad_folder || text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("prefix {prefix:?} holds a control character or a folder . or ..")));
    }
    Ok(())
}

/// Text between expressions: no control characters, and no folder that a path gives a meaning to.
fn push_literal(parts: &mut Vec<Part>, literal: &str, prefix: &str) -> Result<()> {
    check_text(literal, prefix)?;
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.to_owned()));
    }
    Ok(())
}

/// A partition key's value as the name of a folder: Hive's escapes, and dots that would walk the tree. Hive's own name for
/// NULL stands for itself, as Firehose has it.
fn escape(value: &str) -> String {
    if value == partition_path::NULL_PARTITION {
        return value.to_owned();
    }
    let folder = partition_path::encode([("k", Some(value))]);
    let value = folder.strip_prefix("k=").unwrap_or_default();
    if value.chars().all(|c| c == '.') { value.replace('.', "%2E") } else { value.to_owned() }
}

/// Eleven characters of those that Firehose uses: hexadecimal digits.
fn random_string(rng: &mut impl Rng) -> String {
    format!("{:016x}", rng.random::<u64>())[..RANDOM_CHARS].to_owned()
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use rand::rngs::StdRng;

    use super::*;
    use crate::ErrorKind;

    fn render(prefix: &str, errors: Option<&str>) -> (String, String) {
        let prefixes = Prefixes::parse(prefix, errors).unwrap();
        let oldest = Tz::UTC.with_ymd_and_hms(2018, 8, 27, 10, 30, 0).unwrap();
        let keys = PartitionKeys::new([("day", "1"), ("city", "a/b=..")]);
        let mut rng = StdRng::seed_from_u64(1);
        (
            prefixes.data.render(oldest, &keys, None, &mut rng),
            prefixes.errors.render(oldest, &keys, Some(ErrorOutputType::ProcessingFailed), &mut rng),
        )
    }

    fn check(prefix: &str, errors: Option<&str>, data_is: &str, errors_are: &str) {
        assert_eq!(render(prefix, errors), (data_is.to_owned(), errors_are.to_owned()));
    }

    #[test]
    fn defaults_are_those_of_firehose() {
        check("", None, "2018/08/27/10/", "processing-failed/2018/08/27/10/");
        check("in/", None, "in/2018/08/27/10/", "in/processing-failed/2018/08/27/10/");
        check("in/", Some("bad/"), "in/2018/08/27/10/", "bad/processing-failed/2018/08/27/10/");
        let bad = "bad/!{timestamp:'y='yyyy}/!{firehose:error-output-type}/";
        check("", Some(bad), "2018/08/27/10/", "bad/y=2018/processing-failed/");
    }

    #[test]
    fn expressions_are_rendered() {
        let bad = Some("bad/!{firehose:error-output-type}/");
        check("day=!{partitionKeyFromQuery:day}/", bad, "day=1/", "bad/processing-failed/");
        check("c=!{partitionKeyFromLambda:city}/", bad, "c=a%2Fb%3D../", "bad/processing-failed/");
        let (random, _) = render("!{firehose:random-string}/!{firehose:random-string}", bad);
        let (first, second) = random.split_once('/').unwrap();
        assert_eq!((first.len(), second.len()), (11, 11));
        assert_ne!(first, second);
    }

    #[test]
    fn a_value_cannot_leave_its_folder() {
        assert_eq!(escape(".."), "%2E%2E");
        assert_eq!(escape("../x"), "..%2Fx");
        assert_eq!(escape("__HIVE_DEFAULT_PARTITION__"), "__HIVE_DEFAULT_PARTITION__", "how a key says NULL");
    }

    #[test]
    fn rules_are_enforced() {
        let cases = [
            ("!{timestamp:yyyy}", None),
            ("!{firehose:error-output-type}", Some("e/")),
            ("!{unknown:x}", Some("e/")),
            ("!{timestamp:yyyy", Some("e/")),
            ("in/", Some("e/!{timestamp:yyyy}")),
            ("in/", Some("e/!{partitionKeyFromQuery:day}/!{firehose:error-output-type}/")),
            ("../", None),
            ("!{timestamp:../yyyy}/", Some("e/")),
            ("a/!{timestamp:.}!{timestamp:.}/", Some("e/")),
            ("in/", Some("!{timestamp:'./'}!{firehose:error-output-type}/")),
            ("a\n/", None),
        ];
        for (prefix, errors) in cases {
            assert_eq!(Prefixes::parse(prefix, errors).unwrap_err().kind(), ErrorKind::InvalidInput, "{prefix}");
        }
        assert!(Prefixes::parse(&"a".repeat(513), None).is_err());
    }
}
