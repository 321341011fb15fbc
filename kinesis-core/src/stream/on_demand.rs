//! How many shards a stream on demand wants: the rule, without clock or stream.
//!
//! Invariant: what is asked for carries double the highest load of the last 30 days, and is a doubling or a halving away
//! from what there is.
//!
//! Source: "On-demand mode", Amazon Kinesis Data Streams Developer Guide: a stream begins with 4 MB and 4,000 records a
//! second and takes up to double its peak of the last 30 days. AWS does not say by which steps; ours double.

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{ON_DEMAND_SHARDS_MIN, SHARDS_MAX};

/// What a shard is reckoned to carry in a second.
const SHARD_BYTES: u64 = 1024 * 1024;
const SHARD_RECORDS: u64 = 1_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// For how many days a peak counts.
const DAYS: u64 = 30;

/// A load, in thousandths of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load(u64);

impl Load {
    /// What so many bytes and records within `time` come to.
    pub(crate) fn of(bytes: u64, records: u64, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        let of = |amount: u64, per_shard: u64| {
            let thousandths = u128::from(amount) * 1_000_000 / (u128::from(millis) * u128::from(per_shard));
            u64::try_from(thousandths).unwrap_or(u64::MAX)
        };
        Self(of(bytes, SHARD_BYTES).max(of(records, SHARD_RECORDS)))
    }

    /// Half of what so many shards carry.
    fn half_of(shards: usize) -> Self {
        Self(shards as u64 * 500)
    }

    /// The shards that carry double of it.
    fn shards_for_double(self) -> usize {
        usize::try_from(self.0.saturating_mul(2).div_ceil(1_000)).unwrap_or(usize::MAX)
    }
}

/// The highest loads that a stream had.
#[derive(Debug)]
pub(crate) struct OnDemand {
    /// The highest of each day, oldest first.
    peaks: VecDeque<(u64, Load)>,
}

impl OnDemand {
    /// Of a stream that has so many open shards and of which nothing else is known: as if it had needed them now.
    pub(crate) fn new(open: usize, now: Duration) -> Self {
        Self { peaks: VecDeque::from([(day(now), Load::half_of(open))]) }
    }

    /// Takes up a load.
    pub(crate) fn observe(&mut self, load: Load, now: Duration) {
        let today = day(now);
        match self.peaks.back_mut() {
            Some((day, peak)) if *day >= today => *peak = (*peak).max(load),
            _ => self.peaks.push_back((today, load)),
        }
        self.peaks.retain(|(day, _)| day.saturating_add(DAYS) > today);
    }

    /// How many shards there should be instead of `open`, if another number.
    pub(crate) fn target(&self, open: usize) -> Option<u32> {
        let least = ON_DEMAND_SHARDS_MIN as usize;
        let wanted =
            self.peaks.iter().map(|(_, peak)| peak.shards_for_double()).max().unwrap_or(0).clamp(least, SHARDS_MAX);
        let mut target = open.max(1);
        while target < wanted {
            target = (target * 2).min(SHARDS_MAX);
        }
        while target.div_ceil(2) >= wanted && target > 1 {
            target = target.div_ceil(2);
        }
        (target != open).then(|| u32::try_from(target).unwrap_or(u32::MAX))
    }
}

fn day(now: Duration) -> u64 {
    now.as_secs() / DAY.as_secs()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn mib(per_second: u64) -> Load {
        Load::of(per_second * SHARD_BYTES * 60, 1, MINUTE)
    }

    #[test]
    fn bytes_or_records_whichever_are_more() {
        assert_eq!(mib(3), Load(3_000));
        assert_eq!(Load::of(1, 60 * 2_500, MINUTE), Load(2_500));
        assert!(Load::of(u64::MAX, u64::MAX, Duration::ZERO).shards_for_double() > SHARDS_MAX);
    }

    #[test]
    fn double_the_peak_and_back_after_thirty_days() {
        let mut stream = OnDemand::new(4, MINUTE);
        stream.observe(mib(2), MINUTE);
        assert_eq!(stream.target(4), None, "4 shards carry double of 2");
        stream.observe(Load::of(0, 60 * 2_001, MINUTE), MINUTE);
        assert_eq!(stream.target(4), Some(8));
        stream.observe(mib(9), MINUTE);
        assert_eq!(stream.target(8), Some(32), "18 are wanted");
        stream.observe(mib(0), DAY * 29);
        assert_eq!(stream.target(32), None);
        stream.observe(mib(3), DAY * 30);
        assert_eq!(stream.target(32), Some(8));
        stream.observe(mib(0), DAY * 60);
        assert_eq!(stream.target(8), Some(4));
    }

    #[test]
    fn the_shards_of_a_provisioned_stream_are_kept_until_its_load_is_known() {
        let mut stream = OnDemand::new(7, Duration::ZERO);
        stream.observe(mib(0), DAY * 29);
        assert_eq!(stream.target(7), None);
        stream.observe(mib(0), DAY * 30);
        assert_eq!(stream.target(7), Some(4));
        assert_eq!(OnDemand::new(1, Duration::ZERO).target(1), Some(4));
    }

    proptest! {
        #[test]
        fn the_target_carries_double_and_is_stable(open in 1_usize..10_000, load in 0_u64..20_000_000) {
            let mut stream = OnDemand::new(1, Duration::ZERO);
            stream.observe(Load(load), Duration::ZERO);
            let target = stream.target(open).map_or(open, |target| target as usize);
            prop_assert!(target >= Load(load).shards_for_double().min(SHARDS_MAX) && (4..=SHARDS_MAX).contains(&target));
            prop_assert_eq!(stream.target(target), None);
        }
    }
}
