//! A writer that was taken over never acknowledges again, however long it slept and whatever was trimmed meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use durable_core::ErrorKind;
use durable_core::journal::{Journal, Position};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

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
