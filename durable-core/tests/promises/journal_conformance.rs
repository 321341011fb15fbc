//! Every journal passes the one suite, wherever it lies.

use std::path::Path as FilePath;
use std::sync::Arc;

use durable_core::journal::{Journal, Recovery};
use durable_core::{Disk, DurableLocal, ErrorKind};
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use testkit::clock::SkippingClock;
use testkit::conformance::journal::{Subject, run};
use testkit::disk::SimDisk;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    run(Subject { builder: &Journal::memory, stored_bytes: &|| async { 0 }.boxed() }).await;
}

fn bytes_in(dir: &FilePath) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().filter_map(|entry| entry.unwrap().metadata().ok());
    files.map(|file| file.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn directory() {
    let dir = tempfile::tempdir().unwrap();
    let builder = || Journal::dir(dir.path()).segment_bytes(32 << 10);
    run(Subject { builder: &builder, stored_bytes: &|| async { bytes_in(dir.path()) }.boxed() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_on_a_simulated_disk() {
    let disk = SimDisk::new(1);
    let builder = || Journal::dir("/j").segment_bytes(32 << 10).disk(Arc::new(disk.clone()) as Arc<dyn Disk>);
    let stored = || disk.files().iter().map(|file| disk.bytes(file).unwrap().len() as u64).sum();
    run(Subject { builder: &builder, stored_bytes: &|| async { stored() }.boxed() }).await;
}

async fn bytes_under(store: &dyn ObjectStore) -> u64 {
    store.list(None).map_ok(|object| object.size).try_fold(0, |sum, size| async move { Ok(sum + size) }).await.unwrap()
}

/// Runs the suite on `store`, whose objects lie in `behind`.
async fn run_on(store: Arc<dyn ObjectStore>, behind: Arc<dyn ObjectStore>) {
    let builder = || Journal::store(store.clone(), Path::from("a/journal")).clock(SkippingClock::shared());
    run(Subject { builder: &builder, stored_bytes: &|| bytes_under(behind.as_ref()).boxed() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_memory() {
    let store = Arc::new(InMemory::new());
    run_on(store.clone(), store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_a_durable_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(DurableLocal::new(dir.path()).unwrap());
    run_on(store.clone(), store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_on_a_failing_store() {
    let all = [Operation::Put, Operation::Get, Operation::List, Operation::Delete];
    let rules = vec![
        Rule::on(&all, Effect::Fail(Failure::Unavailable)).with_probability(0.10),
        Rule::on(&all, Effect::Fail(Failure::Throttled)).with_probability(0.05),
        Rule::on(&[Operation::Put, Operation::Delete], Effect::ApplyThenFail(Failure::Reset)).with_probability(0.2),
        Rule::on(&[Operation::Get], Effect::Truncate).with_probability(0.1),
    ];
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 5, SkippingClock::shared(), rules);
    run_on(Arc::new(store.clone()), store.inner()).await;
    store.assert_all_fired();
}

async fn frames(mut recovery: Recovery) -> Vec<String> {
    let mut frames = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        frames.push(String::from_utf8(frame.body.to_vec()).unwrap());
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_writer_of_objects_is_fenced() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let builder = || Journal::store(store.clone(), Path::from("j")).clock(SkippingClock::shared());
    let old = builder().open().await.unwrap().start(|_| {}).await.unwrap();
    old.append("old".into(), 1).await.unwrap();
    let new = builder().open().await.unwrap().start(|_| {}).await.unwrap();
    assert!(new.epoch() > old.epoch());
    new.append("new".into(), 1).await.unwrap();
    assert_eq!(old.append("deposed".into(), 1).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(old.is_poisoned());
    let error = old.checkpoint(old.durable(), Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(frames(builder().open().await.unwrap()).await, ["old", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::dir(dir.path()).open().await.unwrap().start(|_| {}).await.unwrap();
    assert_eq!(Journal::dir(dir.path()).open().await.unwrap_err().kind(), ErrorKind::Conflict);
    journal.close().await.unwrap();
    Journal::dir(dir.path()).open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_panics_lets_the_directory_go() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::dir(dir.path()).open().await.unwrap();
    let journal = journal.start(|_| panic!("the hook of a test")).await.unwrap();
    journal.append("durable".into(), 1).await.unwrap_err();
    assert_eq!(journal.close().await.unwrap_err().kind(), ErrorKind::Internal);
    assert!(journal.is_poisoned());
    assert_eq!(frames(Journal::dir(dir.path()).open().await.unwrap()).await, ["durable"]);
}

/// Writers that never pause keep neither a flush nor a checkpoint waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_ends_though_more_comes_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::dir(dir.path()).open().await.unwrap().start(|_| {}).await.unwrap();
    let write = |_| {
        let journal = journal.clone();
        tokio::spawn(async move { while journal.append(vec![1; 1 << 20].into(), 1).await.is_ok() {} })
    };
    let writers: Vec<_> = (0..32).map(write).collect();
    for _ in 0..3 {
        journal.flush().await.unwrap();
        journal.checkpoint(journal.durable(), Vec::new()).await.unwrap();
    }
    journal.close().await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_refused_without_the_journal_that_claimed_it() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let builder = |dir: &FilePath| Journal::dir(dir).claim(store.clone(), Path::from("data/claim"));
    builder(first.path()).open().await.unwrap().start(|_| {}).await.unwrap().close().await.unwrap();
    assert_eq!(builder(second.path()).open().await.unwrap_err().kind(), ErrorKind::NotFound);
    Journal::dir(second.path()).open().await.unwrap().start(|_| {}).await.unwrap().close().await.unwrap();
    assert_eq!(builder(second.path()).open().await.unwrap_err().kind(), ErrorKind::Conflict);
    builder(second.path()).adopt().open().await.unwrap();
    assert_eq!(builder(first.path()).open().await.unwrap_err().kind(), ErrorKind::Conflict);
    builder(second.path()).open().await.unwrap();
}

#[test]
fn outside_a_runtime_is_a_typed_error() {
    let error = futures::executor::block_on(Journal::memory().open()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
