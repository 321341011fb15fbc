//! A record as a reader gets it.
//!
//! Invariant: payload and partition key are slices of the journal frame or the segment they lie in; nothing is copied.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::stream::{HashKey, SequenceNumber};

/// A record of a stream. Cloning copies no payload; a record that is kept keeps the buffer it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its number within its shard.
    pub sequence_number: SequenceNumber,
    /// When it was put, in milliseconds; approximate, as AWS's: it does not decide the order.
    pub arrival: DateTime<Utc>,
    /// The key it was put with.
    pub partition_key: PartitionKey,
    /// What routed it: the key's MD5, or the explicit hash key.
    pub hash_key: HashKey,
    /// The payload.
    pub data: Bytes,
}

impl Record {
    /// What AWS counts of it: bytes of data and partition key.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.data.len() + self.partition_key.0.len()
    }
}

/// A partition key that lies in the record's buffer. Reads as `&str`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey(Bytes);

impl PartitionKey {
    /// A key of bytes that were checked to be UTF-8 when they were stored.
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for PartitionKey {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for PartitionKey {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for PartitionKey {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
