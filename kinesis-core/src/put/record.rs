//! What a producer hands over.
//!
//! Invariant: nothing here is checked; [`put_records`](crate::DataStream::put_records) checks it all before any effect.

use bytes::Bytes;

use crate::stream::{HashKey, SequenceNumber, ShardId};

/// A record to put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRecord {
    /// The payload, any bytes; none is fine.
    pub data: Bytes,
    /// Records of one key go to one shard, in order. 1 to 256 characters.
    pub partition_key: String,
    /// Routes instead of the partition key's MD5.
    pub explicit_hash_key: Option<HashKey>,
}

impl PutRecord {
    /// A record that its partition key routes.
    pub fn new(data: impl Into<Bytes>, partition_key: impl Into<String>) -> Self {
        Self { data: data.into(), partition_key: partition_key.into(), explicit_hash_key: None }
    }

    /// What AWS counts of it: bytes of data and partition key.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }

    /// Routes by `key`, whatever the partition key is.
    #[must_use]
    pub fn with_explicit_hash_key(mut self, key: HashKey) -> Self {
        self.explicit_hash_key = Some(key);
        self
    }
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutRecordOutput {
    /// The shard.
    pub shard_id: ShardId,
    /// Its number there.
    pub sequence_number: SequenceNumber,
}

/// What became of one record of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutOutcome {
    /// It is in the stream now.
    Stored(PutRecordOutput),
    /// Its producer had put it before, so it was not put again.
    Duplicate,
    /// It was not stored, since its shard's throughput is used up ([`Limits`](crate::Limits)): put it again later.
    Throttled(ShardId),
}

impl PutOutcome {
    /// Where it was stored, if it was by this call.
    #[must_use]
    pub fn stored(&self) -> Option<&PutRecordOutput> {
        match self {
            Self::Stored(output) => Some(output),
            Self::Duplicate | Self::Throttled(_) => None,
        }
    }
}

/// What [`put_records`](crate::DataStream::put_records) answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutRecordsOutput {
    /// One outcome per record of the batch, in its order.
    pub records: Vec<PutOutcome>,
}

impl PutRecordsOutput {
    /// Records that were stored by this call.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.records.iter().filter(|outcome| outcome.stored().is_some()).count()
    }

    /// Records that were not stored, since their shards' throughput is used up.
    #[must_use]
    pub fn throttled(&self) -> usize {
        self.records.iter().filter(|outcome| matches!(outcome, PutOutcome::Throttled(_))).count()
    }

    /// Records that the stream knew already.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.records.iter().filter(|outcome| matches!(outcome, PutOutcome::Duplicate)).count()
    }
}
