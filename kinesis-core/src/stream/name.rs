//! Names of streams, consumers and producers, checked once at the edge.
//!
//! Invariant: a name that exists is 1 to 128 of `a-z A-Z 0-9 _ . -`, with `firehose+` before it if it is internal, so it is
//! also safe in an object's path.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::NAME_CHARS_MAX;

/// What the name of a stream begins with that holds what was put to a delivery stream. No caller can give such a name.
const INTERNAL: &str = "firehose+";

/// The name of a stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the stream that holds what was put to the delivery stream of this name.
    #[cfg(feature = "firehose")]
    pub(crate) fn internal(name: &str) -> Result<Self> {
        check_name("delivery stream name", name)?;
        Ok(Self(format!("{INTERNAL}{name}").into()))
    }

    /// The delivery stream that it is of.
    #[cfg(all(feature = "firehose", feature = "server"))]
    pub(crate) fn delivery_stream(&self) -> Option<&str> {
        self.0.strip_prefix(INTERNAL)
    }

    /// Whether it is of a stream that only a delivery stream knows of: it is in no list and has no quotas.
    pub(crate) fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StreamName {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` unless `text` is 1 to 128 of `a-z A-Z 0-9 _ . -`.
    fn from_str(text: &str) -> Result<Self> {
        check_name("stream name", text)?;
        Ok(Self(text.into()))
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> Self {
        name.as_str().to_owned()
    }
}

impl TryFrom<String> for StreamName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        check_name("stream name", text.strip_prefix(INTERNAL).unwrap_or(&text))?;
        Ok(Self(text.into()))
    }
}

/// Refuses what is not a name; `what` says whose name it is.
pub(crate) fn check_name(what: &str, text: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} '{text:.200}' is not 1 to {NAME_CHARS_MAX} of a-z A-Z 0-9 _ . -")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain() {
        assert!("flights-2013_a.B".parse::<StreamName>().is_ok());
        assert!("a".repeat(128).parse::<StreamName>().is_ok());
        for bad in ["", "a/b", "a b", "é", "firehose+a", &"a".repeat(129)] {
            assert_eq!(bad.parse::<StreamName>().unwrap_err().kind(), durable_core::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn an_internal_name_is_read_back_but_given_by_nobody() {
        let name = StreamName::try_from("firehose+a".to_owned()).unwrap();
        assert!(name.is_internal() && !"firehose-a".parse::<StreamName>().unwrap().is_internal());
        assert!(StreamName::try_from("firehose+a/b".to_owned()).is_err());
    }
}
