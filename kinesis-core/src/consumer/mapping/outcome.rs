//! What follows from a call's outcome: what is done, what comes again, what is given up.
//!
//! Invariant: every record of a batch is done, comes again or is given up: none is passed over.

use std::ops::Range;

use crate::stream::SequenceNumber;

/// What an application wants of failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    pub(super) bisect: bool,
    /// None: as often as it takes.
    pub(super) retries_max: Option<u32>,
    pub(super) report_item_failures: bool,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With the items that it says failed.
    Returned(Vec<String>),
    Failed,
}

/// What follows. The ranges are places in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// So many, from the first on, are done.
    pub(super) done: usize,
    /// These come again, in this order, with so many retries behind them.
    pub(super) again: Vec<(Range<usize>, u32)>,
    /// These are given up.
    pub(super) given_up: Range<usize>,
}

/// Decides about a batch of these records that was retried `retries` times before this call.
pub(super) fn decide(records: &[SequenceNumber], retries: u32, outcome: &Outcome, policy: Policy) -> Decision {
    let count = records.len();
    let (done, is_partial) = match outcome {
        Outcome::Failed => (0, false),
        Outcome::Returned(items) if items.is_empty() || !policy.report_item_failures => (count, false),
        Outcome::Returned(items) => {
            let place = |item: &String| records.iter().position(|number| number.to_string() == *item);
            // An item that is not in the batch says nothing: then all of it failed.
            let places: Option<Vec<usize>> = items.iter().map(place).collect();
            (places.and_then(|places| places.into_iter().min()).unwrap_or(0), true)
        }
    };
    let left = done..count;
    let decision = |again, given_up| Decision { done, again, given_up };
    if left.is_empty() {
        return decision(Vec::new(), left);
    }
    if policy.bisect && !is_partial && count > 1 {
        // Halving is no retry.
        let middle = count.div_ceil(2);
        return decision(vec![(0..middle, retries), (middle..count, retries)], count..count);
    }
    match policy.retries_max {
        Some(max) if retries >= max => decision(Vec::new(), left),
        _ => decision(vec![(left, retries + 1)], count..count),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::ShardId;

    fn numbers(count: u64) -> Vec<SequenceNumber> {
        (1..=count).map(|index| SequenceNumber::new(0, ShardId::new(0), index, 0)).collect()
    }

    const ALL: Policy = Policy { bisect: false, retries_max: Some(2), report_item_failures: true };

    #[test]
    fn the_lowest_failed_item_is_where_it_goes_on() {
        let records = numbers(5);
        let failed =
            |places: &[usize]| Outcome::Returned(places.iter().map(|place| records[*place].to_string()).collect());
        let retry = decide(&records, 0, &failed(&[4, 2]), ALL);
        assert_eq!(retry, Decision { done: 2, again: vec![(2..5, 1)], given_up: 5..5 });
        assert_eq!(decide(&records, 2, &failed(&[2]), ALL), Decision { done: 2, again: vec![], given_up: 2..5 });
        assert_eq!(decide(&records, 0, &failed(&[]), ALL).done, 5);
        let unknown = Outcome::Returned(vec![records[3].to_string(), "7".to_owned()]);
        assert_eq!(decide(&records, 0, &unknown, ALL), Decision { done: 0, again: vec![(0..5, 1)], given_up: 5..5 });
        // Without the report, what is returned says nothing.
        let deaf = Policy { report_item_failures: false, ..ALL };
        assert_eq!(decide(&records, 0, &failed(&[0]), deaf).done, 5);
    }

    #[test]
    fn a_batch_is_halved_until_what_fails_is_alone() {
        let records = numbers(5);
        let halved = Policy { bisect: true, ..ALL };
        let decision = decide(&records, 2, &Outcome::Failed, halved);
        assert_eq!(decision, Decision { done: 0, again: vec![(0..3, 2), (3..5, 2)], given_up: 5..5 });
        assert_eq!(decide(&records[..1], 2, &Outcome::Failed, halved).given_up, 0..1);
        let endless = Policy { retries_max: None, ..ALL };
        assert_eq!(decide(&records, u32::MAX - 1, &Outcome::Failed, endless).again, [(0..5, u32::MAX)]);
    }

    proptest! {
        #[test]
        fn no_record_is_passed_over(
            count in 1..50_u64, retries in 0..5_u32, bisect: bool, report: bool, max in proptest::option::of(0..4_u32),
            failed in proptest::option::of(proptest::collection::vec(0..60_usize, 0..4)),
        ) {
            let records = numbers(count);
            let all = numbers(60);
            let outcome = failed.map_or(Outcome::Failed, |places| {
                Outcome::Returned(places.into_iter().filter_map(|place| all.get(place)).map(ToString::to_string).collect())
            });
            let policy = Policy { bisect, retries_max: max, report_item_failures: report };
            let decision = decide(&records, retries, &outcome, policy);
            let mut places: Vec<usize> = (0..decision.done).collect();
            places.extend(decision.again.iter().flat_map(|(range, _)| range.clone()));
            places.extend(decision.given_up.clone());
            prop_assert_eq!(places, (0..records.len()).collect::<Vec<_>>());
        }
    }
}
