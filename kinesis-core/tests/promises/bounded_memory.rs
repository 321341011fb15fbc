//! Records in memory stay within the tail's bytes, whoever puts and whether or not the store works.

use std::sync::Arc;

use durable_core::{ManualClock, SystemClock};
use kinesis_core::{ErrorKind, Kinesis};
use object_store::memory::InMemory;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

use super::stage::{SMALL_TAIL, numbers, put, small_settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_tail_never_grows_past_its_setting() {
    let kinesis = Kinesis::memory().with_settings(small_settings()).open().await.unwrap();
    let stream = kinesis.create_stream("s", 3).await.unwrap();
    let putters = (0..6).map(|putter| {
        let (stream, kinesis) = (stream.clone(), kinesis.clone());
        tokio::spawn(async move {
            for batch in 0..40 {
                put(&stream, (0..50).map(|number| (putter * 40 + batch) * 50 + number)).await;
                let metrics = kinesis.metrics();
                assert!(metrics.tail_bytes <= SMALL_TAIL as u64, "{metrics:?}");
            }
        })
    });
    for putter in putters.collect::<Vec<_>>() {
        putter.await.unwrap();
    }
    let metrics = kinesis.metrics();
    assert!(metrics.incoming_bytes > 20 * SMALL_TAIL as u64 && metrics.sealed_segments >= 20, "{metrics:?}");
    assert_eq!(numbers(&stream).await, (0..12_000).collect::<Vec<_>>());
    let metrics = kinesis.metrics();
    assert!(metrics.cache_bytes <= SMALL_TAIL as u64 && metrics.fetched_segments >= 20, "{metrics:?}");
}

/// A store that takes no segment, and the journal beside it.
struct NoSegments {
    store: FaultStore,
    dir: tempfile::TempDir,
    clock: ManualClock,
}

impl NoSegments {
    fn new() -> Self {
        let rules = vec![Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable)).under("k/segments")];
        let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, Arc::new(SystemClock::new()), rules);
        Self { store, dir: tempfile::tempdir().unwrap(), clock: ManualClock::default() }
    }

    async fn open(&self) -> Kinesis {
        let builder = Kinesis::on(Arc::new(self.store.clone()), "k").journal_dir(self.dir.path());
        builder.with_settings(small_settings()).with_clock(Arc::new(self.clock.clone())).open().await.unwrap()
    }
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_nothing_is_lost() {
    let rig = NoSegments::new();
    let kinesis = rig.open().await;
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let mut acknowledged = 0;
    let error = loop {
        let batch = (acknowledged..acknowledged + 20).map(super::stage::record).collect();
        match stream.put_records(batch).await {
            Ok(_) => acknowledged += 20,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error:?}");
    assert!(error.message().contains("503"), "{error:?}");
    assert_eq!(numbers(&stream).await, (0..acknowledged).collect::<Vec<_>>());
    // What is only in the journal survives a restart, and the store works again some time.
    kinesis.close().await.unwrap();
    rig.store.assert_all_fired();
    rig.store.heal();
    let kinesis = rig.open().await;
    let stream = kinesis.stream("s").unwrap();
    assert_eq!(kinesis.metrics().recovered_records, acknowledged);
    for first in (acknowledged..acknowledged + 200).step_by(20) {
        put(&stream, first..first + 20).await;
    }
    assert_eq!(numbers(&stream).await, (0..acknowledged + 200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_larger_than_half_the_tail_is_refused() {
    let kinesis = Kinesis::memory().with_settings(small_settings()).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let record = kinesis_core::PutRecord::new(vec![0; SMALL_TAIL / 2], "k");
    assert_eq!(stream.put_record(record).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    put(&stream, [1]).await;
}

#[tokio::test]
async fn a_restart_counts_what_is_in_memory_though_a_stream_was_deleted() {
    let rig = NoSegments::new();
    let kinesis = rig.open().await;
    put(&kinesis.create_stream("deleted", 2).await.unwrap(), 0..40).await;
    let kept = kinesis.create_stream("kept", 2).await.unwrap();
    put(&kept, 0..20).await;
    kinesis.delete_stream("deleted").await.unwrap();
    let held = kinesis.metrics().tail_bytes;
    kinesis.close().await.unwrap();
    let kinesis = rig.open().await;
    assert_eq!(kinesis.metrics().tail_bytes, held);
    assert_eq!(numbers(&kinesis.stream("kept").unwrap()).await, (0..20).collect::<Vec<_>>());
}
