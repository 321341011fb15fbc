//! A row that did not become data, with everything needed to find and mend it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most bytes of a rejected row that are kept.
pub const RAW_BYTES_MAX: usize = 64 * 1024;

/// A row or value that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reject {
    /// The file, object or stream it came from.
    pub source: String,
    /// Its line, from 1.
    pub line: Option<u64>,
    /// Bytes before it in the source.
    pub offset: Option<u64>,
    /// The column that refused, if one did.
    pub column: Option<String>,
    /// The row as it stood, cut at [`RAW_BYTES_MAX`]; bytes that are no UTF-8 are replaced.
    pub raw: String,
    /// Why, in words.
    pub reason: String,
}

impl Reject {
    /// A row refused for a reason.
    pub fn new(source: impl Into<String>, raw: &[u8], reason: impl Into<String>) -> Self {
        let raw = raw.get(..RAW_BYTES_MAX).unwrap_or(raw);
        let raw = String::from_utf8_lossy(raw).into_owned();
        Self { source: source.into(), line: None, offset: None, column: None, raw, reason: reason.into() }
    }

    /// The same at a line, from 1, and a byte offset.
    #[must_use]
    pub fn at(mut self, line: Option<u64>, offset: Option<u64>) -> Self {
        self.line = line;
        self.offset = offset;
        self
    }

    /// The same with the column that refused.
    #[must_use]
    pub fn in_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ": column \"{column}\"")?;
        }
        write!(f, ": {}", self.reason)
    }
}
