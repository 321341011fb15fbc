//! The catalog in memory is the reference: it passes the suite, and a store that loses commits does not.

use std::sync::Arc;

use async_trait::async_trait;
use table_core::{Change, Domains, MemoryMetastore, Metastore, Result, Selection, TableDef, conformance};

#[tokio::test]
async fn the_memory_metastore_conforms() {
    conformance::all(async || Ok(MemoryMetastore::new())).await.unwrap();
}

/// Sabotage: acknowledges partitions of the eighth month without keeping them.
#[derive(Debug, Default)]
struct Forgetful(MemoryMetastore);

#[async_trait]
impl Metastore for Forgetful {
    async fn databases(&self) -> Result<Vec<String>> {
        self.0.databases().await
    }
    async fn tables(&self, database: &str) -> Result<Vec<String>> {
        self.0.tables(database).await
    }
    async fn table(&self, database: &str, name: &str) -> Result<Option<Arc<TableDef>>> {
        self.0.table(database, name).await
    }
    async fn select(&self, table: &TableDef, domains: &Domains) -> Result<Selection> {
        self.0.select(table, domains).await
    }
    async fn commit(&self, change: Change) -> Result<u64> {
        let lost = serde_json::to_string(&change).unwrap().contains(r#""values":["8","#);
        if lost { Ok(0) } else { self.0.commit(change).await }
    }
}

#[tokio::test]
async fn a_store_that_loses_a_commit_fails_the_suite() {
    let error = conformance::writers_at_once_lose_nothing(&Forgetful::default()).await.unwrap_err();
    assert!(error.message().contains("no writer's commit is lost"), "{error}");
}
