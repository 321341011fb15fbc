//! A lease in our hands: its checkpoint moves, and it is given away.
//!
//! Invariant: a checkpoint never passes what the processor was given, never goes back, and is refused once the lease is in
//! other hands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable_core::ErrorKind;

use super::lease::{Checkpoint, Lease};
use super::table::{LeaseTable, Versioned};
use crate::aggregation::UserRecord;
use crate::error::{Error, Result};
use crate::stream::ShardId;

/// Says how far the records of a shard are done. Cloning is cheap: it may be kept and used between calls.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    owned: Arc<Owned>,
}

/// A lease that this worker holds.
#[derive(Debug)]
pub(super) struct Owned {
    table: LeaseTable,
    shard: ShardId,
    epoch: u64,
    /// Held over a commit, so that one of ours waits for the other.
    lease: tokio::sync::Mutex<Versioned>,
    progress: Mutex<Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    /// What the processor was given.
    given: Checkpoint,
    checkpoint: Checkpoint,
    is_lost: bool,
}

impl Owned {
    pub(super) fn new(table: LeaseTable, number: u64, lease: Lease) -> Self {
        let checkpoint = lease.checkpoint;
        Self {
            table,
            shard: lease.shard,
            epoch: lease.epoch,
            progress: Mutex::new(Progress { given: checkpoint, checkpoint, is_lost: false }),
            lease: tokio::sync::Mutex::new((number, lease)),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.progress().checkpoint
    }

    pub(super) fn give(&self, given: Checkpoint) {
        self.progress().given = given;
    }

    pub(super) fn is_lost(&self) -> bool {
        self.progress().is_lost
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the lease to another worker, or gives it back.
    pub(super) async fn hand_over(&self, to: Option<String>) -> Result<()> {
        self.change(|lease| lease.handed_to(to.clone())).await?;
        self.progress().is_lost = true;
        Ok(())
    }

    fn fenced(&self) -> Error {
        let message = format!("the lease of {} is no longer ours; its records are processed elsewhere", self.shard);
        Error::new(ErrorKind::Fenced, message)
    }

    async fn change(&self, change: impl Fn(Lease) -> Lease) -> Result<()> {
        let mut held = self.lease.lock().await;
        if self.is_lost() {
            return Err(self.fenced());
        }
        loop {
            let next = change(held.1.clone());
            if let Some(number) = self.table.commit(held.0, &next).await? {
                *held = (number, next);
                return Ok(());
            }
            // Others may ask for the lease, which is a version of it too.
            match self.table.read(self.shard).await? {
                Some(newest) if newest.1.owner == held.1.owner && newest.1.epoch == self.epoch => *held = newest,
                _ => {
                    self.progress().is_lost = true;
                    return Err(self.fenced());
                }
            }
        }
    }
}

impl Checkpointer {
    pub(super) fn new(owned: Arc<Owned>) -> Self {
        Self { owned }
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.owned.shard
    }

    /// All that the processor was given is done; after the end of the shard, the shard is. Dropping the future may leave
    /// it stored or not.
    ///
    /// # Errors
    /// `Fenced` if another worker has the lease; `Unavailable` as the store reports it, and then it may be stored or not.
    pub async fn checkpoint(&self) -> Result<()> {
        let given = self.owned.progress().given;
        self.store(given).await
    }

    /// All up to this record is done, which is one that the processor was given. Dropping the future may leave it stored
    /// or not.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint); `InvalidInput` if the record was not given yet, or lies before the last
    /// checkpoint.
    pub async fn checkpoint_at(&self, record: &UserRecord) -> Result<()> {
        let sequence_number = record.record.sequence_number;
        let to = match record.is_aggregated {
            true => Checkpoint::After { sequence_number, sub_sequence_number: record.sub_sequence_number },
            false => Checkpoint::after(sequence_number),
        };
        let progress = *self.owned.progress();
        if to > progress.given || sequence_number.shard() != self.owned.shard {
            return Err(Error::invalid(format!(
                "record {sequence_number} of {} was not given to this processor yet",
                self.owned.shard
            )));
        }
        if to < progress.checkpoint {
            return Err(Error::invalid(format!(
                "the checkpoint of {} is beyond record {sequence_number}",
                self.owned.shard
            )));
        }
        self.store(to).await
    }

    async fn store(&self, to: Checkpoint) -> Result<()> {
        let change = |mut lease: Lease| {
            lease.checkpoint = lease.checkpoint.max(to);
            lease.owner_switches_since_checkpoint = 0;
            lease
        };
        self.owned.change(change).await?;
        let mut progress = self.owned.progress();
        progress.checkpoint = progress.checkpoint.max(to);
        Ok(())
    }
}
