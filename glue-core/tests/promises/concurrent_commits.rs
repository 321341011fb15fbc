//! Writers of several processes, each with its own view of one store, never lose a commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use durable_core::{DurableLocal, SystemClock};
use futures::future::join_all;
use glue_core::object_store::ObjectStore;
use glue_core::object_store::memory::InMemory;
use glue_core::object_store::path::Path;
use glue_core::{Change, Domains, Glue, Metastore, PartitionDef};
use testkit::fault_store::{Effect, FaultStore, Operation, Rule};

use crate::lake::{table, with_table};

async fn open(store: &Arc<dyn ObjectStore>) -> Glue {
    Glue::on(Arc::clone(store), Path::default()).open().await.unwrap()
}

/// Partitions that are there, and the catalog's number, after so many writers committed so often.
async fn race(store: Arc<dyn ObjectStore>, writers: u32, commits: u32) -> (usize, u64, BTreeSet<u64>) {
    with_table(&open(&store).await).await;
    let tasks = (0..writers).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let glue = open(&store).await;
            let mut numbers = Vec::new();
            for n in 0..commits {
                let partition = PartitionDef::of([format!("w{writer}"), n.to_string()]);
                numbers.push(
                    glue.catalog().commit(Change::new().add_partitions("db", "t", vec![partition])).await.unwrap(),
                );
            }
            numbers
        })
    });
    let numbers: BTreeSet<u64> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    let glue = open(&store).await;
    let selection = glue.catalog().select(table(&glue, "t").await.as_ref(), &Domains::all()).await.unwrap();
    (selection.total, glue.catalog().newest().await.unwrap().number(), numbers)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_of_200_commits_make_3200_versions() {
    let (partitions, number, numbers) = race(Arc::new(InMemory::new()), 16, 200).await;
    assert_eq!((partitions, number), (3200, 3201));
    // Every commit has a number of its own: each version is one commit.
    assert_eq!(numbers, (2..=3201).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_on_one_directory_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (partitions, number, _) = race(Arc::new(DurableLocal::new(dir.path()).unwrap()), 4, 10).await;
    assert_eq!((partitions, number), (40, 41));
}

/// Sabotage: a store whose put-if-absent overwrites loses commits, and the test above would see it.
#[tokio::test(flavor = "multi_thread")]
async fn without_put_if_absent_commits_are_lost() {
    let rules = vec![Rule::on(&[Operation::Put], Effect::Overwrite)];
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, Arc::new(SystemClock::new()), rules);
    let outcome = tokio::spawn(race(Arc::new(store), 8, 50)).await;
    // Lost commits show as missing partitions or numbers, or as a log that no longer adds up.
    assert!(!matches!(outcome, Ok((400, 401, numbers)) if numbers.len() == 400));
}
