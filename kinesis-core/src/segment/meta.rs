//! What a shard knows about a sealed segment without reading it.
//!
//! Invariant: a segment's object is never changed once it is named here.

use serde::{Deserialize, Serialize};

/// One sealed segment. Stored as JSON in the shard's checkpoint part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentMeta {
    /// The object's name below the shard's folder.
    pub(crate) name: String,
    /// Index of the first record.
    pub(crate) first: u64,
    /// Index of the last record.
    pub(crate) last: u64,
    /// How many there are.
    pub(crate) records: u64,
    /// Arrival of the first record, milliseconds since 1970.
    pub(crate) first_arrival_ms: i64,
    /// Earliest arrival of any record, milliseconds since 1970; the first segments do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) earliest_arrival_ms: Option<i64>,
    /// Latest arrival of any record, milliseconds since 1970.
    pub(crate) latest_arrival_ms: i64,
    /// Length of the object.
    pub(crate) bytes: u64,
    /// CRC32C of the whole object.
    pub(crate) crc32c: u32,
    /// How many blocks it has; 0 in the first segments, which are read whole.
    #[serde(default)]
    pub(crate) blocks: u32,
    /// Bytes of the footer, at the end of the object.
    #[serde(default)]
    pub(crate) footer_bytes: u64,
    /// CRC32C of the footer.
    #[serde(default)]
    pub(crate) footer_crc32c: u32,
}
