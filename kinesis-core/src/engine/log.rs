//! One shard's records, wherever they lie: sealed segments below, the tail above.
//!
//! Invariant: segments and tail together hold every record between the trim horizon and the shard's end, each findable
//! by its index; where both hold one, both hold the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable_core::ErrorKind;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::time::moment;
use crate::error::{Error, Result};
use crate::metrics::ShardCounters;
use crate::read::From;
use crate::segment::{SegmentList, SegmentMeta};
use crate::stream::{ChildShard, HashKeyRange, SequenceNumber, Shard, ShardId};
use crate::tail::{Budget, ShardStamp, Tail, TailEntry};

/// A shard as the engine holds it.
#[derive(Debug)]
pub(crate) struct ShardState {
    pub(crate) stamp: ShardStamp,
    pub(crate) range: HashKeyRange,
    pub(crate) opened_ms: i64,
    pub(crate) parent: Option<ShardId>,
    pub(crate) adjacent_parent: Option<ShardId>,
    /// Below every record's index.
    pub(crate) starting_index: u64,
    /// Index of the newest record; waiting readers watch it.
    pub(crate) end: watch::Sender<u64>,
    pub(crate) counters: ShardCounters,
    log: Mutex<ShardLog>,
}

/// What changes as records come and go.
#[derive(Debug, Default)]
pub(crate) struct ShardLog {
    pub(crate) tail: Tail,
    pub(crate) segments: SegmentList,
    /// Records up to this index are in segments.
    pub(crate) sealed_through: u64,
    /// Records up to this index are no longer in the tail.
    pub(crate) evicted_through: u64,
    /// Records up to this index were removed by retention.
    pub(crate) trimmed_through: u64,
    /// Records up to this index are no longer needed, however young they are. Whoever says so says it again after a restart.
    pub(crate) released_through: u64,
    /// Set once the shard takes no more records.
    pub(crate) closed: Option<Closing>,
    /// The shards that follow a closed one.
    pub(crate) children: Vec<ChildShard>,
}

/// When a shard was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closing {
    /// The position of the frame that closed it: above every record's index.
    pub(crate) at: u64,
    pub(crate) at_ms: i64,
}

/// Where the next records to read are.
#[derive(Debug)]
pub(crate) enum Found {
    /// In the tail: these, possibly none.
    Tail(Vec<TailEntry>),
    /// In this segment, from this index on.
    Segment(Arc<SegmentMeta>, u64),
}

impl ShardState {
    pub(crate) fn new(
        stamp: ShardStamp,
        range: HashKeyRange,
        opened_ms: i64,
        starting_index: u64,
        log: ShardLog,
    ) -> Self {
        let newest = log.sealed_through.max(log.trimmed_through);
        Self {
            stamp,
            range,
            opened_ms,
            parent: None,
            adjacent_parent: None,
            starting_index,
            end: watch::Sender::new(newest),
            counters: ShardCounters::default(),
            log: Mutex::new(log),
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, ShardLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.log().closed.is_none()
    }

    pub(crate) fn describe(&self) -> Shard {
        let closed = self.log().closed;
        Shard {
            id: self.stamp.id,
            hash_key_range: self.range,
            parent: self.parent,
            adjacent_parent: self.adjacent_parent,
            opened: moment(self.opened_ms),
            closed: closed.map(|closing| moment(closing.at_ms)),
            starting_sequence_number: self.stamp.number(self.starting_index, self.opened_ms),
            ending_sequence_number: closed.map(|closing| self.stamp.number(SequenceNumber::INDEX_MAX, closing.at_ms)),
        }
    }

    /// The index of `number`, which must have been given by this shard.
    pub(crate) fn index_of(&self, number: SequenceNumber) -> Result<u64> {
        if (number.shard(), number.shard_created_secs()) == (self.stamp.id, self.stamp.created_secs) {
            return Ok(number.index());
        }
        Err(Error::invalid(format!(
            "sequence number {number} was given by {} created in second {}, not by {} created in second {}",
            number.shard(),
            number.shard_created_secs(),
            self.stamp.id,
            self.stamp.created_secs
        )))
    }
}

impl ShardLog {
    /// Where the records from `from` on are; `budget` bounds those of the tail.
    pub(crate) fn find(&self, shard: ShardId, from: From, budget: &mut Budget) -> Result<Found> {
        let from = match from {
            From::Oldest => self.trimmed_through + 1,
            From::Index(index) if index > self.trimmed_through => index,
            From::Index(_) => {
                return Err(Error::new(
                    ErrorKind::Expired,
                    format!("the next record of {shard} was removed by retention; go on with TrimHorizon"),
                ));
            }
        };
        match self.segment_at(from) {
            Some(segment) => Ok(Found::Segment(segment, from)),
            None => Ok(Found::Tail(self.tail.read(from, u64::MAX, budget))),
        }
    }

    /// The segment, if any, that has the first record at or above `from` that a reader does not find in memory.
    pub(crate) fn segment_at(&self, from: u64) -> Option<Arc<SegmentMeta>> {
        let place = self.segments.partition_point(|segment| segment.last < from);
        self.segments.get(place).filter(|_| from <= self.evicted_through).cloned()
    }

    /// When the first record at or above `from` arrived; of one in a segment, when the segment's first did.
    pub(crate) fn arrival_at(&self, from: u64) -> Option<i64> {
        match self.segment_at(from) {
            Some(segment) => Some(segment.first_arrival_ms),
            None => self.tail.at_or_after(from).map(|entry| entry.arrival_ms),
        }
    }

    /// Records above index `after` and below `below` that are in no segment.
    pub(crate) fn unsealed(&self, after: u64, below: u64) -> Vec<TailEntry> {
        let mut all = Budget::new(usize::MAX, usize::MAX);
        self.tail.read(self.sealed_through.max(after).saturating_add(1), below, &mut all)
    }

    /// What the records up to index `through` that are in no segment cost in memory.
    pub(crate) fn unsealed_cost(&self, through: u64) -> u64 {
        self.unsealed(0, through.saturating_add(1)).iter().map(|entry| entry.cost() as u64).sum()
    }

    /// When the oldest record that is in no segment arrived.
    pub(crate) fn oldest_unsealed_ms(&self) -> Option<i64> {
        self.tail.at_or_after(self.sealed_through.saturating_add(1)).map(|entry| entry.arrival_ms)
    }

    /// Takes a sealed segment up.
    pub(crate) fn sealed(&mut self, segment: SegmentMeta) {
        self.sealed_through = segment.last;
        self.segments.push(segment);
    }

    /// Lets sealed records go from memory until at most `keep` bytes of them stay; answers the bytes freed.
    pub(crate) fn evict(&mut self, keep: usize) -> usize {
        let (freed, last) = self.tail.evict(self.sealed_through, keep);
        self.evicted_through = last.unwrap_or(self.evicted_through).max(self.evicted_through);
        freed
    }

    /// Bytes of the records that are still needed: of segments as files, with what is in them but no longer needed.
    #[cfg(feature = "firehose")]
    pub(crate) fn unreleased_bytes(&self) -> u64 {
        let segments = self.segments.iter().filter(|segment| segment.last > self.released_through);
        segments.map(|segment| segment.bytes).sum::<u64>()
            + self.unsealed(self.released_through, u64::MAX).iter().map(|entry| u64::from(entry.bytes)).sum::<u64>()
    }

    /// Takes off the oldest segments of which every record arrived before `before_ms` or is no longer needed; answers them
    /// and the bytes of memory freed.
    pub(crate) fn trim(&mut self, before_ms: i64) -> (Vec<Arc<SegmentMeta>>, usize) {
        let mut trimmed = Vec::new();
        let mut freed = 0;
        let released = self.released_through;
        let is_gone = |segment: &SegmentMeta| segment.latest_arrival_ms < before_ms || segment.last <= released;
        while let Some(segment) = self.segments.pop_front_if(is_gone) {
            self.trimmed_through = segment.last;
            let (bytes, last) = self.tail.evict(segment.last, 0);
            freed += bytes;
            self.evicted_through = self.evicted_through.max(last.unwrap_or(0)).max(segment.last);
            trimmed.push(segment);
        }
        (trimmed, freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(first: u64, last: u64, latest_arrival_ms: i64) -> SegmentMeta {
        SegmentMeta {
            name: format!("{first}"),
            first,
            last,
            records: 2,
            first_arrival_ms: 0,
            earliest_arrival_ms: None,
            latest_arrival_ms,
            bytes: 1,
            crc32c: 0,
            blocks: 1,
            footer_bytes: 0,
            footer_crc32c: 0,
        }
    }

    #[test]
    fn what_is_released_goes_whatever_its_age() {
        let mut log = ShardLog::default();
        for (first, last) in [(1, 4), (5, 9), (10, 12)] {
            log.sealed(segment(first, last, 100));
        }
        log.released_through = 8;
        assert_eq!(log.trim(50).0.len(), 1, "of the second segment a record is still needed");
        assert_eq!(log.trimmed_through, 4);
    }

    #[test]
    fn retention_takes_whole_segments_from_the_oldest_on() {
        let mut log = ShardLog::default();
        for (first, last, at) in [(1, 4, 10), (5, 9, 30), (10, 12, 20)] {
            log.sealed(segment(first, last, at));
        }
        log.evicted_through = 12;
        assert_eq!(log.trim(25).0.len(), 1, "the third is old, but the second is not");
        let find = |from| {
            let mut budget = Budget::new(1, 1);
            log.find(ShardId::new(0), from, &mut budget)
        };
        assert_eq!(find(From::Index(4)).unwrap_err().kind(), ErrorKind::Expired);
        assert!(matches!(find(From::Index(5)), Ok(Found::Segment(meta, 5)) if meta.first == 5));
        assert!(matches!(find(From::Oldest), Ok(Found::Segment(meta, 5)) if meta.first == 5));
        assert!(matches!(find(From::Index(13)), Ok(Found::Tail(none)) if none.is_empty()));
    }
}
