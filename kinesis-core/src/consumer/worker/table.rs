//! The leases of one application, in the object store: one versioned value for each.
//!
//! Invariant: a lease changes only on top of the version that was read, so of two who change it one is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use durable_core::{Clock, ErrorKind, VersionedCommit, retrying};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use super::lease::Lease;
use crate::error::{Error, Result};
use crate::stream::ShardId;

/// Leases that are read at the same time.
const READ_PARALLEL: usize = 16;
/// Of each so many versions the old ones are deleted.
const TRIM_EVERY: u64 = 16;

/// A lease and the number of its version.
pub(super) type Versioned = (u64, Lease);

#[derive(Clone, Debug)]
pub(super) struct LeaseTable {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    prefix: Path,
}

impl LeaseTable {
    pub(super) fn new(store: Arc<dyn ObjectStore>, clock: Arc<dyn Clock>, prefix: Path) -> Self {
        Self { store, clock, prefix }
    }

    /// All there are.
    pub(super) async fn leases(&self) -> Result<BTreeMap<ShardId, Versioned>> {
        let names = retrying::names(&*self.store, &*self.clock, &self.prefix).await?;
        let depth = self.prefix.parts().count();
        let shard = |path: &Path| path.parts().nth(depth)?.as_ref().parse::<ShardId>().ok();
        let shards: BTreeSet<ShardId> = names.iter().filter_map(shard).collect();
        let read = shards.into_iter().map(|shard| async move { Ok((shard, self.read(shard).await?)) });
        let read: Vec<(ShardId, Option<Versioned>)> = stream::iter(read)
            .buffer_unordered(READ_PARALLEL)
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error: Error| error)?;
        Ok(read.into_iter().filter_map(|(shard, lease)| Some((shard, lease?))).collect())
    }

    pub(super) async fn read(&self, shard: ShardId) -> Result<Option<Versioned>> {
        let Some(version) = self.commits(shard).latest().await? else { return Ok(None) };
        let lease = serde_json::from_slice(&version.body).map_err(|error| {
            Error::corrupt(format!(
                "version {} of the lease of {shard} below {} is no lease",
                version.number, self.prefix
            ))
            .with_source(error)
        })?;
        Ok(Some((version.number, lease)))
    }

    /// Makes `lease` the version after `on` (0 if there is none yet) and answers its number; None if another one is newer.
    pub(super) async fn commit(&self, on: u64, lease: &Lease) -> Result<Option<u64>> {
        let body = serde_json::to_vec(lease)
            .map_err(|error| Error::new(ErrorKind::Internal, "a lease is not JSON").with_source(error))?;
        let commits = self.commits(lease.shard);
        match commits.commit(on, body.into()).await {
            Ok(number) => {
                if number % TRIM_EVERY == 0
                    && let Err(error) = commits.trim(number).await
                {
                    tracing::debug!(%error, shard = %lease.shard, "old versions of a lease were not deleted");
                }
                Ok(Some(number))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the lease of a shard that is no more.
    pub(super) async fn remove(&self, shard: ShardId) -> Result<()> {
        let below = self.folder(shard);
        for name in retrying::names(&*self.store, &*self.clock, &below).await? {
            retrying::delete(&*self.store, &*self.clock, &name).await?;
        }
        Ok(())
    }

    fn commits(&self, shard: ShardId) -> VersionedCommit {
        VersionedCommit::new(self.store.clone(), self.folder(shard)).with_clock(self.clock.clone())
    }

    fn folder(&self, shard: ShardId) -> Path {
        self.prefix.clone().join(shard.to_string())
    }
}
