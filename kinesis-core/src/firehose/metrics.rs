//! What a delivery stream has done and what it holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counters since the delivery stream was opened, and gauges of what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryMetrics {
    /// Records read from the source; those read again after a restart count again.
    pub read_records: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Rows in delivered objects, or records that a destination accepted.
    pub delivered_rows: u64,
    /// Bytes of delivered objects, or of such records.
    pub delivered_bytes: u64,
    /// Delivered objects, or requests of which records were accepted.
    pub delivered_objects: u64,
    /// Records under the error output prefix.
    pub rejected_records: u64,
    /// Records that the transform dropped.
    pub dropped_records: u64,
    /// Objects of [backups](super::SourceBackup) that were put.
    pub backup_objects: u64,
    /// Puts and requests that failed and were made again.
    pub retries: u64,
    /// Times at which retention had taken records before they were read.
    pub expired_reads: u64,
    /// Partitions that are buffered or under way.
    pub active_partitions: usize,
    /// Bytes in memory in open buffers.
    pub buffered_bytes: usize,
    /// Bytes in memory in sealed objects that are not in the store yet.
    pub undelivered_bytes: usize,
    /// Sealed objects that are not in the store yet.
    pub undelivered_objects: usize,
    /// The age of the oldest record that was read and is not in the store yet: Firehose's data freshness.
    pub freshness: Duration,
}

/// The metrics under one lock, which is never held across an await.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedMetrics(Arc<Mutex<DeliveryMetrics>>);

impl SharedMetrics {
    pub(super) fn lock(&self) -> MutexGuard<'_, DeliveryMetrics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
