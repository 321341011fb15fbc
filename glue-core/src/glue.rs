//! The service: a catalog on a store, and crawlers that fill it. Three doors, one builder.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use durable_core::{Clock, DurableLocal, SystemClock};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use table_core::Metastore;

use crate::{CHECKPOINT_EVERY, Catalog, Crawler, Result};

/// A data catalog in this process, on a store that other processes may share. Cheap to clone.
///
/// ```
/// use glue_core::{Change, Column, Database, Format, Glue, HiveType, Metastore, TableDef};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> glue_core::Result<()> {
/// let glue = Glue::memory().open().await?;
/// let table = TableDef::new("lake", "flights", "data/flights", Format::Parquet)
///     .with_columns([Column::new("carrier", HiveType::String)]);
/// glue.catalog().commit(Change::new().create_database(Database::new("lake")).create_table(table)).await?;
/// assert_eq!(glue.catalog().tables("lake").await?, ["flights"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Glue {
    catalog: Catalog,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
}

impl Glue {
    /// A catalog that lives as long as its last handle.
    #[must_use]
    pub fn memory() -> GlueBuilder {
        Self::on(Arc::new(InMemory::new()), Path::default())
    }

    /// A catalog in a directory, under `store` in it; every commit is synced to disk before it is acknowledged.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> GlueBuilder {
        GlueBuilder::new(Place::Dir(dir.into()))
    }

    /// A catalog under a prefix of any object store that has put-if-absent. Several processes may open it at once.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>, prefix: Path) -> GlueBuilder {
        GlueBuilder::new(Place::Store(store, prefix))
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The catalog for whoever takes any [`Metastore`].
    #[must_use]
    pub fn metastore(&self) -> Arc<dyn Metastore> {
        Arc::new(self.catalog.clone())
    }

    /// The store that the catalog lies on: for [`at`](Self::at), the directory's `store`.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// A crawler that looks below `target` in `data`, and keeps what it learnt under `name`, so that the next crawl by that
    /// name reads only what changed. Locations of the tables it finds are paths within `data`.
    #[must_use]
    pub fn crawler(&self, name: impl Into<String>, data: Arc<dyn ObjectStore>, target: Path) -> Crawler {
        let memory = self.prefix.clone().join("crawler");
        Crawler::new(name.into(), self.catalog.clone(), data, target, self.store.clone(), memory, self.clock.clone())
    }
}

enum Place {
    Dir(PathBuf),
    Store(Arc<dyn ObjectStore>, Path),
}

/// Opens a [`Glue`].
pub struct GlueBuilder {
    place: Place,
    clock: Arc<dyn Clock>,
    checkpoint_every: u64,
}

impl fmt::Debug for GlueBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlueBuilder").field("checkpoint_every", &self.checkpoint_every).finish_non_exhaustive()
    }
}

impl GlueBuilder {
    fn new(place: Place) -> Self {
        Self { place, clock: Arc::new(SystemClock::new()), checkpoint_every: CHECKPOINT_EVERY }
    }

    /// Stamps tables and waits between attempts by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Writes a checkpoint after so many commits, at least 1; opening replays at most about so many.
    #[must_use]
    pub fn with_checkpoint_every(mut self, commits: u64) -> Self {
        self.checkpoint_every = commits.max(1);
        self
    }

    /// Opens the catalog at its newest commit. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// `Corrupt` if what is stored is damaged; `Unavailable` if the store cannot be read.
    pub async fn open(self) -> Result<Glue> {
        let (store, prefix): (Arc<dyn ObjectStore>, Path) = match self.place {
            Place::Dir(dir) => (Arc::new(DurableLocal::new(dir.join("store"))?), Path::default()),
            Place::Store(store, prefix) => (store, prefix),
        };
        let prefix = prefix.join("_catalog");
        let catalog = Catalog::open(store.clone(), &prefix, self.clock.clone(), self.checkpoint_every).await?;
        Ok(Glue { catalog, store, prefix, clock: self.clock })
    }
}
