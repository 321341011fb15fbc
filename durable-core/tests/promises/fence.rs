//! A writer that was taken over never acknowledges again, however long it slept and whatever was trimmed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::journal::{Journal, Position};
use durable_core::{ErrorKind, ManualClock};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use testkit::fault_store::{Effect, FaultStore, Operation, Rule};

async fn take_over(store: &Arc<dyn ObjectStore>) -> Journal {
    Journal::store(store.clone(), Path::from("journal")).open().await.unwrap().start(|_| {}).await.unwrap()
}

async fn append(journal: &Journal, body: &str) -> durable_core::Result<Position> {
    journal.append(Bytes::copy_from_slice(body.as_bytes()), 1).await
}

#[tokio::test]
async fn a_sleeper_finds_no_name_that_trimming_freed() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let sleeper = take_over(&store).await;
    append(&sleeper, "before it slept").await.unwrap();

    // Each of these covers everything before it with a checkpoint, the fences included.
    for round in 0..3 {
        let newer = take_over(&store).await;
        let mut last = Position::ZERO;
        for number in 0..5 {
            last = append(&newer, &format!("round {round}, number {number}")).await.unwrap();
        }
        newer.checkpoint(last, vec![("state".into(), Some("all of it".into()))]).await.unwrap();
        newer.close().await.unwrap();
    }

    let error = append(&sleeper, "after it woke").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let mut recovery = Journal::store(store, Path::from("journal")).open().await.unwrap();
    while let Some(frame) = recovery.next().await.unwrap() {
        assert_ne!(frame.body, "after it woke");
    }
}

#[tokio::test]
async fn a_sleeper_cannot_trim_what_the_newer_writer_needs() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let sleeper = take_over(&store).await;
    let slept = append(&sleeper, "before it slept").await.unwrap();
    let newer = take_over(&store).await;
    append(&newer, "the newer writer's").await.unwrap();

    let error = sleeper.checkpoint(slept, vec![("state".into(), Some("the sleeper's".into()))]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    newer.close().await.unwrap();
    let mut recovery = Journal::store(store, Path::from("journal")).open().await.unwrap();
    let mut bodies = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        bodies.push(frame.body);
    }
    assert!(bodies.contains(&Bytes::from_static(b"the newer writer's")), "{bodies:?}");
}

/// An opener sleeps between taking its epoch and looking for the end, while another opens and, or not yet, appends.
async fn overtaken(appends_meanwhile: bool) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = take_over(&store).await;
    append(&first, "the first writer's").await.unwrap();

    let clock = ManualClock::default();
    let sleep = Effect::Latency { min: Duration::from_secs(1), max: Duration::from_secs(1) };
    let rule = Rule::on(&[Operation::List], sleep).under("journal/log").at_call(0);
    let sleepy = FaultStore::with_rules(store.clone(), 1, Arc::new(clock.clone()), vec![rule]);
    let opener = tokio::spawn(Journal::store(Arc::new(sleepy.clone()), Path::from("journal")).open());
    while sleepy.fired() == [0] {
        tokio::task::yield_now().await;
    }
    let newer = take_over(&store).await;
    if appends_meanwhile {
        append(&newer, "the newer writer's").await.unwrap();
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(opener.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);

    // The fence that the overtaken one left is void: the newer writer goes on behind it, and it trims and recovers.
    let mut expected = vec![Bytes::from("the first writer's")];
    if appends_meanwhile {
        expected.push("the newer writer's".into());
    }
    for number in 0..5 {
        let body = format!("behind, number {number}");
        append(&newer, &body).await.unwrap();
        expected.push(body.into());
    }
    newer.close().await.unwrap();
    assert_eq!(bodies(&store).await, expected);
    let next = take_over(&store).await;
    let last = append(&next, "kept").await.unwrap();
    next.checkpoint(last, vec![("state".into(), Some("all before".into()))]).await.unwrap();
    next.close().await.unwrap();
    assert_eq!(bodies(&store).await, ["kept"]);
}

async fn bodies(store: &Arc<dyn ObjectStore>) -> Vec<Bytes> {
    let mut recovery = Journal::store(store.clone(), Path::from("journal")).open().await.unwrap();
    let mut bodies = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        bodies.push(frame.body);
    }
    bodies
}

#[tokio::test]
async fn an_opener_that_is_overtaken_leaves_nothing_that_counts() {
    overtaken(false).await;
    overtaken(true).await;
}

/// What a checkpoint let go is deleted although the one that should have deleted it was killed before.
#[tokio::test]
async fn what_a_killed_writer_did_not_delete_the_next_one_does() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let unable = Rule::on(&[Operation::Delete], Effect::Fail(testkit::fault_store::Failure::PermissionDenied));
    let faulty = FaultStore::with_rules(store.clone(), 1, Arc::new(ManualClock::default()), vec![unable]);
    let faulty: Arc<dyn ObjectStore> = Arc::new(faulty);
    let journal = take_over(&faulty).await;
    let mut last = Position::ZERO;
    for number in 0..20 {
        last = append(&journal, &format!("number {number}")).await.unwrap();
    }
    for name in ["one", "two"] {
        journal.checkpoint(last, vec![(name.into(), Some("state".into()))]).await.unwrap_err();
    }
    drop(journal);
    let next = take_over(&store).await;
    let last = append(&next, "after").await.unwrap();
    next.checkpoint(last, vec![("three".into(), Some("state".into()))]).await.unwrap();
    next.close().await.unwrap();
    let count = async |folder: &str| {
        let listed = futures::StreamExt::count(store.list(Some(&Path::from(format!("journal/{folder}")))));
        listed.await
    };
    // Of each epoch the fence and the newest, and what follows the checkpoint.
    assert!(count("log").await <= 8, "{} log objects are left", count("log").await);
    assert_eq!((count("checkpoint").await, count("epoch/version").await), (1, 1));
    assert!(count("parts").await <= 3);
    assert!(store.head(&Path::from("journal/log/00000000000000000010")).await.is_err());
}
