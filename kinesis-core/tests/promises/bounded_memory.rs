//! Records in memory stay within the tail's bytes, whoever puts and whether or not the store works.

use std::sync::Arc;

use bytes::Bytes;
use durable_core::{ManualClock, SystemClock};
use futures::StreamExt;
use kinesis_core::{ErrorKind, IteratorType, Kinesis, PutBatch, PutRecord, Settings, ShardId};
use object_store::memory::InMemory;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

use super::stage::{SMALL_TAIL, number_of, numbers, put, small_settings};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_holds_nothing_up() {
    const READERS: usize = 10;
    let kinesis = Kinesis::memory().with_settings(small_settings()).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let shard = ShardId::new(0);
    put(&stream, [0]).await;
    let mut stalled = stream.subscribe(shard, IteratorType::TrimHorizon);
    let mut seen = stalled.next().await.unwrap().unwrap().records.len();
    let last = 20_000;
    let readers = (1..READERS).map(|_| {
        let mut events = stream.subscribe(shard, IteratorType::TrimHorizon);
        tokio::spawn(async move {
            let mut read = Vec::new();
            while read.last() != Some(&last) {
                read.extend(events.next().await.unwrap().unwrap().records.iter().map(number_of));
            }
            read
        })
    });
    let readers: Vec<_> = readers.collect();
    for first in (1..=last).step_by(100) {
        put(&stream, first..first + 100).await;
        let metrics = kinesis.metrics();
        let bytes = SMALL_TAIL as u64;
        assert!(metrics.tail_bytes <= bytes && metrics.cache_bytes <= bytes, "{metrics:?}");
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (0..=last).collect::<Vec<_>>());
    }
    // It goes on where it stood, out of the segments.
    assert!(kinesis.metrics().sealed_segments > 20);
    while seen <= last as usize {
        let records = stalled.next().await.unwrap().unwrap().records;
        assert!(records.iter().map(number_of).eq(seen as u64..(seen + records.len()) as u64));
        seen += records.len();
    }
}

#[test]
fn a_record_too_large_is_refused_before_anything_is_made_of_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = Settings::default().with_record_bytes_max(1 << 20);
    let kinesis = runtime.block_on(Kinesis::memory().with_settings(settings).open()).unwrap();
    let stream = runtime.block_on(kinesis.create_stream("s", 1)).unwrap();
    let data = Bytes::from(vec![7; 1 << 20]);
    let fits = PutRecord::new(data.slice(1..), "k");
    runtime.block_on(stream.put_record(fits)).unwrap();
    for batch in [
        PutBatch::new(vec![PutRecord::new(data.clone(), "k")]),
        PutBatch::new(vec![PutRecord::new(data.slice(1..), "k"); 11]),
    ] {
        let allocated = allocation_counter::measure(|| {
            let refused = runtime.block_on(stream.put_batch(batch.clone())).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused:?}");
        });
        assert!(allocated.bytes_max <= 64 << 10, "{allocated:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_of_the_largest_records_at_once_wait_for_room() {
    let bytes_max = 16 << 20;
    let settings = Settings::default().with_tail_bytes(bytes_max).with_cache_bytes(1 << 20);
    let kinesis = Kinesis::memory().with_settings(settings).open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let data = Bytes::from(vec![7; (1 << 20) - 1]);
    let puts = (0..1000).map(|number| stream.put_record(PutRecord::new(data.clone(), (number % 10).to_string())));
    let watch = async {
        loop {
            let metrics = kinesis.metrics();
            assert!(metrics.tail_bytes <= bytes_max as u64, "{metrics:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        stored = futures::future::try_join_all(puts) => assert_eq!(stored.unwrap().len(), 1000),
        () = watch => {}
    }
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
