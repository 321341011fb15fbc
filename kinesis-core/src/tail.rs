//! The newest records of a shard, in memory, as slices of the journal's frames.
//!
//! Invariant: entries rise by index and are contiguous up to the shard's end; what is evicted was sealed before.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::engine::command::{FramedRecord, framed_record};
use crate::engine::time::{moment, seconds};
use crate::error::Result;
use crate::limits::{GET_RECORDS_BYTES_MAX, GET_RECORDS_MAX};
use crate::read::{PartitionKey, Record};
use crate::segment::SegmentRow;
use crate::stream::{HashKey, SequenceNumber, ShardId};

/// What a record costs in memory besides its bytes.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize = 96;

/// What turns an index into a sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardStamp {
    pub(crate) id: ShardId,
    pub(crate) created_secs: u64,
}

impl ShardStamp {
    pub(crate) fn number(self, index: u64, arrival_ms: i64) -> SequenceNumber {
        SequenceNumber::new(self.created_secs, self.id, index, seconds(arrival_ms))
    }

    pub(crate) fn record(
        self,
        index: u64,
        arrival_ms: i64,
        partition_key: PartitionKey,
        hash_key: HashKey,
        data: Bytes,
    ) -> Record {
        let sequence_number = self.number(index, arrival_ms);
        Record { sequence_number, arrival: moment(arrival_ms), partition_key, hash_key, data }
    }
}

/// How much one read may still take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) taken: usize,
}

impl Budget {
    /// What one read gives at most.
    pub(crate) fn of_a_read() -> Self {
        Self::new(GET_RECORDS_MAX, GET_RECORDS_BYTES_MAX)
    }

    pub(crate) fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes, taken: 0 }
    }

    /// Whether a record of this many bytes still fits; the first always does.
    pub(crate) fn admit(&mut self, bytes: usize) -> bool {
        if self.records == 0 || (self.taken > 0 && bytes > self.bytes) {
            return false;
        }
        self.records -= 1;
        self.taken += 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

/// A record in the tail.
#[derive(Clone, Debug)]
pub(crate) struct TailEntry {
    pub(crate) index: u64,
    pub(crate) arrival_ms: i64,
    pub(crate) frame: Bytes,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

impl TailEntry {
    /// What the entry counts against the tail's bytes.
    pub(crate) fn cost(&self) -> usize {
        entry_cost(usize::try_from(self.bytes).unwrap_or(usize::MAX))
    }

    pub(crate) fn record(&self, stamp: ShardStamp) -> Result<Record> {
        let FramedRecord { hash_key, partition_key, data } = framed_record(&self.frame, self.offset)?;
        Ok(stamp.record(self.index, self.arrival_ms, partition_key, hash_key, data))
    }

    pub(crate) fn row(&self) -> Result<SegmentRow> {
        let FramedRecord { hash_key, partition_key, data } = framed_record(&self.frame, self.offset)?;
        Ok(SegmentRow { index: self.index, arrival_ms: self.arrival_ms, partition_key, hash_key, data })
    }
}

/// What a record with this many bytes of data and partition key counts against the tail's bytes.
pub(crate) fn entry_cost(bytes: usize) -> usize {
    bytes.saturating_add(ENTRY_OVERHEAD_BYTES)
}

/// The entries of one shard.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<TailEntry>,
}

impl Tail {
    pub(crate) fn push(&mut self, entry: TailEntry) {
        debug_assert!(self.entries.back().is_none_or(|last| last.index < entry.index));
        self.entries.push_back(entry);
    }

    /// Entries from index `from` on, below `below`, as many as `budget` lets in.
    pub(crate) fn read(&self, from: u64, below: u64, budget: &mut Budget) -> Vec<TailEntry> {
        let start = self.entries.partition_point(|entry| entry.index < from);
        let run = self.entries.range(start..).take_while(|entry| {
            entry.index < below && budget.admit(usize::try_from(entry.bytes).unwrap_or(usize::MAX))
        });
        run.cloned().collect()
    }

    /// How many entries lie above index `after`, up to index `through`.
    #[cfg(feature = "datafusion")]
    pub(crate) fn count(&self, after: u64, through: u64) -> usize {
        let place = |index: u64| self.entries.partition_point(|entry| entry.index <= index);
        place(through).saturating_sub(place(after))
    }

    /// The first entry at or above `from`.
    pub(crate) fn at_or_after(&self, from: u64) -> Option<&TailEntry> {
        self.entries.get(self.entries.partition_point(|entry| entry.index < from))
    }

    /// The first entry that arrived at `arrival_ms` or later.
    pub(crate) fn first_at_or_after(&self, arrival_ms: i64) -> Option<u64> {
        self.entries.iter().find(|entry| entry.arrival_ms >= arrival_ms).map(|entry| entry.index)
    }

    /// Lets the oldest entries up to index `through` go, as long as more than `keep` bytes of such stay; answers what
    /// they cost and the last index gone.
    pub(crate) fn evict(&mut self, through: u64, keep: usize) -> (usize, Option<u64>) {
        let evictable = self.entries.partition_point(|entry| entry.index <= through);
        let mut left: usize = self.entries.range(..evictable).map(TailEntry::cost).sum();
        let (mut freed, mut last) = (0, None);
        while left > keep
            && let Some(entry) = self.entries.pop_front_if(|entry| entry.index <= through)
        {
            left -= entry.cost();
            freed += entry.cost();
            last = Some(entry.index);
        }
        (freed, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        let mut tail = Tail::default();
        for index in [2, 3, 7, 9] {
            tail.push(TailEntry { index, arrival_ms: 0, frame: Bytes::new(), offset: 0, bytes: 4 });
        }
        tail
    }

    fn indices(entries: &[TailEntry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn reads_run_from_any_index() {
        let mut budget = Budget::new(2, 100);
        assert_eq!(indices(&tail().read(3, u64::MAX, &mut budget)), [3, 7]);
        let mut budget = Budget::new(9, 5);
        assert_eq!(indices(&tail().read(4, u64::MAX, &mut budget)), [7]);
        let mut budget = Budget::new(9, 1);
        assert_eq!(indices(&tail().read(0, 7, &mut budget)), [2], "the first is given though it is too large");
    }

    #[test]
    fn only_what_is_sealed_is_evicted() {
        let mut tail = tail();
        let cost = entry_cost(4);
        assert_eq!(tail.evict(7, cost), (2 * cost, Some(3)));
        assert_eq!(tail.evict(7, 0), (cost, Some(7)));
        assert_eq!(tail.evict(7, 0), (0, None));
        assert_eq!(tail.at_or_after(0).map(|entry| entry.index), Some(9));
    }
}
