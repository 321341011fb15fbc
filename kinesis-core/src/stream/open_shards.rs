//! The open shards of a stream, and how splits and merges change them.
//!
//! Invariant: the ranges of the open shards cover every hash key exactly once, before and after any change.

use serde::{Deserialize, Serialize};

use super::hash_key::{HashKey, HashKeyRange};
use super::shard::{ChildShard, ShardId};
use crate::error::{Error, Result};

/// One open shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenShard {
    pub(crate) id: ShardId,
    pub(crate) range: HashKeyRange,
    /// Goes into the shard's sequence numbers.
    pub(crate) created_secs: u64,
}

/// All open shards, in the order of their ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenShards(Vec<OpenShard>);

/// A shard as a change opens it. Stored in journal frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenedShard {
    pub(crate) id: ShardId,
    pub(crate) range: HashKeyRange,
    pub(crate) created_secs: u64,
    pub(crate) parent: ShardId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) adjacent_parent: Option<ShardId>,
}

/// What becomes of open shards, step by step: each step closes shards and opens others that own the same hash keys.
#[derive(Debug)]
pub(crate) struct Reshaping {
    open: OpenShards,
    next_id: u32,
    now_secs: u64,
    pub(crate) opened: Vec<OpenedShard>,
    pub(crate) closed: Vec<ShardId>,
}

impl OpenedShard {
    pub(crate) fn has_parent(&self, id: ShardId) -> bool {
        self.parent == id || self.adjacent_parent == Some(id)
    }

    /// What a reader at the end of its parent is told.
    pub(crate) fn as_child(&self) -> ChildShard {
        let parents = [Some(self.parent), self.adjacent_parent].into_iter().flatten().collect();
        ChildShard { id: self.id, parents, hash_key_range: self.range }
    }
}

impl OpenShards {
    pub(crate) fn new(mut shards: Vec<OpenShard>) -> Self {
        shards.sort_unstable_by_key(|shard| shard.range.starting);
        Self(shards)
    }

    /// The shard that owns `key`.
    pub(crate) fn shard_of(&self, key: HashKey) -> Option<ShardId> {
        self.0.get(self.0.partition_point(|shard| shard.range.ending < key)).map(|shard| shard.id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn place(&self, id: ShardId) -> Result<usize> {
        self.0
            .iter()
            .position(|shard| shard.id == id)
            .ok_or_else(|| Error::invalid(format!("shard {id} is not open; only an open shard can be split or merged")))
    }
}

impl Reshaping {
    /// Begins with `open`; new shards are numbered from `next_id` on.
    pub(crate) fn of(open: &OpenShards, next_id: u32, now_secs: u64) -> Self {
        Self { open: open.clone(), next_id, now_secs, opened: Vec::new(), closed: Vec::new() }
    }

    /// What is open in the end.
    pub(crate) fn into_open(self) -> OpenShards {
        self.open
    }

    /// The number that the next new shard gets.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Splits a shard in two, of which the second begins at `at`.
    pub(crate) fn split(&mut self, id: ShardId, at: HashKey) -> Result<()> {
        let place = self.open.place(id)?;
        let Some(shard) = self.open.0.get(place).copied() else { return Ok(()) };
        let HashKeyRange { starting, ending } = shard.range;
        // AWS's bounds: each half has at least two keys.
        if at.0 <= starting.0.saturating_add(1) || at >= ending {
            return Err(Error::invalid(format!(
                "new starting hash key {at} does not split {id}: give one above {starting} + 1 and below {ending}"
            )));
        }
        self.cut(place, at)
    }

    /// Splits the shard at `place` whatever the size of its parts, of which neither is empty.
    fn cut(&mut self, place: usize, at: HashKey) -> Result<()> {
        let Some(shard) = self.open.0.get(place).copied() else { return Ok(()) };
        let lower = HashKeyRange { starting: shard.range.starting, ending: HashKey(at.0.saturating_sub(1)) };
        let upper = HashKeyRange { starting: at, ending: shard.range.ending };
        let created_secs = self.after(shard.created_secs);
        let children =
            [self.child(lower, created_secs, shard.id, None)?, self.child(upper, created_secs, shard.id, None)?];
        self.closed.push(shard.id);
        self.open.0.splice(place..=place, children);
        Ok(())
    }

    /// Merges two shards into one. Their ranges must be adjacent, in either order.
    pub(crate) fn merge(&mut self, id: ShardId, adjacent: ShardId) -> Result<()> {
        let (place, other) = (self.open.place(id)?, self.open.place(adjacent)?);
        if place.abs_diff(other) != 1 {
            return Err(Error::invalid(format!(
                "shards {id} and {adjacent} are not adjacent: their ranges do not meet"
            )));
        }
        self.join(place.min(other), id, adjacent)
    }

    /// Merges the shard at `lower` with the one above it.
    fn join(&mut self, lower: usize, parent: ShardId, adjacent: ShardId) -> Result<()> {
        let (Some(low), Some(high)) = (self.open.0.get(lower).copied(), self.open.0.get(lower + 1).copied()) else {
            return Ok(());
        };
        let range = HashKeyRange { starting: low.range.starting, ending: high.range.ending };
        let created_secs = self.after(low.created_secs.max(high.created_secs));
        let child = self.child(range, created_secs, parent, Some(adjacent))?;
        self.closed.extend([parent, adjacent]);
        self.open.0.splice(lower..=lower + 1, [child]);
        Ok(())
    }

    /// Changes the number of shards so that they share the hash keys evenly: splits where a new border is, merges where
    /// an old one is no more. Some shards may be opened and closed at once, as AWS's UpdateShardCount does it too.
    pub(crate) fn resize(&mut self, shards: u32) -> Result<()> {
        let wanted = HashKeyRange::split_evenly(shards);
        for border in wanted.iter().map(|range| range.starting) {
            let place = self.open.0.partition_point(|shard| shard.range.ending < border);
            if self.open.0.get(place).is_some_and(|shard| shard.range.starting < border) {
                self.cut(place, border)?;
            }
        }
        for (place, range) in wanted.iter().enumerate() {
            while let (Some(low), Some(high)) = (self.open.0.get(place), self.open.0.get(place + 1))
                && low.range.ending < range.ending
            {
                let (low, high) = (low.id, high.id);
                self.join(place, low, high)?;
            }
        }
        Ok(())
    }

    /// A child's second of creation is later than its parent's, whatever the clock says: so its numbers are greater.
    fn after(&self, created_secs: u64) -> u64 {
        self.now_secs.max(created_secs.saturating_add(1))
    }

    fn child(
        &mut self,
        range: HashKeyRange,
        created_secs: u64,
        parent: ShardId,
        adjacent_parent: Option<ShardId>,
    ) -> Result<OpenShard> {
        let id = ShardId::new(self.next_id);
        self.next_id = self.next_id.checked_add(1).ok_or_else(|| Error::limit("the stream has no shard ids left"))?;
        self.opened.push(OpenedShard { id, range, created_secs, parent, adjacent_parent });
        Ok(OpenShard { id, range, created_secs })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(shards: u32) -> OpenShards {
        let shard = |(id, range)| OpenShard { id: ShardId::new(id), range, created_secs: 5 };
        OpenShards::new((0..).zip(HashKeyRange::split_evenly(shards)).map(shard).collect())
    }

    /// Checks that the ranges cover every key once, and that opened and closed shards account for what is open.
    fn check(before: &OpenShards, after: Reshaping) {
        let mut expected: Vec<_> = before.0.iter().map(|shard| shard.id).collect();
        expected.extend(after.opened.iter().map(|shard| shard.id));
        expected.retain(|id| !after.closed.contains(id));
        expected.sort_unstable();
        let created = |id: ShardId| {
            let opened = after.opened.iter().find(|shard| shard.id == id).map(|shard| shard.created_secs);
            opened.unwrap_or(5)
        };
        for shard in &after.opened {
            for parent in [Some(shard.parent), shard.adjacent_parent].into_iter().flatten() {
                assert!(created(parent) < shard.created_secs, "{shard:?}");
            }
        }
        let open = after.into_open();
        let mut ids: Vec<_> = open.0.iter().map(|shard| shard.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected);
        assert_eq!(open.0.first().unwrap().range.starting, HashKey(0));
        assert_eq!(open.0.last().unwrap().range.ending, HashKey::MAX);
        for pair in open.0.windows(2) {
            assert_eq!(pair[0].range.ending.0 + 1, pair[1].range.starting.0);
        }
    }

    #[test]
    fn a_split_takes_aws_bounds() {
        let before = open(2);
        let (id, HashKeyRange { starting, ending }) = (ShardId::new(1), before.0[1].range);
        for bad in [HashKey(0), starting, HashKey(starting.0 + 1), ending] {
            assert!(Reshaping::of(&before, 2, 9).split(id, bad).is_err(), "{bad}");
        }
        let mut split = Reshaping::of(&before, 2, 9);
        split.split(id, HashKey(starting.0 + 2)).unwrap();
        assert!(split.split(id, HashKey(ending.0 - 5)).is_err(), "a closed shard is not split again");
        check(&before, split);
    }

    #[test]
    fn only_neighbours_merge() {
        let before = open(3);
        let [zero, one, two] = [0, 1, 2].map(ShardId::new);
        let mut merge = Reshaping::of(&before, 3, 9);
        assert!(merge.merge(zero, two).is_err() && merge.merge(zero, zero).is_err());
        merge.merge(two, one).unwrap();
        assert_eq!((merge.opened[0].parent, merge.opened[0].adjacent_parent), (two, Some(one)));
        check(&before, merge);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_resize_is_even_whatever_was_before(
            from in 1u32..40,
            to in prop::collection::vec(1u32..40, 1..4),
            splits in prop::collection::vec(any::<u128>(), 0..8),
        ) {
            let mut before = open(from);
            let mut next_id = from;
            for at in splits {
                let mut split = Reshaping::of(&before, next_id, 9);
                let id = before.shard_of(HashKey(at)).unwrap();
                if split.split(id, HashKey(at)).is_ok() {
                    next_id = split.next_id();
                    before = split.into_open();
                }
            }
            for to in to {
                let mut resize = Reshaping::of(&before, next_id, 100);
                resize.resize(to).unwrap();
                let ranges: Vec<_> = resize.open.0.iter().map(|shard| shard.range).collect();
                prop_assert_eq!(ranges, HashKeyRange::split_evenly(to));
                next_id = resize.next_id();
                let after = resize.open.clone();
                before = after;
            }
        }
    }
}
