//! Figures of an instance that an app may change. What it is made of (store, clock, disk) goes to the builder instead.

use durable_core::journal::SEGMENT_BYTES_DEFAULT;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::{CACHE_BYTES_DEFAULT, RECORD_BYTES_DEFAULT, RECORD_BYTES_MAX, TAIL_BYTES_DEFAULT, TAIL_BYTES_MIN};
use crate::quota::Limits;
use crate::segment::Compression;

/// The figures of an instance. All may change from one opening to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    tail_bytes: usize,
    cache_bytes: usize,
    record_bytes_max: usize,
    journal_segment_bytes: u64,
    segment_compression: Compression,
    limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tail_bytes: TAIL_BYTES_DEFAULT,
            cache_bytes: CACHE_BYTES_DEFAULT,
            record_bytes_max: RECORD_BYTES_DEFAULT,
            journal_segment_bytes: SEGMENT_BYTES_DEFAULT,
            segment_compression: Compression::None,
            limits: Limits::unlimited(),
        }
    }
}

impl Settings {
    /// How many bytes of the newest records are held in memory, over all streams (default 64 MiB, at least 64 KiB).
    /// At half of it the records are sealed into segments; at all of it, puts wait until some are.
    #[must_use]
    pub fn with_tail_bytes(mut self, bytes: usize) -> Self {
        self.tail_bytes = bytes;
        self
    }

    /// How many bytes of segments are kept for the next reader, over all streams (default 64 MiB; 0 keeps none).
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// The largest record, data and partition key (default 1 MiB, at most 10 MiB).
    #[must_use]
    pub fn with_record_bytes_max(mut self, bytes: usize) -> Self {
        self.record_bytes_max = bytes;
        self
    }

    /// The size of a file of a local journal (default 64 MiB; a multiple of 512 from 8 KiB on). A batch takes about a
    /// quarter of one at most, and two are allocated ahead.
    #[must_use]
    pub fn with_journal_segment_bytes(mut self, bytes: u64) -> Self {
        self.journal_segment_bytes = bytes;
        self
    }

    /// How segments that are sealed from now on are compressed (default not at all, so that readers get slices of the file).
    #[must_use]
    pub fn with_segment_compression(mut self, compression: Compression) -> Self {
        self.segment_compression = compression;
        self
    }

    /// How segments are compressed.
    #[must_use]
    pub fn segment_compression(&self) -> Compression {
        self.segment_compression
    }

    /// The quotas of shards and streams (default none): [`Limits::aws`], or one's own.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The quotas of shards and streams.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Bytes of the newest records in memory.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Bytes of segments in memory.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// Bytes of the largest record.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// Bytes of a file of a local journal.
    #[must_use]
    pub fn journal_segment_bytes(&self) -> u64 {
        self.journal_segment_bytes
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.tail_bytes < TAIL_BYTES_MIN {
            return Err(Error::invalid(format!("tail_bytes {} is below {TAIL_BYTES_MIN}", self.tail_bytes)));
        }
        if !(1..=RECORD_BYTES_MAX).contains(&self.record_bytes_max) {
            return Err(Error::invalid(format!(
                "record_bytes_max {} is not within 1..={RECORD_BYTES_MAX}",
                self.record_bytes_max
            )));
        }
        Ok(())
    }
}
