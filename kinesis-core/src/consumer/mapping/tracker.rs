//! How far a shard is done while several batches of it are at work.
//!
//! Invariant: a checkpoint passes no record that is not done.

use std::collections::BTreeMap;

use crate::stream::SequenceNumber;

#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Records that were read and lie above the checkpoint, and whether they are done.
    open: BTreeMap<SequenceNumber, bool>,
    checkpoint: Option<SequenceNumber>,
}

impl Tracker {
    /// A record was read; those come in order.
    pub(super) fn read(&mut self, record: SequenceNumber) {
        self.open.insert(record, false);
    }

    pub(super) fn done(&mut self, records: impl IntoIterator<Item = SequenceNumber>) {
        for record in records {
            if let Some(is_done) = self.open.get_mut(&record) {
                *is_done = true;
            }
        }
        while let Some(first) = self.open.first_entry().filter(|first| *first.get()) {
            self.checkpoint = Some(*first.key());
            first.remove();
        }
    }

    /// The last record of those that are all done.
    pub(super) fn checkpoint(&self) -> Option<SequenceNumber> {
        self.checkpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::ShardId;

    #[test]
    fn a_checkpoint_waits_for_the_slowest() {
        let number = |index| SequenceNumber::new(0, ShardId::new(0), index, 0);
        let mut tracker = Tracker::default();
        (1..=5).for_each(|index| tracker.read(number(index)));
        tracker.done([number(2), number(3), number(5)]);
        assert_eq!(tracker.checkpoint(), None);
        tracker.done([number(1)]);
        assert_eq!(tracker.checkpoint(), Some(number(3)));
        tracker.done([number(4), number(9)]);
        assert_eq!(tracker.checkpoint(), Some(number(5)));
    }
}
