//! Opening reads the newest checkpoint and what came after it; a reader who fell behind the trimmed log catches up; damage is
//! named, never served.

use std::sync::Arc;

use futures::TryStreamExt;
use glue_core::object_store::memory::InMemory;
use glue_core::object_store::path::Path;
use glue_core::object_store::{ObjectStore, ObjectStoreExt};
use glue_core::{Change, ErrorKind, Glue, Metastore, PartitionDef};
use testkit::fault_store::{FaultStore, Operation};

use crate::lake::{table, with_table};

const EVERY: u64 = 50;

async fn history(store: &Arc<dyn ObjectStore>, commits: u32) -> Glue {
    let glue = Glue::on(Arc::clone(store), Path::default()).with_checkpoint_every(EVERY).open().await.unwrap();
    with_table(&glue).await;
    for n in 0..commits {
        let partition = PartitionDef::of(["w".to_owned(), n.to_string()]);
        glue.catalog().commit(Change::new().put_partitions("db", "t", vec![partition])).await.unwrap();
    }
    glue
}

async fn gets_to_open(commits: u32) -> u64 {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    history(&store, commits).await;
    let counted = Arc::new(FaultStore::new(store));
    let glue = Glue::on(counted.clone(), Path::default()).open().await.unwrap();
    let gets = counted.calls(Operation::Get);
    assert_eq!(glue.catalog().table_state("db", "t").await.unwrap().partitions().len(), commits as usize);
    gets
}

#[tokio::test]
async fn the_cost_of_opening_is_bounded_by_the_interval() {
    for commits in [30, 333, 1020] {
        let gets = gets_to_open(commits).await;
        assert!(gets <= EVERY + 8, "{gets} gets after {commits} commits");
    }
}

#[tokio::test]
async fn a_reader_behind_the_trimmed_log_sees_the_newest_commit() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let early = Glue::on(Arc::clone(&store), Path::default()).open().await.unwrap();
    history(&store, 400).await;
    assert_eq!(early.catalog().newest().await.unwrap().number(), 401);
    assert_eq!(early.catalog().table_state("db", "t").await.unwrap().partitions().len(), 400);
}

#[tokio::test]
async fn versions_survive_checkpoints() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let glue = history(&store, 10).await;
    for round in 0..120 {
        let def = table(&glue, "t").await.as_ref().clone().with_property("round", round.to_string());
        glue.catalog().commit(Change::new().replace_table(def)).await.unwrap();
    }
    let reopened = Glue::on(store, Path::default()).open().await.unwrap();
    let versions = reopened.catalog().table_versions("db", "t").await.unwrap();
    assert_eq!(versions.iter().map(|def| def.version).collect::<Vec<_>>(), (1..=121).rev().collect::<Vec<_>>());
    assert_eq!(versions[0].properties["round"], "119");
}

#[tokio::test]
async fn every_damaged_byte_of_a_checkpoint_is_found() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    history(&store, 60).await;
    let checkpoints: Vec<_> = store.list(Some(&Path::from("_catalog/checkpoint"))).try_collect().await.unwrap();
    let newest = checkpoints.into_iter().map(|object| object.location).max().unwrap();
    let whole = store.get(&newest).await.unwrap().bytes().await.unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1;
        store.put(&newest, damaged.into()).await.unwrap();
        let error = Glue::on(Arc::clone(&store), Path::default()).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
    }
    store.put(&newest, whole.into()).await.unwrap();
    let glue = Glue::on(store, Path::default()).open().await.unwrap();
    assert_eq!(glue.catalog().tables("db").await.unwrap(), ["t"]);
}
