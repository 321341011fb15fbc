//! Which shards get a lease, and when.
//!
//! Invariant: no shard has a lease before all of its parents were processed to their end, and none is forgotten: what
//! follows a processed shard begins with its oldest record.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::lease::{Checkpoint, Lease};
use crate::stream::{Shard, ShardId};

/// Where an application begins that has no lease yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitialPosition {
    /// With what is put from then on: the shards that are open.
    #[default]
    Latest,
    /// With the oldest records there are.
    TrimHorizon,
    /// With the records that arrived then or later.
    AtTimestamp(DateTime<Utc>),
}

/// The leases that `shards` need besides those there are. `newest` is a shard's position behind all that is in it.
pub(in crate::consumer) fn missing(
    shards: &[Shard],
    leases: &BTreeMap<ShardId, Lease>,
    initial: InitialPosition,
    newest: impl Fn(ShardId) -> Checkpoint,
) -> Vec<Lease> {
    let lineage = Lineage::new(shards, leases, initial);
    let unleased = shards.iter().filter(|shard| !lineage.is_behind(shard.id));
    let needed = unleased.filter_map(|shard| {
        let begin = match lineage.begin(shard)? {
            Begin::Oldest => Checkpoint::TrimHorizon,
            Begin::Initial => match initial {
                InitialPosition::Latest => newest(shard.id),
                InitialPosition::TrimHorizon => Checkpoint::TrimHorizon,
                InitialPosition::AtTimestamp(at) => Checkpoint::AtTimestamp(at),
            },
        };
        Some(Lease::new(shard.id, parents(shard).collect(), begin))
    });
    needed.collect()
}

/// The leases of shards that the stream no longer has.
pub(super) fn outlived(shards: &[Shard], leases: &BTreeMap<ShardId, Lease>) -> Vec<ShardId> {
    let known: BTreeSet<ShardId> = shards.iter().map(|shard| shard.id).collect();
    leases.keys().filter(|shard| !known.contains(shard)).copied().collect()
}

fn parents(shard: &Shard) -> impl Iterator<Item = ShardId> {
    shard.parent.into_iter().chain(shard.adjacent_parent)
}

/// Where a shard's lease begins.
enum Begin {
    /// With its oldest record, since all before it was processed.
    Oldest,
    /// Where the application begins.
    Initial,
}

struct Lineage<'a> {
    known: BTreeMap<ShardId, &'a Shard>,
    leases: &'a BTreeMap<ShardId, Lease>,
    /// Shards with a lease, and all that those came from.
    behind: BTreeSet<ShardId>,
    initial: InitialPosition,
}

impl<'a> Lineage<'a> {
    fn new(shards: &'a [Shard], leases: &'a BTreeMap<ShardId, Lease>, initial: InitialPosition) -> Self {
        let known: BTreeMap<ShardId, &Shard> = shards.iter().map(|shard| (shard.id, shard)).collect();
        let mut behind = BTreeSet::new();
        let mut next: Vec<ShardId> = leases.keys().copied().collect();
        while let Some(shard) = next.pop() {
            if behind.insert(shard) {
                next.extend(known.get(&shard).into_iter().flat_map(|shard| parents(shard)));
            }
        }
        Self { known, leases, behind, initial }
    }

    /// Whether the shard has a lease, or one that came of it has.
    fn is_behind(&self, shard: ShardId) -> bool {
        self.behind.contains(&shard)
    }

    /// None as long as parents are to be processed first, and for what lies before the application's beginning.
    fn begin(&self, shard: &Shard) -> Option<Begin> {
        let parents: Vec<&Shard> = parents(shard).filter_map(|parent| self.known.get(&parent).copied()).collect();
        if parents.iter().any(|parent| self.leases.get(&parent.id).is_some_and(|lease| !lease.is_done())) {
            return None;
        }
        let has_ended = parents.iter().any(|parent| self.leases.contains_key(&parent.id));
        // A parent without a lease, of which no other shard with one came, gets its own first if it gets one at all.
        let waits = parents.iter().any(|parent| !self.is_behind(parent.id) && self.is_reached(parent));
        match (waits, has_ended) {
            (true, _) => None,
            (false, true) => Some(Begin::Oldest),
            (false, false) => self.is_reached(shard).then_some(Begin::Initial),
        }
    }

    /// Whether a shard has records at or behind the application's beginning.
    fn is_reached(&self, shard: &Shard) -> bool {
        match self.initial {
            InitialPosition::Latest => shard.closed.is_none(),
            InitialPosition::TrimHorizon => true,
            InitialPosition::AtTimestamp(at) => shard.closed.is_none_or(|closed| closed > at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stream::{HashKey, HashKeyRange, SequenceNumber};

    fn shard(index: u32, parents: &[u32], closed: Option<u64>) -> Shard {
        let number = SequenceNumber::new(0, ShardId::new(index), 1, 0);
        let moment = |secs: u64| DateTime::<Utc>::default() + Duration::from_secs(secs);
        Shard {
            id: ShardId::new(index),
            hash_key_range: HashKeyRange { starting: HashKey(0), ending: HashKey::MAX },
            parent: parents.first().copied().map(ShardId::new),
            adjacent_parent: parents.get(1).copied().map(ShardId::new),
            opened: moment(u64::from(index)),
            closed: closed.map(moment),
            starting_sequence_number: number,
            ending_sequence_number: closed.map(|_| number),
        }
    }

    /// The family of Amazon's documentation: 0 and 1 split to 2..=5, of which 3 and 4 merged to 6 and 2 split to 7 and 8.
    fn family() -> Vec<Shard> {
        vec![
            shard(0, &[], Some(10)),
            shard(1, &[], Some(10)),
            shard(2, &[0], Some(20)),
            shard(3, &[0], Some(20)),
            shard(4, &[1], Some(20)),
            shard(5, &[1], None),
            shard(6, &[3, 4], None),
            shard(7, &[2], None),
            shard(8, &[2], None),
        ]
    }

    fn needed(leases: &[Lease], initial: InitialPosition) -> Vec<(u32, Checkpoint)> {
        let leases = leases.iter().map(|lease| (lease.shard, lease.clone())).collect();
        let newest = |shard| Checkpoint::after(SequenceNumber::new(0, shard, 9, 0));
        missing(&family(), &leases, initial, newest)
            .iter()
            .map(|lease| (lease.shard.index(), lease.checkpoint))
            .collect()
    }

    fn lease(index: u32, checkpoint: Checkpoint) -> Lease {
        Lease::new(ShardId::new(index), Vec::new(), checkpoint)
    }

    #[test]
    fn an_application_begins_where_it_is_told() {
        let oldest = needed(&[], InitialPosition::TrimHorizon);
        assert_eq!(oldest, [(0, Checkpoint::TrimHorizon), (1, Checkpoint::TrimHorizon)]);
        let latest = needed(&[], InitialPosition::Latest);
        assert_eq!(latest.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [5, 6, 7, 8]);
        assert!(latest.iter().all(|(_, checkpoint)| matches!(checkpoint, Checkpoint::After { .. })));
        let at = DateTime::<Utc>::default() + Duration::from_secs(15);
        let timed = needed(&[], InitialPosition::AtTimestamp(at));
        assert_eq!(timed, [2, 3, 4, 5].map(|shard| (shard, Checkpoint::AtTimestamp(at))));
    }

    #[test]
    fn children_wait_for_all_of_their_parents() {
        let begun = [lease(0, Checkpoint::TrimHorizon), lease(1, Checkpoint::ShardEnd)];
        let of_one = [(4, Checkpoint::TrimHorizon), (5, Checkpoint::TrimHorizon)];
        assert_eq!(needed(&begun, InitialPosition::TrimHorizon), of_one);
        // 6 waits for 3, which is not done.
        let half = [
            lease(2, Checkpoint::ShardEnd),
            lease(3, Checkpoint::TrimHorizon),
            lease(4, Checkpoint::ShardEnd),
            lease(5, Checkpoint::TrimHorizon),
        ];
        let children = [(7, Checkpoint::TrimHorizon), (8, Checkpoint::TrimHorizon)];
        assert_eq!(needed(&half, InitialPosition::TrimHorizon), children);
        assert_eq!(needed(&half, InitialPosition::Latest), children);
        let both = [lease(3, Checkpoint::ShardEnd), lease(4, Checkpoint::ShardEnd)];
        assert!(needed(&both, InitialPosition::Latest).contains(&(6, Checkpoint::TrimHorizon)));
    }

    #[test]
    fn a_hole_is_filled_where_the_application_begins() {
        let there = [5, 6, 7].map(|shard| lease(shard, Checkpoint::TrimHorizon));
        let latest = needed(&there, InitialPosition::Latest);
        assert_eq!(latest.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [8]);
        assert_eq!(needed(&there, InitialPosition::TrimHorizon), [(8, Checkpoint::TrimHorizon)]);
    }

    #[test]
    fn what_the_stream_no_longer_has_is_forgotten() {
        let leases: BTreeMap<_, _> =
            [0, 9].map(|index| (ShardId::new(index), lease(index, Checkpoint::ShardEnd))).into();
        assert_eq!(outlived(&family(), &leases), [ShardId::new(9)]);
    }
}
