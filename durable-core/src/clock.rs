//! The one seam through which all time passes.
//!
//! Wall time stamps records and may jump; monotonic time judges ages and leases and never goes back.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

/// A source of time.
pub trait Clock: Debug + Send + Sync {
    /// Wall time. It may jump in either direction.
    fn now(&self) -> DateTime<Utc>;

    /// Time since a fixed but arbitrary moment. It never goes back.
    fn monotonic(&self) -> Duration;

    /// Resolves once `duration` of monotonic time has passed. Dropping the future cancels the wait.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock; sleeps on tokio's timer.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}

/// A clock that stands still until it is told to move: for simulations and for the tests of an app.
///
/// ```
/// use std::time::Duration;
/// use durable_core::{Clock, ManualClock};
///
/// let clock = ManualClock::default();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!((clock.now() - before).num_seconds(), 60);
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    state: Arc<Mutex<ManualTime>>,
}

#[derive(Debug)]
struct ManualTime {
    wall: DateTime<Utc>,
    monotonic: Duration,
    sleepers: BTreeMap<(Duration, u64), oneshot::Sender<()>>,
    next_sleeper: u64,
}

impl ManualClock {
    /// A clock whose wall time is `start`.
    #[must_use]
    pub fn new(start: DateTime<Utc>) -> Self {
        let time = ManualTime { wall: start, monotonic: Duration::ZERO, sleepers: BTreeMap::new(), next_sleeper: 0 };
        Self { state: Arc::new(Mutex::new(time)) }
    }

    /// Moves wall and monotonic time forward, and wakes who has slept long enough.
    pub fn advance(&self, duration: Duration) {
        let due = {
            let mut time = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            time.monotonic += duration;
            time.wall += duration;
            let later = (time.monotonic + Duration::from_nanos(1), 0);
            let asleep = time.sleepers.split_off(&later);
            std::mem::replace(&mut time.sleepers, asleep)
        };
        for waker in due.into_values() {
            // A sleeper that is gone needs no waking.
            let _ = waker.send(());
        }
    }

    /// Sets wall time, as an operator or a time server does; monotonic time does not move.
    pub fn set_wall(&self, wall: DateTime<Utc>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wall = wall;
    }
}

impl Default for ManualClock {
    /// Starts on 2026-01-01 at midnight UTC.
    fn default() -> Self {
        Self::new(DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wall
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).monotonic
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (waker, woken) = oneshot::channel();
        {
            let mut time = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if duration.is_zero() {
                return futures::future::ready(()).boxed();
            }
            let key = (time.monotonic + duration, time.next_sleeper);
            time.next_sleeper += 1;
            time.sleepers.insert(key, waker);
        }
        async move {
            // An error means that the clock itself is gone, so nobody waits for time to pass any more.
            let _ = woken.await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_wakes_those_who_are_due_and_no_others() {
        let clock = ManualClock::default();
        let mut early = clock.sleep(Duration::from_secs(1));
        let mut late = clock.sleep(Duration::from_secs(3));
        clock.advance(Duration::from_secs(1));
        assert!(early.as_mut().now_or_never().is_some());
        assert!(late.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_secs(2));
        assert!(late.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_wall_jump_wakes_nobody() {
        let clock = ManualClock::default();
        let mut sleeper = clock.sleep(Duration::from_secs(1));
        clock.set_wall(clock.now() + Duration::from_secs(3600));
        assert!(sleeper.as_mut().now_or_never().is_none());
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }
}
