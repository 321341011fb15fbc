//! Where a reader stands in a shard.
//!
//! Invariant: an iterator names the next index to read, so a read is a contiguous run from there: no gap, no repeat.

use chrono::{DateTime, Utc};

use crate::stream::{SequenceNumber, ShardId};

/// Where to begin reading a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IteratorType {
    /// At the oldest record that retention has left.
    TrimHorizon,
    /// Behind the newest record: only what is put from now on.
    Latest,
    /// At this record, or the next if it is not there (a shard's starting number is fine).
    AtSequenceNumber(SequenceNumber),
    /// Behind this record.
    AfterSequenceNumber(SequenceNumber),
    /// At the first record that arrived at this time or later; before the oldest it is [`TrimHorizon`](Self::TrimHorizon).
    AtTimestamp(DateTime<Utc>),
}

/// A reader's place in one shard of one stream. It stays valid across restarts of the process that holds the stream
/// open, not across processes: keep a sequence number for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIterator {
    pub(crate) stream: u64,
    pub(crate) shard: ShardId,
    pub(crate) from: From,
}

impl ShardIterator {
    /// The shard it stands in.
    #[must_use]
    pub fn shard_id(&self) -> ShardId {
        self.shard
    }
}

/// The next record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest there is when it is read.
    Oldest,
    /// The first at or above this index; an error if retention took it.
    Index(u64),
}
