//! The store holds the segments that a checkpoint names, and no other for long: not those of a crash, not those that a
//! deleted stream had.

use std::sync::Arc;

use futures::TryStreamExt;
use kinesis_core::{Kinesis, Settings};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::stage::{numbers, put};

async fn segments(store: &InMemory) -> Vec<Path> {
    let listed = store.list(Some(&"k/segments".into())).map_ok(|object| object.location);
    listed.try_collect().await.unwrap()
}

#[tokio::test]
async fn what_a_crash_left_is_deleted_and_nothing_else() {
    let store = Arc::new(InMemory::new());
    let open = async || Kinesis::on(store.clone(), "k").with_settings(Settings::default()).open().await.unwrap();
    let kinesis = open().await;
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    put(&stream, 0..10).await;
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let named = segments(&store).await;
    assert_eq!(named.len(), 1);
    // As if the process had died between the put of a segment and the checkpoint that names it.
    let stray = Path::from(named[0].as_ref().replace(".arrow", "0.arrow"));
    store.put(&stray, "stray".into()).await.unwrap();
    let kinesis = open().await;
    kinesis.seal().await.unwrap();
    assert_eq!(segments(&store).await, named);
    assert_eq!(numbers(&kinesis.stream("s").unwrap()).await, (0..10).collect::<Vec<_>>());
    kinesis.delete_stream("s").await.unwrap();
    kinesis.seal().await.unwrap();
    assert_eq!(segments(&store).await, []);
    kinesis.close().await.unwrap();
    assert!(open().await.list_streams().is_empty());
}

/// A second instance on the same store takes over; the first can neither put nor delete any more.
#[tokio::test]
async fn an_instance_that_was_taken_over_touches_nothing() {
    let store = Arc::new(InMemory::new());
    let open = async || Kinesis::on(store.clone(), "k").open().await.unwrap();
    let old = open().await;
    let old_stream = old.create_stream("s", 1).await.unwrap();
    put(&old_stream, 0..10).await;
    let new = open().await;
    let new_stream = new.stream("s").unwrap();
    put(&new_stream, 10..20).await;
    new.seal().await.unwrap();
    let named = segments(&store).await;
    let error = old_stream.put_records(vec![super::stage::record(99)]).await.unwrap_err();
    assert_eq!(error.kind(), kinesis_core::ErrorKind::Fenced, "{error:?}");
    assert!(old.delete_stream("s").await.is_err() && old.seal().await.is_err());
    assert_eq!(segments(&store).await.iter().filter(|path| named.contains(path)).count(), named.len());
    assert_eq!(numbers(&new_stream).await, (0..20).collect::<Vec<_>>());
    new.close().await.unwrap();
}

#[tokio::test]
async fn a_deleted_streams_consumers_go_with_it() {
    const STATE: &str = "what a consumer left";
    let store = Arc::new(InMemory::new());
    let kinesis = Kinesis::on(store.clone(), "k").open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    for consumer in ["early", "late"] {
        stream.commit(consumer, std::collections::BTreeMap::new(), Some(STATE.into())).await.unwrap();
    }
    kinesis.seal().await.unwrap();
    stream.delete_consumer("early").await.unwrap();
    kinesis.delete_stream("s").await.unwrap();
    kinesis.seal().await.unwrap();
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    for object in listed {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        let found = bytes.windows(STATE.len()).any(|window| window == STATE.as_bytes());
        assert!(!found, "{} still holds the state of a deleted stream's consumer", object.location);
    }
}
