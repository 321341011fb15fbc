//! The rows of a segment in memory, found by index and by time.
//!
//! Invariant: a record made here borrows its bytes from the segment's one buffer.

#[cfg(feature = "datafusion")]
use std::{ops::RangeInclusive, sync::Arc};

use arrow_array::FixedSizeBinaryArray;
#[cfg(feature = "datafusion")]
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
#[cfg(feature = "datafusion")]
use arrow_schema::{ArrowError, Schema};
use bytes::Bytes;

use crate::read::{PartitionKey, Record};
use crate::stream::HashKey;
use crate::tail::{Budget, ShardStamp};

/// One record batch of a segment.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(super) indices: ScalarBuffer<u64>,
    pub(super) arrivals: ScalarBuffer<i64>,
    pub(super) keys: Bytes,
    pub(super) key_offsets: OffsetBuffer<i32>,
    pub(super) hashes: FixedSizeBinaryArray,
    pub(super) data: Bytes,
    pub(super) data_offsets: OffsetBuffer<i32>,
}

/// A stretch of a segment that was fetched and checked: a block, or all of a small one.
#[derive(Debug)]
pub(crate) struct Stretch {
    batches: Vec<Rows>,
}

impl Stretch {
    pub(super) fn new(batches: Vec<Rows>) -> Self {
        Self { batches }
    }

    /// Its memory, about.
    pub(super) fn bytes(&self) -> usize {
        let of = |rows: &Rows| rows.data.len() + rows.keys.len() + rows.indices.len() * 48;
        self.batches.iter().map(of).sum()
    }

    /// Whether its rows are so many, from `first` to `last`.
    pub(super) fn is(&self, records: u64, first: u64, last: u64) -> bool {
        let indices = || self.batches.iter().flat_map(|rows| rows.indices.iter());
        let count: usize = self.batches.iter().map(|rows| rows.indices.len()).sum();
        count as u64 == records && indices().next() == Some(&first) && indices().next_back() == Some(&last)
    }

    /// Index of its first record.
    pub(crate) fn first(&self) -> Option<u64> {
        self.batches.first().and_then(|rows| rows.indices.first().copied())
    }

    /// Index of its last record.
    pub(crate) fn last(&self) -> Option<u64> {
        self.batches.last().and_then(|rows| rows.indices.last().copied())
    }

    /// Appends records from index `from` on to `records`, as many as `budget` lets in.
    pub(crate) fn read(&self, stamp: ShardStamp, from: u64, budget: &mut Budget, records: &mut Vec<Record>) {
        for rows in &self.batches {
            let start = rows.indices.partition_point(|index| *index < from);
            for row in start..rows.indices.len() {
                let Some(record) = rows.record(stamp, row) else { return };
                if !budget.admit(record.data.len() + record.partition_key.len()) {
                    return;
                }
                records.push(record);
            }
        }
    }

    /// Its records with indices of this range, as batches of [`columns`](super::columns) that borrow its bytes.
    #[cfg(feature = "datafusion")]
    pub(crate) fn batches(&self, indices: RangeInclusive<u64>) -> Result<Vec<RecordBatch>, ArrowError> {
        self.batches.iter().map(|rows| rows.batch(&indices)).collect()
    }

    /// The index of the first record that arrived at `arrival_ms` or later.
    pub(crate) fn first_at_or_after(&self, arrival_ms: i64) -> Option<u64> {
        self.batches.iter().find_map(|rows| {
            let row = rows.arrivals.iter().position(|arrival| *arrival >= arrival_ms)?;
            rows.indices.get(row).copied()
        })
    }
}

impl Rows {
    #[cfg(feature = "datafusion")]
    fn batch(&self, indices: &RangeInclusive<u64>) -> Result<RecordBatch, ArrowError> {
        let place = |index: u64| self.indices.partition_point(|at| *at < index);
        let (from, to) = (place(*indices.start()), place(indices.end().saturating_add(1)));
        let keys = StringArray::try_new(self.key_offsets.clone(), self.keys.clone().into(), None)?;
        let data = BinaryArray::try_new(self.data_offsets.clone(), self.data.clone().into(), None)?;
        let arrivals = TimestampMillisecondArray::new(self.arrivals.clone(), None).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::new(self.indices.clone(), None)),
            Arc::new(arrivals),
            Arc::new(keys),
            Arc::new(self.hashes.clone()),
            Arc::new(data),
        ];
        Ok(RecordBatch::try_new(Arc::new(Schema::new(super::columns())), columns)?.slice(from, to.saturating_sub(from)))
    }

    fn record(&self, stamp: ShardStamp, row: usize) -> Option<Record> {
        let (index, arrival_ms) = (*self.indices.get(row)?, *self.arrivals.get(row)?);
        let hash_key = HashKey(u128::from_be_bytes(*self.hashes.value(row).first_chunk()?));
        let partition_key = PartitionKey::new(slice(&self.keys, &self.key_offsets, row)?);
        Some(stamp.record(index, arrival_ms, partition_key, hash_key, slice(&self.data, &self.data_offsets, row)?))
    }
}

fn slice(values: &Bytes, offsets: &[i32], row: usize) -> Option<Bytes> {
    let (from, to) = (usize::try_from(*offsets.get(row)?).ok()?, usize::try_from(*offsets.get(row + 1)?).ok()?);
    (from <= to && to <= values.len()).then(|| values.slice(from..to))
}
