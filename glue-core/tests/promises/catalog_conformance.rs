//! The catalog is a `Metastore`: it passes the suite that the memory metastore passes, on every kind of store.

use std::sync::Arc;

use glue_core::Glue;
use glue_core::object_store::memory::InMemory;
use glue_core::object_store::path::Path;
use glue_core::table_core::{Result, conformance};

#[tokio::test]
async fn in_memory() {
    conformance::all(async || Ok(Glue::memory().open().await?.catalog().clone())).await.unwrap();
}

#[tokio::test]
async fn on_a_store_with_a_checkpoint_every_other_commit() {
    let fresh = async || -> Result<_> {
        let builder = Glue::on(Arc::new(InMemory::new()), Path::from("some/where")).with_checkpoint_every(2);
        Ok(builder.open().await?.catalog().clone())
    };
    conformance::all(fresh).await.unwrap();
}

#[tokio::test]
async fn in_a_directory() {
    let dirs = std::sync::Mutex::new(Vec::new());
    let fresh = async || -> Result<_> {
        let dir = tempfile::tempdir().unwrap();
        let glue = Glue::at(dir.path()).open().await?;
        dirs.lock().unwrap().push(dir);
        Ok(glue.catalog().clone())
    };
    conformance::all(fresh).await.unwrap();
}
