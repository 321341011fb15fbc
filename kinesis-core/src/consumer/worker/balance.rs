//! Which leases a worker takes, and which it asks for.
//!
//! The rule of the Kinesis Client Library: a worker wants its share, the leases divided by the workers that live, rounded
//! up. It takes what nobody alive holds; only if there is nothing, it asks the one with most to hand over.
//!
//! Invariant: workers that see the same come to rest, with no two of them further apart than one lease.

use std::collections::{BTreeMap, BTreeSet};

use super::lease::Lease;
use crate::stream::ShardId;

/// What one worker sees.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) me: &'a str,
    pub(super) leases: &'a BTreeMap<ShardId, Lease>,
    /// Workers that live, `me` among them.
    pub(super) alive: &'a BTreeSet<String>,
    pub(super) leases_max: usize,
    /// Leases that may be asked for at one time.
    pub(super) steals_max: usize,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Move {
    Take(ShardId),
    /// Asks its owner to hand it over.
    Request(ShardId),
}

pub(super) fn moves(view: &View<'_>) -> Vec<Move> {
    let active: Vec<&Lease> = view.leases.values().filter(|lease| !lease.is_done()).collect();
    let share = active.len().div_ceil(view.alive.len().max(1)).min(view.leases_max);
    let live_owner = |lease: &&&Lease| lease.owner.as_ref().filter(|owner| view.alive.contains(*owner)).cloned();
    let mut loads: BTreeMap<String, usize> = view.alive.iter().map(|worker| (worker.clone(), 0)).collect();
    let mut free = Vec::new();
    for lease in &active {
        match live_owner(&lease) {
            Some(owner) => *loads.entry(owner).or_default() += 1,
            None => free.push(lease.shard),
        }
    }
    let mine = loads.get(view.me).copied().unwrap_or_default();
    let asked = |lease: &&&Lease| lease.requested_by.as_deref() == Some(view.me);
    let coming = active.iter().filter(|lease| asked(lease) && live_owner(lease).is_some()).count();
    let wanted = share.saturating_sub(mine);
    if !free.is_empty() {
        // Others look at the same list: each begins elsewhere.
        let begin = crc32c::crc32c(view.me.as_bytes()) as usize % free.len();
        free.rotate_left(begin);
        return free.into_iter().take(wanted).map(Move::Take).collect();
    }
    let most = loads.iter().filter(|(worker, _)| *worker != view.me).max_by_key(|(_, load)| **load);
    let Some((richest, load)) = most.map(|(worker, load)| (worker.clone(), *load)) else { return Vec::new() };
    // One lease more than others have is no reason to move it.
    let spare = load.saturating_sub(mine + coming + 1).div_ceil(2).min(load.saturating_sub(1));
    let count = wanted.saturating_sub(coming).min(view.steals_max.saturating_sub(coming)).min(spare);
    let askable = active
        .iter()
        .filter(|lease| lease.owner.as_deref() == Some(&richest) && lease.requested_by.is_none())
        .map(|lease| Move::Request(lease.shard));
    askable.take(count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lease::Checkpoint;
    use super::*;

    fn world(count: u32) -> BTreeMap<ShardId, Lease> {
        let lease = |index| Lease::new(ShardId::new(index), Vec::new(), Checkpoint::TrimHorizon);
        (0..count).map(|index| (ShardId::new(index), lease(index))).collect()
    }

    fn loads(leases: &BTreeMap<ShardId, Lease>, alive: &BTreeSet<String>) -> Vec<usize> {
        let of = |worker: &String| leases.values().filter(|lease| lease.owner.as_ref() == Some(worker)).count();
        alive.iter().map(of).collect()
    }

    /// Lets all workers act until nobody does; answers the rounds.
    fn settle(leases: &mut BTreeMap<ShardId, Lease>, alive: &BTreeSet<String>, leases_max: usize) -> usize {
        for round in 0..10_000 {
            let mut quiet = true;
            for me in alive {
                // Owners hand over what they are asked for.
                for lease in leases.values_mut() {
                    if lease.owner.as_ref() == Some(me)
                        && let Some(to) = lease.requested_by.clone()
                    {
                        *lease = lease.clone().handed_to(Some(to));
                    }
                }
                for one in moves(&View { me, leases, alive, leases_max, steals_max: 1 }) {
                    quiet = false;
                    match one {
                        Move::Take(shard) => {
                            let lease = leases.get_mut(&shard).expect("a lease that is there");
                            assert!(lease.owner.as_ref().is_none_or(|owner| !alive.contains(owner)));
                            *lease = lease.clone().handed_to(Some(me.clone()));
                        }
                        Move::Request(shard) => {
                            leases.get_mut(&shard).expect("a lease that is there").requested_by = Some(me.clone());
                        }
                    }
                }
            }
            if quiet && leases.values().all(|lease| lease.requested_by.is_none()) {
                return round;
            }
        }
        panic!("workers never come to rest: {:?}", loads(leases, alive));
    }

    proptest! {
        /// However workers come and go, every lease has an owner that lives, and loads differ by one at most.
        #[test]
        fn workers_come_to_rest_in_balance(
            count in 0..40_u32,
            steps in proptest::collection::vec((0..6_usize, any::<bool>()), 1..12),
        ) {
            let mut leases = world(count);
            let mut alive = BTreeSet::from(["worker-0".to_owned()]);
            settle(&mut leases, &alive, usize::MAX);
            for (worker, comes) in steps {
                let worker = format!("worker-{worker}");
                if comes {
                    alive.insert(worker);
                } else if alive.len() > 1 {
                    alive.remove(&worker);
                }
                settle(&mut leases, &alive, usize::MAX);
                prop_assert!(leases.values().all(|lease| lease.owner.as_ref().is_some_and(|owner| alive.contains(owner))));
                let loads = loads(&leases, &alive);
                let (least, most) = (loads.iter().min().copied(), loads.iter().max().copied());
                prop_assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1, "{loads:?}");
            }
        }
    }

    #[test]
    fn a_worker_takes_no_more_than_it_may() {
        let mut leases = world(10);
        let alive = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        settle(&mut leases, &alive, 3);
        assert_eq!(loads(&leases, &alive), [3, 3]);
        // Done leases are nobody's load.
        leases.values_mut().for_each(|lease| lease.checkpoint = Checkpoint::ShardEnd);
        let view = View { me: "c", leases: &leases, alive: &alive, leases_max: 9, steals_max: 1 };
        assert_eq!(moves(&view), []);
    }
}
