//! A damaged segment is detected and named, and no record of it is served.

use std::sync::Arc;

use durable_core::ManualClock;
use futures::TryStreamExt;
use kinesis_core::{ErrorKind, Kinesis, ShardId};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::stage::{numbers, put, read_shard, small_settings};

const SHARD: ShardId = ShardId::new(0);

/// Three segments of one shard in a store, and their objects in order.
async fn three_segments() -> (Arc<InMemory>, Vec<Path>) {
    let store = Arc::new(InMemory::new());
    let kinesis = open(&store).await;
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    for segment in 0..3 {
        put(&stream, segment * 20..segment * 20 + 20).await;
        kinesis.seal().await.unwrap();
    }
    kinesis.close().await.unwrap();
    let listed = store.list(Some(&"k/segments".into())).map_ok(|object| object.location);
    let mut paths: Vec<Path> = listed.try_collect().await.unwrap();
    paths.sort();
    assert_eq!(paths.len(), 3);
    (store, paths)
}

async fn open(store: &Arc<InMemory>) -> Kinesis {
    let clock = Arc::new(ManualClock::default());
    Kinesis::on(store.clone(), "k").with_settings(small_settings()).with_clock(clock).open().await.unwrap()
}

#[tokio::test]
async fn each_flipped_bit_is_detected() {
    let (store, paths) = three_segments().await;
    let path = &paths[1];
    let good = store.get(path).await.unwrap().bytes().await.unwrap();
    let kinesis = open(&store).await;
    let stream = kinesis.stream("s").unwrap();
    // Every byte's turn comes, one of its bits each.
    let mut detected = 0;
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1 << (at % 8);
        store.put(path, bad.into()).await.unwrap();
        let error = read_shard(&stream, SHARD).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error:?}");
        assert!(error.message().contains(path.as_ref()), "byte {at}: {error:?}");
        detected += 1;
    }
    assert_eq!(detected, good.len());
    // The same bytes put back are served again.
    store.put(path, good.into()).await.unwrap();
    assert_eq!(numbers(&stream).await, (0..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cut_swapped_or_missing_segment_is_detected() {
    let (store, paths) = three_segments().await;
    let good = store.get(&paths[1]).await.unwrap().bytes().await.unwrap();
    let other = store.get(&paths[2]).await.unwrap().bytes().await.unwrap();
    for bad in [good.slice(..0), good.slice(..good.len() - 1), good.slice(..good.len() / 2), other] {
        store.put(&paths[1], bad.into()).await.unwrap();
        let kinesis = open(&store).await;
        let error = read_shard(&kinesis.stream("s").unwrap(), SHARD).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        kinesis.close().await.unwrap();
    }
    store.delete(&paths[1]).await.unwrap();
    let kinesis = open(&store).await;
    let error = read_shard(&kinesis.stream("s").unwrap(), SHARD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.message().contains(paths[1].as_ref()) && error.message().contains("missing"), "{error:?}");
    assert_eq!(error.code(), "InternalFailure");
}
