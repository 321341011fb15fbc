//! A work queue: messages that are ready, in order, and messages that a consumer holds. Pure.
//!
//! Invariant: an entry is in exactly one of the two; ready entries stand in the order of their numbers, so that what
//! comes back takes its old place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::entry::{Entry, Millis};
use super::spec::{Overflow, QueueSpec};

/// How many neighbouring numbers form one part of a checkpoint.
pub(crate) const CHUNK_SPAN: u64 = 1024;

/// One queue.
#[derive(Debug)]
pub(crate) struct WorkQueue {
    spec: QueueSpec,
    next_seq: u64,
    ready: VecDeque<Entry>,
    ready_bytes: u64,
    unacked: BTreeMap<u64, Entry>,
    /// Chunks that changed since the last checkpoint.
    dirty: BTreeSet<u64>,
    /// The timer that the state has set for it.
    pub(crate) timer: Option<Millis>,
}

impl WorkQueue {
    pub(crate) fn new(spec: QueueSpec, next_seq: u64) -> Self {
        let (ready, unacked, dirty) = Default::default();
        Self { spec, next_seq, ready, ready_bytes: 0, unacked, dirty, timer: None }
    }

    pub(crate) fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn unacked_len(&self) -> usize {
        self.unacked.len()
    }

    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    pub(crate) fn front(&self) -> Option<&Entry> {
        self.ready.front()
    }

    /// The ready entries, oldest first.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Entry> {
        self.ready.iter()
    }

    pub(crate) fn unacked_entries(&self) -> impl Iterator<Item = &Entry> {
        self.unacked.values()
    }

    /// The entry of that number, ready or not.
    pub(crate) fn entry(&self, seq: u64) -> Option<&Entry> {
        self.unacked.get(&seq).or_else(|| self.ready.get(self.position(seq).ok()?))
    }

    /// Whether a message of that size would be refused.
    pub(crate) fn refuses(&self, body_bytes: u64) -> bool {
        self.spec.overflow() == Overflow::RejectPublish
            && self.spec.is_exceeded_by(self.ready.len() as u64 + 1, self.ready_bytes + body_bytes)
    }

    /// The oldest ready message, if it has to leave.
    pub(crate) fn overflowing(&self) -> Option<&Entry> {
        let exceeded = self.spec.overflow() == Overflow::DropHead
            && self.spec.is_exceeded_by(self.ready.len() as u64, self.ready_bytes);
        self.ready.front().filter(|_| exceeded)
    }

    /// Adds an entry at the place that its number gives it.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.next_seq = self.next_seq.max(entry.seq + 1);
        self.touch(&entry);
        self.insert(entry);
    }

    /// Adds an entry that a consumer held when the checkpoint was made.
    pub(crate) fn push_unacked(&mut self, entry: Entry) {
        self.next_seq = self.next_seq.max(entry.seq + 1);
        self.unacked.insert(entry.seq, entry);
    }

    fn insert(&mut self, entry: Entry) {
        self.ready_bytes += entry.body_bytes();
        match self.ready.back() {
            Some(back) if back.seq > entry.seq => {
                let position = self.position(entry.seq).unwrap_or_else(|position| position);
                self.ready.insert(position, entry);
            }
            _ => self.ready.push_back(entry),
        }
    }

    /// Hands a ready entry out.
    pub(crate) fn deliver(&mut self, seq: u64) -> Option<&Entry> {
        let entry = self.take_ready(seq)?;
        self.touch(&entry);
        Some(self.unacked.entry(seq).or_insert(entry))
    }

    /// Takes an entry back to its old place. If an app had seen it, that counts.
    pub(crate) fn take_back(&mut self, seq: u64, counted: bool) -> bool {
        let Some(mut entry) = self.unacked.remove(&seq) else { return false };
        entry.redelivered = true;
        entry.returns = entry.returns.saturating_add(u32::from(counted));
        self.touch(&entry);
        self.insert(entry);
        true
    }

    /// Removes an entry for good.
    pub(crate) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.unacked.remove(&seq).or_else(|| self.take_ready(seq))?;
        self.touch(&entry);
        Some(entry)
    }

    /// Removes all ready entries.
    pub(crate) fn purge(&mut self) -> VecDeque<Entry> {
        self.ready_bytes = 0;
        let purged = std::mem::take(&mut self.ready);
        purged.iter().for_each(|entry| self.touch(entry));
        purged
    }

    /// The journaled entries of a chunk, and whether a consumer holds them.
    pub(crate) fn chunk(&self, chunk: u64) -> Vec<(Entry, bool)> {
        let (first, last) = (chunk * CHUNK_SPAN, (chunk + 1) * CHUNK_SPAN - 1);
        let start = self.ready.partition_point(|entry| entry.seq < first);
        let ready = self.ready.range(start..).take_while(|entry| entry.seq <= last).map(|entry| (entry, false));
        let unacked = self.unacked.range(first..=last).map(|(_, entry)| (entry, true));
        let entries = ready.chain(unacked).filter(|(entry, _)| entry.journaled);
        entries.map(|(entry, held)| (entry.clone(), held)).collect()
    }

    /// The chunks that changed since this was last asked.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.dirty)
    }

    /// Marks chunks as changed after all: their checkpoint failed.
    pub(crate) fn mark_dirty(&mut self, chunks: impl IntoIterator<Item = u64>) {
        self.dirty.extend(chunks);
    }

    fn take_ready(&mut self, seq: u64) -> Option<Entry> {
        let position = if self.ready.front()?.seq == seq { 0 } else { self.position(seq).ok()? };
        let entry = self.ready.remove(position)?;
        self.ready_bytes -= entry.body_bytes();
        Some(entry)
    }

    fn position(&self, seq: u64) -> Result<usize, usize> {
        self.ready.binary_search_by_key(&seq, |entry| entry.seq)
    }

    fn touch(&mut self, entry: &Entry) {
        if entry.journaled {
            self.dirty.insert(entry.seq / CHUNK_SPAN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::Message;
    use crate::name::{ExchangeName, RoutingKey};
    use crate::queue::{MessageId, Stored};

    fn queue_of(count: u64) -> WorkQueue {
        let spec = QueueSpec::new("q").unwrap();
        let mut queue = WorkQueue::new(spec.clone(), 0);
        for seq in 0..count {
            let stored = Stored::new(ExchangeName::default(), RoutingKey::default(), Message::new("12345"), 0);
            queue.push(Entry::new(seq, MessageId(seq), Arc::new(stored), &spec, 0));
        }
        queue
    }

    fn order(queue: &WorkQueue) -> Vec<u64> {
        queue.ready().map(|entry| entry.seq).collect()
    }

    #[test]
    fn what_comes_back_takes_its_old_place() {
        let mut queue = queue_of(6);
        for seq in [0, 1, 2, 3] {
            queue.deliver(seq).unwrap();
        }
        assert!(queue.take_back(2, true));
        assert!(queue.take_back(0, false));
        assert_eq!(order(&queue), [0, 2, 4, 5]);
        assert_eq!(queue.entry(2).map(|entry| (entry.redelivered, entry.returns)), Some((true, 1)));
        assert_eq!(queue.entry(0).map(|entry| (entry.redelivered, entry.returns)), Some((true, 0)));
        assert_eq!((queue.ready_bytes(), queue.unacked_len()), (20, 2));
        assert!(queue.remove(4).is_some() && queue.remove(1).is_some() && queue.remove(1).is_none());
        assert_eq!(order(&queue), [0, 2, 5]);
    }

    #[test]
    fn a_chunk_holds_ready_and_held_entries() {
        let mut queue = queue_of(CHUNK_SPAN + 2);
        queue.deliver(0).unwrap();
        assert_eq!(queue.take_dirty().into_iter().collect::<Vec<_>>(), [0, 1]);
        let first = queue.chunk(0);
        assert_eq!(first.len() as u64, CHUNK_SPAN);
        assert_eq!(first.iter().filter(|(_, held)| *held).map(|(entry, _)| entry.seq).collect::<Vec<_>>(), [0]);
        queue.remove(CHUNK_SPAN + 1).unwrap();
        assert_eq!(queue.take_dirty().into_iter().collect::<Vec<_>>(), [1]);
        assert_eq!(queue.chunk(1).len(), 1);
    }
}
