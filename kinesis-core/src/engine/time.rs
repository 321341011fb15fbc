//! What time it is for records, though the wall clock may jump.
//!
//! Invariant: a record is never taken for older than it is while the process lives. It is stamped with the later of
//! wall time and steady time (wall time at opening plus what has passed since), and judged by the earlier of both. So a
//! clock set forward trims nothing early, and one set back stamps nothing old.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_core::Clock;

/// Wall and steady time of one instance.
#[derive(Clone, Debug)]
pub(crate) struct RecordTime {
    clock: Arc<dyn Clock>,
    opened_ms: i64,
    opened: Duration,
}

impl RecordTime {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (opened_ms, opened) = (clock.now().timestamp_millis(), clock.monotonic());
        Self { clock, opened_ms, opened }
    }

    /// When a record arrives that arrives now, in milliseconds since 1970.
    pub(crate) fn arrival_ms(&self) -> i64 {
        self.clock.now().timestamp_millis().max(self.steady_ms()).max(0)
    }

    /// Records that arrived before this, in milliseconds since 1970, are certainly older than `retention`.
    pub(crate) fn expired_before_ms(&self, retention: Duration) -> i64 {
        let now = self.clock.now().timestamp_millis().min(self.steady_ms());
        now.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
    }

    /// How long ago `arrival_ms` was.
    pub(crate) fn since(&self, arrival_ms: i64) -> Duration {
        let passed = self.clock.now().timestamp_millis().saturating_sub(arrival_ms);
        Duration::from_millis(u64::try_from(passed).unwrap_or(0))
    }

    fn steady_ms(&self) -> i64 {
        let passed = self.clock.monotonic().saturating_sub(self.opened);
        self.opened_ms.saturating_add(i64::try_from(passed.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The moment `ms` milliseconds after 1970; the latest there is if that is beyond it.
pub(crate) fn moment(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// Whole seconds of `ms` milliseconds since 1970, as sequence numbers carry them.
pub(crate) fn seconds(ms: i64) -> u64 {
    u64::try_from(ms / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use durable_core::ManualClock;

    use super::*;

    #[test]
    fn a_jump_of_the_clock_makes_no_record_old() {
        let clock = ManualClock::default();
        let time = RecordTime::new(Arc::new(clock.clone()));
        let start = clock.now();
        let day = Duration::from_secs(86_400);
        clock.set_wall(start + 30 * day);
        assert_eq!(time.expired_before_ms(day), (start - day).timestamp_millis());
        clock.set_wall(start - 30 * day);
        assert_eq!(time.arrival_ms(), start.timestamp_millis());
        clock.advance(day);
        assert_eq!(time.arrival_ms(), (start + day).timestamp_millis());
    }
}
