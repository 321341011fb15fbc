//! Waiting between attempts: doubling, with jitter, bounded.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The first wait is up to this.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long to wait after each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    rng: SmallRng,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: SmallRng::seed_from_u64(seed), failures: 0 }
    }

    /// How many waits were asked for.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait after one more failure: between half of 100 ms, 200 ms, 400 ms, .. 30 s and all of it.
    pub(super) fn next_wait(&mut self) -> Duration {
        let most = WAIT_FIRST.saturating_mul(1 << self.failures.min(20)).min(WAIT_MAX);
        self.failures += 1;
        most.mul_f64(self.rng.random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let mut backoff = Backoff::new(7);
        for failure in 0..40 {
            let most = WAIT_FIRST.saturating_mul(1 << failure.min(20)).min(WAIT_MAX);
            let wait = backoff.next_wait();
            assert!(wait <= most && wait >= most / 2, "{failure}: {wait:?} of {most:?}");
        }
        assert_eq!(backoff.failures(), 40);
    }
}
