//! A shard: a range of hash keys with an ordered run of records. Data, not a task.
//!
//! Invariant: a shard's id is never used again within its stream.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::hash_key::HashKeyRange;
use super::sequence_number::SequenceNumber;
use crate::error::{Error, Result};

/// A shard's name within its stream: `shardId-000000000003` is number 3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ShardId(u32);

impl ShardId {
    /// The shard of this number.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// Its number: 0 is the stream's first shard.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ShardId {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` unless `text` is `shardId-` and twelve digits.
    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix("shardId-").filter(|digits| digits.len() == 12);
        digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(Self)
            .ok_or_else(|| Error::invalid(format!("'{text:.80}' is not a shard id (shardId- and twelve digits)")))
    }
}

impl From<ShardId> for String {
    fn from(id: ShardId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ShardId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// What [`list_shards`](crate::DataStream::list_shards) says about a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shard {
    /// Its name.
    pub id: ShardId,
    /// The hash keys it owns while it is open.
    pub hash_key_range: HashKeyRange,
    /// The shard it was split or merged from, if any.
    pub parent: Option<ShardId>,
    /// The other shard it was merged from, if it was.
    pub adjacent_parent: Option<ShardId>,
    /// When it was opened.
    pub opened: DateTime<Utc>,
    /// When it was closed, if it takes no more records.
    pub closed: Option<DateTime<Utc>>,
    /// Less than every record's sequence number.
    pub starting_sequence_number: SequenceNumber,
    /// Not less than any record's, set once the shard takes no more records.
    pub ending_sequence_number: Option<SequenceNumber>,
}

/// A shard that follows the one that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildShard {
    /// Its name.
    pub id: ShardId,
    /// The shards it was split or merged from.
    pub parents: Vec<ShardId>,
    /// The hash keys it owns.
    pub hash_key_range: HashKeyRange,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_is_written() {
        assert_eq!(ShardId::new(3).to_string(), "shardId-000000000003");
        assert_eq!("shardId-000000000003".parse::<ShardId>().unwrap(), ShardId::new(3));
        for bad in ["", "3", "shardId-3", "shardId-00000000000x", "shardId-999999999999", "shardId-+00000000003"] {
            assert!(bad.parse::<ShardId>().is_err(), "{bad}");
        }
    }
}
