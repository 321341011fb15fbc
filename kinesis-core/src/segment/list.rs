//! The segments of a shard, oldest first, in groups as the checkpoint keeps them.
//!
//! Invariant: a group is written once, when it is full, and removed once retention has taken its last segment. So what a
//! checkpoint writes does not grow with what the shard holds.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::SegmentMeta;

/// Segments of a full group.
pub(crate) const GROUP: u64 = 256;

/// A full group: its number, and its segments.
pub(crate) type Group = (u64, Vec<Arc<SegmentMeta>>);

/// A list that begins with the segment of number `begin`: the shard's first ever is 0.
#[derive(Debug, Default)]
pub(crate) struct SegmentList {
    begin: u64,
    segments: VecDeque<Arc<SegmentMeta>>,
    /// The full groups that the checkpoint has.
    written: Range<u64>,
    /// Those and, where a checkpoint was begun and nobody knows whether it was made, the ones it may have.
    begun: Range<u64>,
}

impl Deref for SegmentList {
    type Target = VecDeque<Arc<SegmentMeta>>;

    fn deref(&self) -> &Self::Target {
        &self.segments
    }
}

impl SegmentList {
    /// What a checkpoint has: groups by their numbers, and the segments behind the last of them, of which the first, of
    /// number `open_begin`, follows them. What lies up to index `trimmed_through` is gone.
    pub(crate) fn of_checkpoint(
        groups: Vec<Group>,
        open_begin: u64,
        open: Vec<Arc<SegmentMeta>>,
        trimmed_through: u64,
    ) -> Self {
        let written = match (groups.first(), groups.last()) {
            (Some((first, _)), Some((last, _))) => *first..*last + 1,
            _ => 0..0,
        };
        // Of a full group the end is always there, the beginning may have been trimmed before it was written.
        let first = groups
            .first()
            .map_or(open_begin, |(group, segments)| ((group + 1) * GROUP).saturating_sub(segments.len() as u64));
        let all: VecDeque<_> = groups.into_iter().flat_map(|(_, segments)| segments).chain(open).collect();
        let mut list = Self { begin: first, segments: all, begun: written.clone(), written };
        while list.pop_front_if(|segment| segment.last <= trimmed_through).is_some() {}
        list
    }

    pub(crate) fn push(&mut self, segment: SegmentMeta) {
        self.segments.push_back(Arc::new(segment));
    }

    pub(crate) fn pop_front_if(&mut self, gone: impl Fn(&SegmentMeta) -> bool) -> Option<Arc<SegmentMeta>> {
        let segment = self.segments.pop_front_if(|segment| gone(segment))?;
        self.begin += 1;
        Some(segment)
    }

    fn end(&self) -> u64 {
        self.begin + self.segments.len() as u64
    }

    /// The full groups of which something is left.
    fn full(&self) -> Range<u64> {
        let end = self.end() / GROUP;
        (self.begin / GROUP).min(end)..end
    }

    /// The groups that the checkpoint has, or may have, and the next one shall not have, and those that it lacks.
    pub(crate) fn changed_groups(&mut self) -> (Vec<u64>, Vec<Group>) {
        let full = self.full();
        self.begun = self.known_groups();
        let gone = self.begun.clone().filter(|group| !full.contains(group)).collect();
        let new = full.filter(|group| !self.written.contains(group));
        (gone, new.map(|group| (group, self.numbered(group * GROUP..(group + 1) * GROUP))).collect())
    }

    /// The groups that the checkpoint has or may have, and those that it lacks.
    pub(crate) fn known_groups(&self) -> Range<u64> {
        let full = self.full();
        match (self.begun.is_empty(), full.is_empty()) {
            (true, _) => full,
            (_, true) => self.begun.clone(),
            _ => self.begun.start.min(full.start)..self.begun.end.max(full.end),
        }
    }

    /// The segments that are in no full group, and the number of the first of them.
    pub(crate) fn open_group(&self) -> (u64, Vec<Arc<SegmentMeta>>) {
        let begin = (self.full().end * GROUP).max(self.begin);
        (begin, self.numbered(begin..self.end()))
    }

    /// The checkpoint has what [`changed_groups`](Self::changed_groups) said.
    pub(crate) fn set_written(&mut self) {
        self.written = self.full();
        self.begun = self.written.clone();
    }

    fn numbered(&self, numbers: Range<u64>) -> Vec<Arc<SegmentMeta>> {
        let place = |number: u64| usize::try_from(number.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        let (from, to) = (place(numbers.start), place(numbers.end).min(self.segments.len()));
        self.segments.range(from.min(to)..to).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn segment(number: u64) -> SegmentMeta {
        SegmentMeta {
            name: String::new(),
            first: number * 10 + 1,
            last: number * 10 + 10,
            records: 10,
            first_arrival_ms: 0,
            earliest_arrival_ms: Some(0),
            latest_arrival_ms: 0,
            bytes: 1,
            crc32c: 0,
            blocks: 1,
            footer_bytes: 0,
            footer_crc32c: 0,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Seal(u64),
        Trim(u64),
        Checkpoint { made: bool },
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..400_u64).prop_map(Step::Seal),
            (1..500_u64).prop_map(Step::Trim),
            any::<bool>().prop_map(|made| Step::Checkpoint { made }),
            Just(Step::Reopen),
        ]
    }

    /// What a checkpoint holds of a list.
    #[derive(Clone, Default)]
    struct Stored {
        groups: BTreeMap<u64, Vec<Arc<SegmentMeta>>>,
        open: (u64, Vec<Arc<SegmentMeta>>),
        sealed: u64,
        trimmed: u64,
    }

    proptest! {
        /// Whatever happens, a checkpoint gives the list as it was when it was made, and writes no group twice.
        #[test]
        fn a_checkpoint_has_every_segment_once(steps in proptest::collection::vec(step(), 1..40)) {
            let mut list = SegmentList::default();
            let (mut sealed, mut trimmed) = (0, 0);
            let mut stored = Stored::default();
            for step in steps {
                match step {
                    Step::Seal(count) => {
                        (sealed..sealed + count).for_each(|number| list.push(segment(number)));
                        sealed += count;
                    }
                    Step::Trim(count) => {
                        let to = (trimmed + count).min(sealed);
                        while list.pop_front_if(|segment| segment.last <= to * 10).is_some() {}
                        trimmed = to;
                    }
                    Step::Checkpoint { made } => {
                        let (gone, new) = list.changed_groups();
                        for group in gone {
                            stored.groups.remove(&group);
                        }
                        for (group, segments) in new {
                            stored.groups.insert(group, segments);
                        }
                        if made {
                            list.set_written();
                            (stored.open, stored.sealed, stored.trimmed) = (list.open_group(), sealed, trimmed);
                            prop_assert!(stored.open.1.len() < 256);
                            prop_assert_eq!(stored.groups.keys().copied().collect::<Vec<_>>(), list.written.clone().collect::<Vec<_>>());
                        } else {
                            // Then nobody knows what of it is there, and it is made again before anything else.
                            let (begin, open) = list.open_group();
                            (stored.open, stored.sealed, stored.trimmed) = ((begin, open), sealed, trimmed);
                        }
                    }
                    Step::Reopen => {
                        let groups = stored.groups.clone().into_iter().collect();
                        list = SegmentList::of_checkpoint(groups, stored.open.0, stored.open.1.clone(), stored.trimmed * 10);
                        (sealed, trimmed) = (stored.sealed, stored.trimmed);
                    }
                }
                let numbers: Vec<u64> = list.iter().map(|segment| segment.first / 10).collect();
                prop_assert_eq!(numbers, (trimmed..sealed).collect::<Vec<_>>());
                prop_assert_eq!(list.begin, trimmed);
            }
        }
    }
}
