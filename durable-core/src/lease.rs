//! Who may act on something, for as long as the others see it alive.
//!
//! A lease decides only who serves what leaves the process; what is *stored* is guarded by a fence, which needs no
//! clock. Its owner stands in a [`VersionedCommit`]; that the owner lives is shown by one small heartbeat object per
//! process, overwritten again and again, however many leases the process has. Others judge its age by their own
//! monotonic clock since they last saw it change, never by a stored time: no clock of another machine is believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use crate::{Clock, Error, ErrorKind, Result, VersionedCommit, retrying};

/// The longest name of an owner, in bytes.
pub const OWNER_BYTES_MAX: usize = 256;

/// The sign of life of one process.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    store: Arc<dyn ObjectStore>,
    path: Path,
    clock: Arc<dyn Clock>,
    owner: String,
    beats: Arc<Mutex<u64>>,
}

impl Heartbeat {
    /// The sign of life of `owner`, a name that no other process has, kept under `prefix`.
    ///
    /// # Errors
    /// `InvalidInput` if the name is empty or longer than [`OWNER_BYTES_MAX`].
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &Path, clock: Arc<dyn Clock>, owner: &str) -> Result<Self> {
        if owner.is_empty() || owner.len() > OWNER_BYTES_MAX {
            let message = format!("an owner's name has 1 to {OWNER_BYTES_MAX} bytes, this one {}", owner.len());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let path = prefix.clone().join(owner);
        Ok(Self { store, path, clock, owner: owner.into(), beats: Arc::default() })
    }

    /// Shows that the process lives. Call it every third of a lease's duration or oftener; dropping the future may
    /// leave the beat shown or not.
    ///
    /// # Errors
    /// As the store reports them: the leases may then run out.
    pub async fn beat(&self) -> Result<()> {
        let count = {
            let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
            *beats += 1;
            *beats
        };
        let sign = format!("{count} {:032x}", rand::random::<u128>());
        self.store.put(&self.path, Bytes::from(sign).into()).await?;
        Ok(())
    }
}

/// Who holds a lease, and since which change of hands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// The owner's name; empty once it was given back.
    pub owner: String,
    /// Rises with every change of hands: pass it to what must refuse an owner of before.
    pub epoch: u64,
}

/// One lease, as one process sees it.
#[derive(Debug)]
pub struct Lease {
    commits: VersionedCommit,
    heartbeat: Heartbeat,
    heartbeats: Path,
    duration: Duration,
    seen: Option<Seen>,
}

/// The last sign of life of the owner, and when it changed under our eyes.
#[derive(Debug)]
struct Seen {
    owner: String,
    sign: Option<Bytes>,
    at: Duration,
}

impl Lease {
    /// The lease kept under `prefix`, to be held as the owner of `heartbeat`, whose siblings lie under `heartbeats`.
    ///
    /// `duration` is how long an owner may show no life before others take over.
    #[must_use]
    pub fn new(prefix: Path, heartbeats: Path, heartbeat: Heartbeat, duration: Duration) -> Self {
        let commits = VersionedCommit::new(heartbeat.store.clone(), prefix).with_clock(heartbeat.clock.clone());
        Self { commits, heartbeat, heartbeats, duration, seen: None }
    }

    /// Who holds it; `None` if nobody ever did or it was given back. Dropping the future changes nothing.
    ///
    /// # Errors
    /// As the store reports them.
    pub async fn held(&self) -> Result<Option<Held>> {
        Ok(self.newest().await?.map(|(_, held)| held).filter(|held| !held.owner.is_empty()))
    }

    /// Takes the lease if it is free, ours already, or its owner showed no life for the whole duration under our own
    /// eyes; `None` if another holds it. Ask again and again: the first question only begins the watch.
    ///
    /// Dropping the future may leave it taken or not.
    ///
    /// # Errors
    /// As the store reports them.
    pub async fn try_acquire(&mut self) -> Result<Option<Held>> {
        let newest = self.newest().await?;
        if let Some((_, held)) = &newest {
            if held.owner == self.heartbeat.owner {
                return Ok(Some(held.clone()));
            }
            if !held.owner.is_empty() && self.lives(&held.owner).await? {
                return Ok(None);
            }
        }
        self.heartbeat.beat().await?;
        let (number, epoch) = newest.map_or((0, 0), |(number, held)| (number, held.epoch));
        let held = Held { owner: self.heartbeat.owner.clone(), epoch: epoch + 1 };
        self.hand_over(number, held).await
    }

    /// Gives the lease back, if we hold it, so that nobody has to wait for it to run out.
    ///
    /// Dropping the future may leave it given back or not.
    ///
    /// # Errors
    /// As the store reports them.
    pub async fn release(&mut self) -> Result<()> {
        if let Some((number, held)) = self.newest().await?.filter(|(_, held)| held.owner == self.heartbeat.owner) {
            self.hand_over(number, Held { owner: String::new(), epoch: held.epoch }).await?;
        }
        Ok(())
    }

    async fn hand_over(&self, on: u64, held: Held) -> Result<Option<Held>> {
        let body = serde_json::to_vec(&held)
            .map_err(|error| Error::new(ErrorKind::Internal, "a lease is not JSON").with_source(error))?;
        match self.commits.commit(on, body.into()).await {
            Ok(number) => {
                self.commits.trim(number).await?;
                Ok(Some(held))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn newest(&self) -> Result<Option<(u64, Held)>> {
        let Some(version) = self.commits.latest().await? else { return Ok(None) };
        let held = serde_json::from_slice(&version.body).map_err(|error| {
            Error::new(ErrorKind::Corrupt, format!("version {} is no lease", version.number)).with_source(error)
        })?;
        Ok(Some((version.number, held)))
    }

    /// Whether the owner's sign changed within the duration, as far as we watched.
    async fn lives(&mut self, owner: &str) -> Result<bool> {
        let path = self.heartbeats.clone().join(owner);
        // The same sign says only that it had not changed when it was asked for, however late the answer comes.
        let asked = self.heartbeat.clock.monotonic();
        let sign = retrying::read(self.heartbeat.store.as_ref(), self.heartbeat.clock.as_ref(), &path).await?;
        match &self.seen {
            Some(seen) if seen.owner == owner && seen.sign == sign => Ok(asked.saturating_sub(seen.at) < self.duration),
            _ => {
                let at = self.heartbeat.clock.monotonic();
                self.seen = Some(Seen { owner: owner.into(), sign, at });
                Ok(true)
            }
        }
    }
}
