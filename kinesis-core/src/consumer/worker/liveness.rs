//! Who lives: each worker overwrites one object of its own, again and again.
//!
//! Invariant: whether another lives is judged by our own monotonic clock since we last saw its sign change; no time that
//! another machine wrote is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use durable_core::{Clock, Heartbeat, retrying};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::Result;

/// A sign that did not change for so many lease durations is deleted.
const FORGET_AFTER: u32 = 20;

/// Our own sign of life, and how long it holds.
#[derive(Debug)]
pub(super) struct Life {
    heartbeat: Heartbeat,
    clock: Arc<dyn Clock>,
    duration: Duration,
    /// When the last beat that was shown began.
    beat: Mutex<Option<Duration>>,
}

impl Life {
    pub(super) fn new(heartbeat: Heartbeat, clock: Arc<dyn Clock>, duration: Duration) -> Self {
        Self { heartbeat, clock, duration, beat: Mutex::default() }
    }

    pub(super) async fn beat(&self) -> Result<()> {
        let begun = self.clock.monotonic();
        self.heartbeat.beat().await?;
        *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        Ok(())
    }

    /// Whether nobody can have taken a lease of ours yet because we were silent.
    pub(super) fn holds(&self) -> bool {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.is_some_and(|begun| self.clock.monotonic().saturating_sub(begun) < self.duration)
    }
}

/// What we saw of the others.
#[derive(Debug)]
pub(super) struct Others {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    prefix: Path,
    duration: Duration,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    sign: Option<Bytes>,
    at: Duration,
}

impl Others {
    pub(super) fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, prefix: Path, duration: Duration) -> Self {
        Self { store, clock, prefix, duration, seen: BTreeMap::new() }
    }

    /// The workers whose sign changed within the duration, as far as we watched.
    pub(super) async fn alive(&mut self) -> Result<BTreeSet<String>> {
        let names = retrying::names(&*self.store, &*self.clock, &self.prefix).await?;
        let mut alive = BTreeSet::new();
        let mut there = BTreeSet::new();
        for path in names {
            let Some(worker) = path.filename().map(str::to_owned) else { continue };
            // The same sign says only that it had not changed when it was asked for, however late the answer comes.
            let asked = self.clock.monotonic();
            let sign = retrying::read(&*self.store, &*self.clock, &path).await?;
            there.insert(worker.clone());
            match self.seen.get(&worker) {
                Some(seen) if seen.sign == sign => {
                    let silent = asked.saturating_sub(seen.at);
                    if silent < self.duration {
                        alive.insert(worker);
                    } else if silent > self.duration * FORGET_AFTER {
                        retrying::delete(&*self.store, &*self.clock, &path).await?;
                    }
                }
                _ => {
                    self.seen.insert(worker.clone(), Seen { sign, at: self.clock.monotonic() });
                    alive.insert(worker);
                }
            }
        }
        self.seen.retain(|worker, _| there.contains(worker));
        Ok(alive)
    }

    /// Deletes the sign of a worker that has stopped.
    pub(super) async fn forget(&self, worker: &str) -> Result<()> {
        Ok(retrying::delete(&*self.store, &*self.clock, &self.prefix.clone().join(worker)).await?)
    }
}
