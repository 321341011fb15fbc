//! Records that are put to a delivery stream itself: they are journaled in a stream of their own until they are delivered.
//!
//! Invariant: what was accepted is durable, and is read like the records of any stream. Beyond a bound of bytes that are not
//! delivered nothing is accepted.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::put::PutRecord;
use crate::stream::{DataStream, HashKey};
use crate::{Error, ErrorKind, Result};

/// Records in one call.
pub const PUT_RECORD_BATCH_MAX: usize = 500;
/// Bytes in one call.
pub const PUT_RECORD_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one record: 1,000 KiB.
pub const DELIVERY_RECORD_BYTES_MAX: usize = 1_000 * 1024;

/// Takes records for one delivery stream.
#[derive(Debug)]
pub(super) struct DirectPut {
    name: String,
    stream: DataStream,
    bytes_max: u64,
    backlog: Mutex<Backlog>,
}

/// What was accepted and is not delivered, about.
#[derive(Clone, Copy, Debug)]
struct Backlog {
    /// How far the stream was released when this was counted.
    released: u64,
    bytes: u64,
}

impl DirectPut {
    pub(super) fn new(name: String, stream: DataStream, bytes_max: u64) -> Self {
        let (released, bytes) = stream.unreleased();
        Self { name, stream, bytes_max, backlog: Mutex::new(Backlog { released, bytes }) }
    }

    /// Accepts all of these records, or none; answers the id of each.
    ///
    /// # Errors
    ///
    /// As [`put_record_batch`](super::DeliveryStream::put_record_batch).
    pub(super) async fn put(&self, records: Vec<Bytes>) -> Result<Vec<String>> {
        if !(1..=PUT_RECORD_BATCH_MAX).contains(&records.len()) {
            let count = records.len();
            return Err(Error::invalid(format!("a batch of {count} records: put 1 to {PUT_RECORD_BATCH_MAX}")));
        }
        for (place, record) in records.iter().enumerate() {
            if record.len() > DELIVERY_RECORD_BYTES_MAX {
                let bytes = record.len();
                return Err(Error::invalid(format!(
                    "record {place} of the batch has {bytes} bytes, at most {DELIVERY_RECORD_BYTES_MAX} are taken: split it"
                )));
            }
        }
        let bytes: usize = records.iter().map(Bytes::len).sum();
        if bytes > PUT_RECORD_BATCH_BYTES_MAX {
            return Err(Error::invalid(format!("a batch of {bytes} bytes: put at most {PUT_RECORD_BATCH_BYTES_MAX}")));
        }
        self.take(bytes as u64)?;
        let record = |data| PutRecord::new(data, "-").with_explicit_hash_key(HashKey(0));
        let put = self.stream.put_records(records.into_iter().map(record).collect()).await;
        let put = put.inspect_err(|_| self.give_back(bytes as u64))?;
        let id = |output: &crate::PutRecordOutput| output.sequence_number.to_string();
        Ok(put.records.iter().filter_map(|outcome| outcome.stored().map(id)).collect())
    }

    /// Takes room for so many bytes, unless too many wait.
    fn take(&self, bytes: u64) -> Result<()> {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        if backlog.bytes + bytes > self.bytes_max {
            let (released, unreleased) = self.stream.unreleased();
            // What is on its way into the stream is counted here only, so the count stays unless something has gone.
            if released != backlog.released {
                *backlog = Backlog { released, bytes: unreleased };
            }
        }
        // However large, one call finds room where nothing waits.
        if backlog.bytes > 0 && backlog.bytes + bytes > self.bytes_max {
            let message = format!(
                "{} bytes wait to be delivered by '{}', more than {} do not: put the records again later",
                backlog.bytes, self.name, self.bytes_max
            );
            return Err(Error::new(ErrorKind::Throttled, message));
        }
        backlog.bytes += bytes;
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        backlog.bytes = backlog.bytes.saturating_sub(bytes);
    }
}
