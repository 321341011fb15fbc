//! The catalog in memory: the reference for every other implementation.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use durable_core::{Clock, SystemClock};

use super::{CatalogState, Change, Metastore, Selection};
use crate::{Domains, Result, TableDef};

/// A catalog that lives as long as its last handle.
#[derive(Clone, Debug)]
pub struct MemoryMetastore {
    state: Arc<Mutex<CatalogState>>,
    clock: Arc<dyn Clock>,
}

impl MemoryMetastore {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// An empty catalog that stamps its tables by a clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// The catalog as it is now; later commits do not show in it.
    #[must_use]
    pub fn state(&self) -> CatalogState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for MemoryMetastore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Metastore for MemoryMetastore {
    async fn databases(&self) -> Result<Vec<String>> {
        Ok(self.state().databases().map(|database| database.name.clone()).collect())
    }

    async fn tables(&self, database: &str) -> Result<Vec<String>> {
        Ok(self.state().tables(database)?.map(|table| table.def().name.clone()).collect())
    }

    async fn table(&self, database: &str, name: &str) -> Result<Option<Arc<TableDef>>> {
        Ok(self.state().table(database, name).map(|table| Arc::clone(table.def())))
    }

    async fn select(&self, table: &TableDef, domains: &Domains) -> Result<Selection> {
        self.state().select(table, domains)
    }

    async fn commit(&self, change: Change) -> Result<u64> {
        let at = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = state.apply(&change, at)? {
            *state = next;
        }
        Ok(state.number())
    }
}
