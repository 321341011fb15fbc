//! Journals: one ordered sequence of atomic frames, durable when acknowledged.
//!
//! A service has one [`Journal`] for everything it does, so that one sync covers every writer and one frame may span
//! shards or queues. Opening it gives a [`Recovery`]: the newest checkpoint, then the frames after it; the service
//! rebuilds its state from them and calls [`start`](Recovery::start) with a hook, which from then on sees every frame
//! once, in order, as soon as it is durable and before its append is acknowledged.
//!
//! ```
//! use durable_core::journal::Journal;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), durable_core::Error> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! let journal = Journal::dir(dir.path()).open().await?.start(|_| {}).await?;
//! journal.append("one".into(), 1).await?; // durable once this returns
//! journal.close().await?;
//!
//! let mut recovery = Journal::dir(dir.path()).open().await?;
//! assert_eq!(recovery.next().await?.expect("one frame").body, "one");
//! assert!(recovery.next().await?.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: there is one order. Positions are given, frames written, shown to the hook and recovered in it.

pub(crate) mod checkpoint;
mod claim;
pub mod dir;
mod driver;
mod frame;
mod group;
mod object;
mod open;
mod queue;
mod recovery;
pub(crate) mod segment;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

pub use checkpoint::{Checkpoint, PartChange};
pub use driver::GROUP_BYTES_MAX;
pub use frame::{Durability, Frame, Position};
pub use group::{BLOCK_BYTES, Group, JournalId};
pub use open::{JournalBuilder, SEGMENT_BYTES_DEFAULT};
pub use queue::{Pending, QUEUE_BYTES_MAX, Reservation};
pub use recovery::Recovery;

use crate::{Error, ErrorKind, Result};
use queue::{Barrier, Ending, Queue};

/// How durable a journal makes what it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// In memory: gone with the process.
    Memory,
    /// Synced to a local disk: survives a crash of the process and of the machine.
    Disk,
    /// Put into an object store: as durable as that store.
    Store,
}

/// A handle of an open journal: cheap to clone, `Send` and `Sync`.
///
/// Dropping the last handle writes what was submitted and ends the journal's threads, without waiting for them;
/// [`close`](Self::close) waits, and seals a local journal so that any later damage is seen.
#[derive(Clone, Debug)]
pub struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    checkpoints: Arc<Checkpoints>,
    ended: watch::Receiver<Option<Arc<Result<()>>>>,
    level: Level,
    epoch: u64,
}

/// What writes checkpoints; `None` once the journal was closed, so that its directory is free.
#[derive(Debug)]
enum Checkpoints {
    Memory,
    Dir(Mutex<Option<dir::DirCheckpoints>>),
    Object(tokio::sync::Mutex<Option<object::ObjectCheckpoints>>),
}

impl Journal {
    /// How durable it makes what it acknowledges.
    #[must_use]
    pub fn level(&self) -> Level {
        self.inner.level
    }

    /// Rises over all writers: no two that wrote anything have the same.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// The most bytes that one frame may have.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u64 {
        self.inner.queue.frame_bytes_max
    }

    /// Every frame below this position is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.inner.queue.lock().durable
    }

    /// Whether a write or sync has failed: nothing is acknowledged any more, open the journal anew.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.inner.queue.lock().poison.is_some()
    }

    /// Waits for room for a frame of this many bytes, in the queue and on the disk. What was reserved can be submitted:
    /// a full disk is met here, before the caller has acted on what it is about to append.
    ///
    /// Dropping the future, or the reservation, gives the room back.
    ///
    /// # Errors
    /// `LimitExceeded` if the frame is larger than [`frame_bytes_max`](Self::frame_bytes_max), or the disk is full: the
    /// same call succeeds once there is space. `Closed` after `close`; `Unavailable` or `Fenced` if the journal was
    /// poisoned.
    pub async fn reserve(&self, bytes: usize) -> Result<Reservation> {
        self.inner.queue.reserve(bytes).await
    }

    /// Appends one frame that takes `span` positions, and answers its position once it is durable.
    ///
    /// Dropping the future before it first waits appends nothing; later, the frame is appended all the same.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve). After `Unavailable` the frame may or may not be found by the next opening.
    pub async fn append(&self, body: Bytes, span: u32) -> Result<Position> {
        self.reserve(body.len()).await?.submit(body, span, Durability::Journal)?.await
    }

    /// Waits until everything submitted so far is durable. Dropping the future changes nothing.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn flush(&self) -> Result<()> {
        self.barrier(false).await
    }

    async fn barrier(&self, prove: bool) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.inner.queue.lock();
            state.check()?;
            let upto = if prove { state.durable } else { state.next };
            state.barriers.push(Barrier { upto, prove, answer });
            self.inner.queue.work.notify_one();
        }
        answered.await.map_err(|_| self.inner.queue.lock().refusal())?
    }

    /// Makes the state of everything below `at` durable, then lets the journal below it go.
    ///
    /// The state is a set of named parts; `changes` names those that are new, different or (`None`) gone, all others
    /// stay as the checkpoint before had them. After an error the changes may be in force or not: name them again with
    /// the next. One checkpoint is written at a time; others wait. A journal in memory keeps nothing and answers at
    /// once. Dropping the future may leave the checkpoint made or not.
    ///
    /// # Errors
    /// `InvalidInput` if `at` is below the checkpoint before or above what is durable; `LimitExceeded` if the disk is
    /// full: the checkpoint before stays in force and appends go on; else as [`append`](Self::append).
    pub async fn checkpoint(&self, at: Position, changes: Vec<PartChange>) -> Result<()> {
        {
            let state = self.inner.queue.lock();
            state.check()?;
            if at > state.durable {
                let message = format!("a checkpoint at {at}, but only what is below {} is durable", state.durable);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        match self.inner.checkpoints.as_ref() {
            Checkpoints::Memory => Ok(()),
            Checkpoints::Dir(_) => {
                let checkpoints = self.inner.checkpoints.clone();
                let written = tokio::task::spawn_blocking(move || {
                    let Checkpoints::Dir(dir) = checkpoints.as_ref() else { return Ok(()) };
                    let mut dir = dir.lock().unwrap_or_else(PoisonError::into_inner);
                    dir.as_mut().ok_or_else(closed)?.checkpoint(at, changes)
                });
                written.await.map_err(|error| {
                    Error::new(ErrorKind::Internal, "writing a checkpoint did not finish").with_source(error)
                })?
            }
            Checkpoints::Object(object) => {
                let mut object = object.lock().await;
                let object = object.as_mut().ok_or_else(closed)?;
                let freed = object.checkpoint(at, changes).await?;
                // Only a writer that was not taken over may delete.
                self.barrier(true).await?;
                object.delete(freed).await
            }
        }
    }

    /// Writes what was submitted, ends the journal's threads, seals a local journal and frees its directory.
    ///
    /// Other handles answer `Closed` from then on. Closing twice is as good as once. Dropping the future lets the
    /// closing go on by itself.
    ///
    /// # Errors
    /// The error that poisoned the journal, if one did.
    pub async fn close(&self) -> Result<()> {
        {
            let mut state = self.inner.queue.lock();
            state.ending = Ending::Seal;
            self.inner.queue.work.notify_one();
        }
        let mut ended = self.inner.ended.clone();
        let result = match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        match self.inner.checkpoints.as_ref() {
            Checkpoints::Memory => {}
            Checkpoints::Dir(dir) => drop(dir.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Checkpoints::Object(object) => drop(object.lock().await.take()),
        }
        match result.as_deref() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.duplicate()),
            None => Err(self.inner.queue.lock().refusal()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if state.ending == Ending::Open {
            state.ending = Ending::Drain;
        }
        self.queue.work.notify_one();
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the journal is closed; open it anew")
}
