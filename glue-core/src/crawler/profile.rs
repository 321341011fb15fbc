//! What one file was found to be: remembered, so that an unchanged file is not read again.

use serde::{Deserialize, Serialize};
use table_core::Format;
use table_core::infer::{Observed, ObservedFields};

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Profile {
    pub(super) content: Content,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Whether only the beginning was read, so that counts are not known.
    #[serde(default)]
    pub(super) cut: bool,
}

impl Profile {
    pub(super) fn new(content: Content) -> Self {
        Self { content, notes: Vec::new(), cut: false }
    }

    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Self::new(Content::Unknown(reason.into()))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    Parquet(ObservedFields),
    Json(ObservedFields),
    Csv(Delimited),
    /// Not data that is understood; the reason.
    Unknown(String),
}

/// Delimited text, before it is settled whether its first row names the columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Delimited {
    pub(super) delimiter: u8,
    pub(super) first: Vec<String>,
    pub(super) header: Header,
    /// Of the rows after the first, by position.
    pub(super) body: Vec<Observed>,
    pub(super) body_rows: u64,
}

/// Whether a file's first row names its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Header {
    /// Names above values that are no text.
    Sure,
    /// Everything is text: its neighbours decide.
    Maybe,
    /// The first row is data.
    No,
}

/// How files must agree to make up one table, besides their columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) format: Format,
    /// Of delimited text.
    pub(super) delimiter: u8,
    pub(super) header: bool,
}

impl Kind {
    pub(super) fn plain(format: Format) -> Self {
        Self { format, delimiter: 0, header: false }
    }
}
