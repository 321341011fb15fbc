//! The messages that the journal knows, each once, in however many queues it is. Pure.
//!
//! Invariant: a message is here exactly as long as a journaled entry of a queue names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entry::Stored;
use super::work::CHUNK_SPAN;

/// A message's number: no two that are in queues at the same time have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(pub(crate) u64);

/// Messages by number.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    all: BTreeMap<MessageId, Shared>,
    next: u64,
    /// Chunks that changed since the last checkpoint.
    dirty: BTreeSet<u64>,
}

/// A message, and how many entries name it.
#[derive(Debug)]
struct Shared {
    stored: Arc<Stored>,
    entries: usize,
}

impl Messages {
    /// The number of the next message that comes.
    pub(crate) fn next(&self) -> MessageId {
        MessageId(self.next)
    }

    /// Counts one more entry that names the message.
    pub(crate) fn enter(&mut self, id: MessageId, stored: &Arc<Stored>) {
        self.next = self.next.max(id.0.saturating_add(1));
        let dirty = &mut self.dirty;
        let shared = self.all.entry(id).or_insert_with(|| {
            dirty.insert(id.0 / CHUNK_SPAN);
            Shared { stored: Arc::clone(stored), entries: 0 }
        });
        shared.entries += 1;
    }

    /// Counts one entry less.
    pub(crate) fn leave(&mut self, id: MessageId) {
        let Some(shared) = self.all.get_mut(&id) else { return };
        shared.entries -= 1;
        if shared.entries == 0 {
            self.all.remove(&id);
            self.dirty.insert(id.0 / CHUNK_SPAN);
        }
    }

    #[cfg(test)]
    pub(crate) fn ids(&self) -> BTreeSet<MessageId> {
        self.all.keys().copied().collect()
    }

    /// The messages of a chunk.
    pub(crate) fn chunk(&self, chunk: u64) -> Vec<(MessageId, Arc<Stored>)> {
        let first = chunk * CHUNK_SPAN;
        let range = self.all.range(MessageId(first)..=MessageId(first + (CHUNK_SPAN - 1)));
        range.map(|(id, shared)| (*id, Arc::clone(&shared.stored))).collect()
    }

    /// The chunks that changed since this was last asked.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.dirty)
    }

    /// Marks chunks as changed after all: their checkpoint failed.
    pub(crate) fn mark_dirty(&mut self, chunks: impl IntoIterator<Item = u64>) {
        self.dirty.extend(chunks);
    }
}
