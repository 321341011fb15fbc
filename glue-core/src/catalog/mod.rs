//! The catalog: numbered commits of typed changes on an object store, and the state that they make.
//!
//! Invariant: commit n is the result of one change applied to commit n-1, so every process that replays the log has the same
//! state. A writer who loses the race for a number replays the winner and tries again; its change is refused only if what
//! it relied on no longer holds.

mod checkpoint;
mod log;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use durable_core::{Clock, VersionedCommit};
use object_store::ObjectStore;
use object_store::path::Path;
use rand::Rng;
use table_core::{CatalogState, Change, Domains, ErrorKind, Metastore, Selection, TableDef, TableState};

use crate::{Error, Result};
use checkpoint::Checkpoints;

/// A checkpoint is written after so many commits unless told otherwise.
pub const CHECKPOINT_EVERY: u64 = 100;

/// For how many checkpoints the log's commits are kept, for readers and writers that are behind.
const CHECKPOINTS_OF_LOG_KEPT: u64 = 10;

/// How often a writer who keeps losing tries again before it is told `Throttled`.
pub const COMMIT_ATTEMPTS_MAX: u32 = 1000;

/// After how many lost races in a row a writer waits a little, so that others get through.
const LOSSES_BEFORE_WAIT: u32 = 4;
const WAIT_MAX: Duration = Duration::from_millis(20);

/// The catalog's handle. Cheap to clone; clones share one view. Every read sees the newest commit of any process.
#[derive(Clone, Debug)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commits: VersionedCommit,
    checkpoints: Checkpoints,
    clock: Arc<dyn Clock>,
    checkpoint_every: u64,
    view: Mutex<View>,
    /// Writers of this process take turns, so that they do not race each other for numbers.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct View {
    state: Arc<CatalogState>,
    checkpoint: u64,
}

impl Catalog {
    pub(crate) async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &Path,
        clock: Arc<dyn Clock>,
        checkpoint_every: u64,
    ) -> Result<Self> {
        let commits = VersionedCommit::new(store.clone(), prefix.clone().join("log")).with_clock(clock.clone());
        let checkpoints = Checkpoints::new(store, prefix.clone().join("checkpoint"));
        let (view, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        let catalog = Self { shared: Arc::new(Shared { commits, checkpoints, clock, checkpoint_every, view, turn }) };
        catalog.load().await?;
        catalog.newest().await?;
        Ok(catalog)
    }

    /// The whole catalog as of its newest commit: a consistent view that later commits do not change. Dropping the future
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// `Corrupt` if what is stored is damaged; `Unavailable` if the store cannot be read.
    pub async fn newest(&self) -> Result<Arc<CatalogState>> {
        loop {
            let state = self.view().state;
            let number = state.number();
            match self.shared.commits.read(number + 1).await? {
                Some(version) => {
                    let next = log::replay(&state, &version)?;
                    self.advance(next, None);
                }
                // Nothing comes after, unless all of it was trimmed along with what we know.
                None if self.is_newest(number).await? => return Ok(state),
                None => self.load().await?,
            }
        }
    }

    /// The definitions of a table, newest first, as far as they are kept. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such table; as [`newest`](Self::newest).
    pub async fn table_versions(&self, database: &str, name: &str) -> Result<Vec<Arc<TableDef>>> {
        Ok(self.table_state(database, name).await?.versions().cloned().collect())
    }

    /// A table with its partitions and former definitions, as of the newest commit. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`table_versions`](Self::table_versions).
    pub async fn table_state(&self, database: &str, name: &str) -> Result<Arc<TableState>> {
        let state = self.newest().await?;
        let missing = || Error::new(ErrorKind::NotFound, format!("table \"{database}.{name}\" does not exist"));
        state.table(database, name).cloned().ok_or_else(missing)
    }

    /// Applies a change whole or not at all, as [`Metastore::commit`].
    ///
    /// Dropping the future may leave the change committed or not.
    ///
    /// # Errors
    ///
    /// As [`Metastore::commit`]; `LimitExceeded` if the change is larger than one commit may be;
    /// `Throttled` after [`COMMIT_ATTEMPTS_MAX`] lost races; `Unavailable` if the store kept failing, and then whether the
    /// change was committed is not known.
    pub async fn commit(&self, change: Change) -> Result<u64> {
        let _turn = self.shared.turn.lock().await;
        for attempt in 0..COMMIT_ATTEMPTS_MAX {
            if attempt >= LOSSES_BEFORE_WAIT {
                let wait = WAIT_MAX.mul_f64(rand::rng().random());
                self.shared.clock.sleep(wait).await;
            }
            let state = self.newest().await?;
            let at = self.shared.clock.now();
            let Some(next) = state.apply(&change, at)? else { return Ok(state.number()) };
            match self.shared.commits.commit(state.number(), log::entry(&change, at)?).await {
                Ok(number) => {
                    self.advance(next, None);
                    self.checkpoint().await;
                    return Ok(number);
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        let message = format!("the commit lost {COMMIT_ATTEMPTS_MAX} races in a row: try again later");
        Err(Error::new(ErrorKind::Throttled, message))
    }

    fn view(&self) -> View {
        self.shared.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a state that is newer than the one in view; views never go back.
    fn advance(&self, state: CatalogState, checkpoint: Option<u64>) {
        let mut view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
        if state.number() > view.state.number() {
            view.state = Arc::new(state);
        }
        view.checkpoint = view.checkpoint.max(checkpoint.unwrap_or(0));
    }

    /// Whether nothing comes after `number`, given that `number + 1` was not found: versions are trimmed from below, so it
    /// was not trimmed if `number` is still there.
    async fn is_newest(&self, number: u64) -> Result<bool> {
        Ok(match number {
            0 => self.shared.commits.latest().await?.is_none(),
            _ => self.shared.commits.read(number).await?.is_some(),
        })
    }

    /// Starts again from the newest checkpoint, if it is newer than what is in view.
    async fn load(&self) -> Result<()> {
        if let Some(state) = self.shared.checkpoints.newest(self.view().state.number()).await? {
            let number = state.number();
            self.advance(state, Some(number));
        } else if let Some(version) = self.shared.commits.latest().await?
            && version.number > self.view().state.number() + 1
            && self.shared.commits.read(self.view().state.number() + 1).await?.is_none()
        {
            let number = version.number;
            let message =
                format!("the catalog's log begins after its start and has no checkpoint before commit {number}");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(())
    }

    /// Writes a checkpoint when one is due. A commit does not fail by it: the next one tries again.
    async fn checkpoint(&self) {
        let view = self.view();
        let number = view.state.number();
        if number < view.checkpoint + self.shared.checkpoint_every {
            return;
        }
        match self.shared.checkpoints.write(&view.state).await {
            Ok(()) => self.shared.view.lock().unwrap_or_else(PoisonError::into_inner).checkpoint = number,
            Err(error) => return tracing::warn!(number, %error, "the catalog's checkpoint was not written"),
        }
        let kept = self.shared.checkpoint_every.saturating_mul(CHECKPOINTS_OF_LOG_KEPT);
        if let Err(error) = self.shared.commits.trim(number.saturating_sub(kept)).await {
            tracing::warn!(number, %error, "the catalog's log was not trimmed");
        }
    }
}

#[async_trait]
impl Metastore for Catalog {
    async fn databases(&self) -> table_core::Result<Vec<String>> {
        Ok(self.newest().await?.databases().map(|database| database.name.clone()).collect())
    }

    async fn tables(&self, database: &str) -> table_core::Result<Vec<String>> {
        Ok(self.newest().await?.tables(database)?.map(|table| table.def().name.clone()).collect())
    }

    async fn table(&self, database: &str, name: &str) -> table_core::Result<Option<Arc<TableDef>>> {
        Ok(self.newest().await?.table(database, name).map(|table| Arc::clone(table.def())))
    }

    async fn select(&self, table: &TableDef, domains: &Domains) -> table_core::Result<Selection> {
        let state = self.newest().await?;
        // A long selection keeps its thread busy, never the view's lock.
        state.select(table, domains)
    }

    async fn commit(&self, change: Change) -> table_core::Result<u64> {
        Ok(Self::commit(self, change).await?)
    }
}
