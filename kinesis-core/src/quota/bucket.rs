//! A token bucket on the monotonic clock.
//!
//! Invariant: over any stretch of time no more is taken than its rate and one second's worth, but for the last taking,
//! which may be larger than what was left and is paid back first.

use std::time::Duration;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// What may be taken now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    /// In billionths, so that a nanosecond fills something in. Below zero after a taking on credit.
    level: i128,
    at: Duration,
}

impl Bucket {
    /// A full bucket: one second's worth is in it.
    pub(crate) fn new(per_second: u64, now: Duration) -> Self {
        Self { per_second, level: i128::from(per_second) * NANOS_PER_SECOND, at: now }
    }

    fn fill(&mut self, now: Duration) {
        let passed = i128::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(i128::MAX >> 64);
        let rate = i128::from(self.per_second);
        self.level = self.level.saturating_add(passed.saturating_mul(rate)).min(rate * NANOS_PER_SECOND);
        self.at = self.at.max(now);
    }

    /// Whether `amount` may be taken now. What is larger than a second's worth may be once the bucket is full.
    pub(crate) fn allows(&mut self, amount: u64, now: Duration) -> bool {
        self.fill(now);
        self.level >= i128::from(amount.min(self.per_second)) * NANOS_PER_SECOND
    }

    /// Whether anything may be taken now.
    pub(crate) fn is_open(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level > 0
    }

    /// Takes, whether it is allowed or not.
    pub(crate) fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(i128::from(amount) * NANOS_PER_SECOND);
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&mut self, amount: u64) {
        self.level = self.level.saturating_add(i128::from(amount) * NANOS_PER_SECOND);
    }

    /// Whether it is as good as new.
    pub(crate) fn is_full(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level >= i128::from(self.per_second) * NANOS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_second_holds_the_rate() {
        let mut bucket = Bucket::new(1000, Duration::ZERO);
        let mut taken = 0;
        for ms in 0..2000 {
            while bucket.allows(1, MS * ms) {
                bucket.take(1);
                taken += 1;
            }
        }
        assert_eq!(taken, 1000 + 1999);
    }

    #[test]
    fn what_is_larger_than_a_second_is_paid_back() {
        let mut bucket = Bucket::new(100, Duration::ZERO);
        assert!(bucket.allows(1000, Duration::ZERO));
        bucket.take(1000);
        assert!(!bucket.is_open(MS * 9000) && bucket.is_open(MS * 9001));
        assert!(!bucket.allows(1000, MS * 9999) && bucket.allows(1000, MS * 10_000));
        bucket.take(100);
        assert!(!bucket.is_open(MS * 5) && bucket.is_open(MS * 10_001), "time that goes back fills nothing");
    }
}
