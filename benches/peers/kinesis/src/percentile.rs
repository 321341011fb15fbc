//! Durations of one measurement.

use std::time::Duration;

/// What a measurement saw.
#[derive(Debug, Default)]
pub(crate) struct Times {
    micros: Vec<u64>,
}

impl Times {
    pub(crate) fn add(&mut self, time: Duration) {
        self.micros.push(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.micros.extend(other.micros);
    }

    pub(crate) fn count(&self) -> usize {
        self.micros.len()
    }

    /// The time that `percent` of all are at or below, in microseconds.
    pub(crate) fn percentile(&mut self, percent: usize) -> u64 {
        self.micros.sort_unstable();
        let place = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        self.micros.get(place).copied().unwrap_or(0)
    }
}

/// One figure as so many times another.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn ratio(ours: u64, theirs: u64) -> f64 {
    ours as f64 / theirs.max(1) as f64
}

/// So many of something in a second.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64().max(1e-9)) as u64
}
