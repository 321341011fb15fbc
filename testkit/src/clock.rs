//! A clock on which nobody waits.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_core::{Clock, ManualClock};
use futures::FutureExt;
use futures::future::BoxFuture;

/// Every sleep ends at once and moves the time by as much as it was meant to last: retries and backoff run at full
/// speed, and how long they would have taken can be asked.
#[derive(Clone, Debug, Default)]
pub struct SkippingClock {
    time: ManualClock,
}

impl SkippingClock {
    /// A clock at the start of [`ManualClock::default`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, shared as the builders take it.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::new())
    }
}

impl Clock for SkippingClock {
    fn now(&self) -> DateTime<Utc> {
        self.time.now()
    }

    fn monotonic(&self) -> Duration {
        self.time.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let time = self.time.clone();
        async move { time.advance(duration) }.boxed()
    }
}
