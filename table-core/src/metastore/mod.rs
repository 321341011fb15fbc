//! The catalog as everybody sees it: databases, tables at a version, partitions selected at the source, one commit.
//!
//! Invariant: a commit is whole or not at all, and a reader sees whole commits. What a change relied on is checked in the
//! same step that applies it, so two writers never lose each other's work.

mod change;
mod memory;
mod state;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use change::{Action, Change, Database, Expect};
pub use memory::MemoryMetastore;
pub use state::{CatalogState, SNAPSHOTS_KEPT, TableState, VERSIONS_KEPT};

use crate::{Domains, PartitionDef, Result, TableDef};

/// Partitions that a filter left, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Selection {
    /// What is left.
    pub partitions: Vec<PartitionDef>,
    /// How many partitions the table has.
    pub total: usize,
}

impl Selection {
    /// A selection of so many.
    #[must_use]
    pub fn new(partitions: Vec<PartitionDef>, total: usize) -> Self {
        Self { partitions, total }
    }
}

/// A catalog of tables. Implementations are cheap to share behind an `Arc`; names are looked up in lower case.
#[async_trait]
pub trait Metastore: Send + Sync + Debug {
    /// Names of all databases, sorted. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the catalog cannot be read; every method may give it.
    async fn databases(&self) -> Result<Vec<String>>;

    /// Names of a database's tables, sorted. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such database.
    async fn tables(&self, database: &str) -> Result<Vec<String>>;

    /// The newest definition of a table, or `None` if there is no such table or database. Dropping the future changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the catalog cannot be read.
    async fn table(&self, database: &str, name: &str) -> Result<Option<Arc<TableDef>>>;

    /// The partitions in these domains, as of `table.snapshot`: later commits do not show. A table without partition keys
    /// has none. Domains of other columns are ignored. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound` if the table was dropped; `Expired` if the snapshot is too old to be kept: get the table again;
    /// `InvalidInput` for a domain of another type than its key's.
    async fn select(&self, table: &TableDef, domains: &Domains) -> Result<Selection>;

    /// Applies a change whole, or not at all, and returns the number of the catalog's version that holds it. A change
    /// that would change nothing commits nothing and returns the present number. Once called, dropping the future may
    /// leave the change applied or not.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `NotFound` or `InvalidInput` for what the change asks; `Conflict` if something it expected is no
    /// longer so.
    async fn commit(&self, change: Change) -> Result<u64>;
}
