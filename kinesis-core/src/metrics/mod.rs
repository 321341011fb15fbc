//! Counts of what an instance, a stream and a shard did since the instance was opened.

mod counter;
mod stream;

use serde::{Deserialize, Serialize};

pub(crate) use counter::Counter;
pub(crate) use stream::{ShardCounters, StreamCounters, micros, millis};
pub use stream::{ShardMetrics, StreamMetrics};

/// A snapshot; counters begin at zero when the instance is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KinesisMetrics {
    /// Streams there are.
    pub streams: u64,
    /// Records that were stored and are visible.
    pub incoming_records: u64,
    /// Their bytes: data and partition keys.
    pub incoming_bytes: u64,
    /// Records that were recognised as put before.
    pub duplicate_records: u64,
    /// Records that were not put, since their shards' throughput was used up.
    pub throttled_writes: u64,
    /// Records that readers were given.
    pub read_records: u64,
    /// Their bytes: data and partition keys.
    pub read_bytes: u64,
    /// Records that recovery found in the journal when the instance was opened.
    pub recovered_records: u64,
    /// Bytes of records in memory now.
    pub tail_bytes: u64,
    /// Segments sealed.
    pub sealed_segments: u64,
    /// Their bytes.
    pub sealed_bytes: u64,
    /// Rounds of sealing that failed; each is tried again.
    pub failed_seals: u64,
    /// Segments that retention removed.
    pub trimmed_segments: u64,
    /// Segments fetched from the store to be read.
    pub fetched_segments: u64,
    /// Reads that found their segment in memory.
    pub cache_hits: u64,
    /// Bytes of segments in memory now.
    pub cache_bytes: u64,
}

/// The counters of one instance.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) incoming_records: Counter,
    pub(crate) incoming_bytes: Counter,
    pub(crate) duplicate_records: Counter,
    pub(crate) throttled_writes: Counter,
    pub(crate) read_records: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) recovered_records: Counter,
    pub(crate) sealed_segments: Counter,
    pub(crate) sealed_bytes: Counter,
    pub(crate) failed_seals: Counter,
    pub(crate) trimmed_segments: Counter,
    pub(crate) fetched_segments: Counter,
    pub(crate) cache_hits: Counter,
}
