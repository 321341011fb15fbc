//! The rows of a segment in memory, found by index and by time.
//!
//! Invariant: a record made here borrows its bytes from the segment's one buffer.

use arrow_array::FixedSizeBinaryArray;
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use bytes::Bytes;

use super::meta::SegmentMeta;
use crate::read::{PartitionKey, Record};
use crate::stream::HashKey;
use crate::tail::{Limits, ShardStamp};

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

/// A segment that was fetched and checked.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) batches: Vec<Rows>,
    pub(super) bytes: usize,
}

impl Segment {
    /// Its memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether its rows are those that `meta` names.
    pub(super) fn agrees_with(&self, meta: &SegmentMeta) -> bool {
        let indices = || self.batches.iter().flat_map(|rows| rows.indices.iter());
        let records: usize = self.batches.iter().map(|rows| rows.indices.len()).sum();
        records as u64 == meta.records
            && indices().next() == Some(&meta.first)
            && indices().next_back() == Some(&meta.last)
    }

    /// Appends records from index `from` on to `records`, as many as `limits` lets in.
    pub(crate) fn read(&self, stamp: ShardStamp, from: u64, limits: &mut Limits, records: &mut Vec<Record>) {
        for rows in &self.batches {
            let start = rows.indices.partition_point(|index| *index < from);
            for row in start..rows.indices.len() {
                let Some(record) = rows.record(stamp, row) else { return };
                if !limits.admit(record.data.len() + record.partition_key.len()) {
                    return;
                }
                records.push(record);
            }
        }
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
