//! Records on their way into one object, and all such buffers of a delivery stream.
//!
//! Payloads are copied into one run of bytes: a record that is kept would keep the whole frame it came in.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::error_output::{ErrorOutputType, Failure};
use super::event::PartitionKeys;
use super::ledger::BUFFER_RUNS_MAX;
use super::place::{self, Part};
use super::range_set::RangeSet;
use crate::limits::{GET_RECORDS_BYTES_MAX, GET_RECORDS_MAX};
use crate::stream::{SequenceNumber, ShardId};
use crate::tail::Budget;

/// What a record costs in memory beside its payload.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// What the records of a buffer have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BufferKey {
    Partition(PartitionKeys),
    Failed(ErrorOutputType),
    /// Left out by the transform, and only backed up.
    Dropped,
}

/// What is pushed into a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Push<'a> {
    pub(super) sequence_number: SequenceNumber,
    pub(super) part: Part,
    pub(super) arrival: DateTime<Utc>,
    /// What is delivered.
    pub(super) data: &'a [u8],
    /// What it came as, if that is backed up and differs.
    pub(super) source: Option<&'a [u8]>,
    /// The record that was read before it from the same shard.
    pub(super) previous: Option<SequenceNumber>,
    /// Of `data`, if it is known.
    pub(super) signature: Option<u64>,
}

/// One record's place in its buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) sequence_number: SequenceNumber,
    pub(super) part: Part,
    pub(super) arrival: DateTime<Utc>,
    /// Of the payload, if it is known.
    pub(super) signature: Option<u64>,
    end: usize,
}

/// Records on their way into one object.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    data: Vec<u8>,
    entries: Vec<Entry>,
    failures: BTreeMap<usize, Failure>,
    failure_bytes: usize,
    sources: BTreeMap<usize, Box<[u8]>>,
    source_bytes: usize,
    members: BTreeMap<ShardId, RangeSet>,
    runs: usize,
    /// For each shard the record that was read before the first that is in here.
    behind: BTreeMap<ShardId, Option<SequenceNumber>>,
    oldest: Option<DateTime<Utc>>,
    opened: Duration,
}

impl Buffer {
    /// Adds a record, or a part of one.
    pub(super) fn push(&mut self, record: Push<'_>, failure: Option<Failure>) {
        let Push { sequence_number, part, arrival, data, source, previous, signature } = record;
        if let Some(source) = source {
            self.source_bytes += source.len();
            self.sources.insert(self.entries.len(), source.into());
        }
        if let Some(failure) = failure {
            self.failure_bytes += failure.message.len();
            self.failures.insert(self.entries.len(), failure);
        }
        self.data.extend_from_slice(data);
        self.entries.push(Entry { sequence_number, part, arrival, signature, end: self.data.len() });
        let (shard, index) = (sequence_number.shard(), sequence_number.index());
        let last = part.last(index);
        let first = match part.number {
            0 => previous.map_or(0, |previous| place::first(previous.index() + 1)).min(last),
            _ => part.first(index),
        };
        let members = self.members.entry(shard).or_default();
        let runs = members.runs();
        members.insert(first, last);
        self.runs = self.runs - runs + members.runs();
        self.behind.entry(shard).or_insert(previous);
        self.oldest = Some(self.oldest.map_or(arrival, |oldest| oldest.min(arrival)));
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.source_bytes + self.failure_bytes + self.entries.len() * RECORD_OVERHEAD_BYTES
    }

    pub(super) fn payload_bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn oldest(&self) -> DateTime<Utc> {
        self.oldest.unwrap_or_default()
    }

    pub(super) fn members(&self) -> &BTreeMap<ShardId, RangeSet> {
        &self.members
    }

    /// What each record came as.
    pub(super) fn sources(&self) -> impl Iterator<Item = &[u8]> {
        self.records().enumerate().map(|(at, (_, data, _))| self.sources.get(&at).map_or(data, |source| source))
    }

    /// Each record that has not failed, with its payload, which is not copied.
    pub(super) fn into_kept(self) -> Vec<(Entry, Bytes)> {
        let data = Bytes::from(self.data);
        let mut kept = Vec::with_capacity(self.entries.len() - self.failures.len());
        let mut start = 0;
        for (at, entry) in self.entries.into_iter().enumerate() {
            if !self.failures.contains_key(&at) {
                kept.push((entry, data.slice(start..entry.end)));
            }
            start = entry.end;
        }
        kept
    }

    /// Each record with its payload and, if it has failed, why.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Entry, &[u8], Option<&Failure>)> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.end));
        self.entries.iter().zip(starts).enumerate().map(|(at, (entry, start))| {
            let data = self.data.get(start..entry.end).unwrap_or_default();
            (entry, data, self.failures.get(&at))
        })
    }
}

/// How much may be read where `room` bytes are left, whatever the size of the records.
pub(super) fn read_budget(room: usize) -> Budget {
    let half = room / 2;
    Budget::new((half / RECORD_OVERHEAD_BYTES).clamp(1, GET_RECORDS_MAX), half.clamp(1, GET_RECORDS_BYTES_MAX))
}

/// All open buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    open: BTreeMap<BufferKey, Buffer>,
    bytes: usize,
}

impl Buffers {
    /// Adds a record to the buffer of this key; `now` is its age's zero if it is new.
    pub(super) fn push(&mut self, key: BufferKey, now: Duration, record: Push<'_>, failure: Option<Failure>) {
        let new = || Buffer { opened: now, ..Buffer::default() };
        let buffer = self.open.entry(key).or_insert_with(new);
        let before = buffer.bytes();
        buffer.push(record, failure);
        self.bytes += buffer.bytes() - before;
    }

    pub(super) fn contains(&self, key: &BufferKey) -> bool {
        self.open.contains_key(key)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The keys of all partitions that are open.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &PartitionKeys> {
        self.open.keys().filter_map(|key| if let BufferKey::Partition(keys) = key { Some(keys) } else { None })
    }

    pub(super) fn take(&mut self, key: &BufferKey) -> Option<Buffer> {
        let buffer = self.open.remove(key)?;
        self.bytes -= buffer.bytes();
        Some(buffer)
    }

    /// Takes the first of these buffers: one, and more as long as all have at most `runs_max` runs.
    pub(super) fn take_within(
        &mut self,
        keys: impl IntoIterator<Item = BufferKey>,
        runs_max: usize,
    ) -> Vec<(BufferKey, Buffer)> {
        let (mut taken, mut runs) = (Vec::new(), 0);
        for key in keys {
            runs += self.open.get(&key).map_or(0, |buffer| buffer.runs);
            if !taken.is_empty() && runs > runs_max {
                break;
            }
            if let Some(buffer) = self.take(&key) {
                taken.push((key, buffer));
            }
        }
        taken
    }

    /// Buffers that are large or old enough, or in too many pieces.
    pub(super) fn due(&self, bytes: usize, interval: Duration, now: Duration) -> Vec<BufferKey> {
        let due = |buffer: &Buffer| {
            buffer.payload_bytes() >= bytes
                || buffer.runs > BUFFER_RUNS_MAX
                || now.saturating_sub(buffer.opened) >= interval
        };
        self.open.iter().filter(|(_, buffer)| due(buffer)).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn all(&self) -> Vec<BufferKey> {
        self.open.keys().cloned().collect()
    }

    /// The largest buffers, enough of them that at most `bytes` stay.
    pub(super) fn largest_above(&self, bytes: usize) -> Vec<BufferKey> {
        let mut by_size: Vec<_> = self.open.iter().map(|(key, buffer)| (buffer.bytes(), key)).collect();
        by_size.sort_by(|left, right| right.cmp(left));
        let mut excess = self.bytes.saturating_sub(bytes);
        let mut taken = Vec::new();
        for (size, key) in by_size {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(size);
            taken.push(key.clone());
        }
        taken
    }

    /// The buffer that was opened first.
    pub(super) fn eldest(&self) -> Option<BufferKey> {
        self.open.iter().min_by_key(|(_, buffer)| buffer.opened).map(|(key, _)| key.clone())
    }

    /// When the first buffer becomes old enough.
    pub(super) fn next_due(&self, interval: Duration) -> Option<Duration> {
        self.open.values().map(|buffer| buffer.opened.saturating_add(interval)).min()
    }

    /// When the oldest record that is in an open buffer arrived.
    pub(super) fn oldest(&self) -> Option<DateTime<Utc>> {
        self.open.values().filter_map(|buffer| buffer.oldest).min()
    }

    /// For each shard with a record in an open buffer: the record that was read before the first such one.
    pub(super) fn behind(&self) -> BTreeMap<ShardId, Option<SequenceNumber>> {
        let mut behind = BTreeMap::new();
        for (&shard, &previous) in self.open.values().flat_map(|buffer| &buffer.behind) {
            behind.entry(shard).and_modify(|least: &mut Option<_>| *least = previous.min(*least)).or_insert(previous);
        }
        behind
    }
}

/// Where `place` falls in rising, disjoint runs: used to hand re-read records to the objects they were promised to.
pub(super) fn owner<T: Copy>(runs: &BTreeMap<u64, (u64, T)>, place: u64) -> Option<T> {
    let below = runs.range((Bound::Unbounded, Bound::Included(place))).next_back();
    below.filter(|(_, (last, _))| place <= *last).map(|(_, (_, owner))| *owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(shard: u32, index: u64) -> SequenceNumber {
        SequenceNumber::new(1, ShardId::new(shard), index, 2)
    }

    fn record(index: u64, part: Part, data: &[u8], previous: Option<SequenceNumber>) -> Push<'_> {
        let (sequence_number, arrival) = (number(0, index), DateTime::UNIX_EPOCH);
        Push { sequence_number, part, arrival, data, source: None, previous, signature: None }
    }

    fn key(day: &str) -> BufferKey {
        BufferKey::Partition(PartitionKeys::new([("day", day)]))
    }

    fn push(buffers: &mut Buffers, day: &str, index: u64, previous: Option<u64>, now: u64) {
        let previous = previous.map(|previous| number(0, previous));
        buffers.push(key(day), Duration::from_secs(now), record(index, Part::WHOLE, b"0123456789", previous), None);
    }

    #[test]
    fn a_record_owns_the_indices_behind_its_predecessor() {
        let mut buffers = Buffers::default();
        push(&mut buffers, "a", 3, None, 0);
        push(&mut buffers, "a", 7, Some(3), 0);
        push(&mut buffers, "b", 8, Some(7), 0);
        push(&mut buffers, "a", 20, Some(8), 0);
        let buffer = buffers.take(&key("a")).unwrap();
        let runs: Vec<_> = buffer.members()[&ShardId::new(0)].iter().collect();
        let first = place::first;
        assert_eq!(runs, [(0, first(8) - 1), (first(9), first(21) - 1)]);
        assert_eq!(buffers.behind()[&ShardId::new(0)], Some(number(0, 7)));
        assert_eq!(buffer.records().map(|(_, data, _)| data.len()).collect::<Vec<_>>(), [10, 10, 10]);
    }

    #[test]
    fn a_part_owns_its_place_and_the_last_one_those_behind() {
        let mut buffer = Buffer::default();
        let part = |number, is_last| Part { number, is_last };
        for (part, previous) in [(part(1, false), 3), (part(3, true), 3)] {
            buffer.push(record(5, part, b"x", Some(number(0, previous))), None);
        }
        buffer.push(record(9, part(0, false), b"x", Some(number(0, 5))), None);
        let runs: Vec<_> = buffer.members()[&ShardId::new(0)].iter().collect();
        let first = place::first;
        assert_eq!(runs, [(first(5) + 1, first(5) + 1), (first(5) + 3, first(9))]);
    }

    #[test]
    fn what_is_kept_and_what_it_came_as() {
        let mut buffer = Buffer::default();
        buffer.push(Push { source: Some(b"a"), ..record(1, Part::WHOLE, b"A", None) }, None);
        buffer.push(record(2, Part::WHOLE, b"b", None), Some(Failure::transform("no".to_owned())));
        buffer.push(record(3, Part::WHOLE, b"c", None), None);
        assert_eq!(buffer.sources().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        let kept: Vec<_> = buffer.into_kept().into_iter().map(|(entry, data)| (entry.sequence_number, data)).collect();
        assert_eq!(kept, [(number(0, 1), Bytes::from("A")), (number(0, 3), Bytes::from("c"))]);
    }

    #[test]
    fn buffers_are_due_by_size_and_by_age() {
        let mut buffers = Buffers::default();
        push(&mut buffers, "a", 1, None, 0);
        push(&mut buffers, "b", 2, Some(1), 50);
        push(&mut buffers, "b", 3, Some(2), 60);
        let interval = Duration::from_secs(60);
        assert_eq!(buffers.due(20, interval, Duration::from_secs(59)), [key("b")]);
        assert_eq!(buffers.due(21, interval, Duration::from_secs(60)), [key("a")]);
        assert_eq!(buffers.next_due(interval), Some(Duration::from_secs(60)));
        assert_eq!(buffers.eldest(), Some(key("a")));
        assert_eq!(buffers.largest_above(100), [key("b")]);
        assert_eq!(buffers.largest_above(0), [key("b"), key("a")]);
        let bytes = buffers.bytes();
        let taken = buffers.take(&key("b")).unwrap().bytes() + buffers.take(&key("a")).unwrap().bytes();
        assert_eq!((bytes, buffers.bytes()), (taken, 0));
    }

    #[test]
    fn an_index_belongs_to_the_run_it_falls_into() {
        let runs: BTreeMap<u64, (u64, char)> = [(0, (4, 'a')), (5, (5, 'b')), (9, (12, 'a'))].into();
        let owners: String = (0..14).map(|index| owner(&runs, index).unwrap_or('-')).collect();
        assert_eq!(owners, "aaaaab---aaaa-");
    }
}
