//! What was put to a delivery stream itself is kept until it is delivered, and no longer.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use durable_core::Clock;
use futures::stream;
use kinesis_core::firehose::{
    DELIVERY_RECORD_BYTES_MAX, DeliverySettings, DeliveryStream, PUT_RECORD_BATCH_BYTES_MAX, PUT_RECORD_BATCH_MAX,
};
use kinesis_core::{ErrorKind, Kinesis, Limits, Settings};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};
use testkit::seeds::check_all;

use super::firehose_rig::{by_day, clock, compare, delivered, flight, objects};
use super::stage::{block_on, reopen, while_time_passes};

async fn put_flights(delivery: &DeliveryStream, ids: std::ops::Range<u64>) {
    let ids: Vec<u64> = ids.collect();
    for chunk in ids.chunks(100) {
        let put = delivery.put_record_batch(chunk.iter().map(|id| flight(*id).data).collect()).await.unwrap();
        assert_eq!(put.len(), chunk.len());
    }
}

#[tokio::test]
async fn what_is_put_is_delivered_and_seen_nowhere_else() {
    let kinesis = Kinesis::memory().with_settings(Settings::default().with_limits(Limits::aws())).open().await.unwrap();
    let store = Arc::new(InMemory::new());
    let builder = DeliveryStream::direct("d", kinesis.clone(), store.clone());
    let delivery = builder.with_settings(by_day()).open().await.unwrap();
    // More than AWS lets one shard take in a second.
    put_flights(&delivery, 0..3_000).await;
    let (first, second) = (
        delivery.put_record(flight(3_000).data).await.unwrap(),
        delivery.put_record(flight(3_001).data).await.unwrap(),
    );
    assert_ne!(first, second);
    delivery.flush().await.unwrap();
    compare(&delivered(&*store).await, 0..3_002).unwrap();
    assert!(kinesis.list_streams().is_empty());
    assert_eq!(kinesis.stream("firehose+d").unwrap_err().kind(), ErrorKind::InvalidInput);
    delivery.close().await.unwrap();
    assert_eq!(delivery.put_record("x").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_put_past_a_bound_is_refused_and_takes_nothing() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let store = Arc::new(InMemory::new());
    let delivery = DeliveryStream::direct("d", kinesis.clone(), store.clone()).open().await.unwrap();
    let of = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
    let quarter = PUT_RECORD_BATCH_BYTES_MAX / 5 + 1;
    for refused in [
        vec![],
        vec![of(1); PUT_RECORD_BATCH_MAX + 1],
        vec![of(1), of(DELIVERY_RECORD_BYTES_MAX + 1)],
        vec![of(quarter); 5],
    ] {
        assert_eq!(delivery.put_record_batch(refused).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    delivery.put_record_batch(vec![of(DELIVERY_RECORD_BYTES_MAX); 4]).await.unwrap();
    delivery.put_record_batch(vec![of(0); PUT_RECORD_BATCH_MAX]).await.unwrap();
    delivery.flush().await.unwrap();
    assert_eq!(delivery.metrics().delivered_rows, 504);
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let reading = DeliveryStream::builder("r", source, store).open().await.unwrap();
    assert_eq!(reading.put_record("x").await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn beyond_its_backlog_it_takes_nothing_until_something_was_delivered() {
    let (time, shared) = clock();
    let kinesis = Kinesis::memory().with_clock(shared.clone()).open().await.unwrap();
    let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable));
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared, vec![rule]);
    let builder = DeliveryStream::direct("d", kinesis.clone(), Arc::new(store.clone()));
    let delivery = builder.with_settings(by_day().with_backlog_bytes(64 * 1024)).open().await.unwrap();
    let mut taken = 0;
    let refused = loop {
        match delivery.put_record(flight(taken).data).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.kind() == ErrorKind::Throttled && refused.is_retryable(), "{refused:?}");
    assert!((500..1_500).contains(&taken), "{taken} flights in 64 KiB");
    assert_eq!(delivery.put_record(flight(0).data).await.unwrap_err().kind(), ErrorKind::Throttled);
    store.heal();
    while_time_passes(&time, delivery.flush()).await.unwrap();
    put_flights(&delivery, taken..taken + 500).await;
    while_time_passes(&time, delivery.flush()).await.unwrap();
    compare(&delivered(&*store.inner()).await, 0..taken + 500).unwrap();
}

#[tokio::test]
async fn what_is_delivered_is_let_go_and_the_rest_is_kept_for_as_long_as_it_takes() {
    let (time, shared) = clock();
    let own = Arc::new(InMemory::new());
    let settings = Settings::default().with_tail_bytes(64 * 1024).with_cache_bytes(64 * 1024);
    let opened = Kinesis::on(own.clone(), "k").with_settings(settings).with_clock(shared.clone()).open();
    let kinesis = while_time_passes(&time, opened).await.unwrap();
    let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable));
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared.clone(), vec![rule]);
    let builder = DeliveryStream::direct("d", kinesis.clone(), Arc::new(store.clone()));
    let settings = by_day().with_retry_duration(Duration::from_secs(100 * 24 * 3600));
    let delivery = while_time_passes(&time, builder.with_settings(settings).open()).await.unwrap();
    while_time_passes(&time, put_flights(&delivery, 0..3_000)).await;
    // Longer than a stream keeps records unless told otherwise.
    for _ in 0..3 * 24 {
        time.advance(Duration::from_secs(3600));
        while_time_passes(&time, kinesis.seal()).await.unwrap();
    }
    let segments = |objects: &std::collections::BTreeMap<String, Bytes>| {
        objects.keys().filter(|path| path.ends_with(".arrow")).count()
    };
    let kept = segments(&objects(&*own).await);
    assert!(kept > 3, "{kept} segments");
    store.heal();
    while_time_passes(&time, delivery.flush()).await.unwrap();
    while_time_passes(&time, kinesis.seal()).await.unwrap();
    let left = segments(&objects(&*own).await);
    assert!(left <= 1, "{left} segments of {kept}");
    compare(&delivered(&*store.inner()).await, 0..3_000).unwrap();
}

#[test]
fn what_was_accepted_is_delivered_once_though_it_is_dropped_anywhere() {
    check_all(0..8, |seed| {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let (time, shared) = clock();
            let rules = vec![
                Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable)).with_probability(0.2),
                Rule::on(&[Operation::Put], Effect::ApplyThenFail(Failure::Reset)).with_probability(0.3),
            ];
            let store = FaultStore::with_rules(Arc::new(InMemory::new()), seed, shared.clone(), rules);
            let mut put = 0;
            for life in 0..6 {
                let kinesis = reopen(dir.path()).await;
                let settings = by_day().with_buffer_interval(Duration::from_secs(seed % 3));
                let delivery = open(&kinesis, &store, &shared, settings).await;
                put_flights(&delivery, put..put + 150).await;
                put += 150;
                for _ in 0..(seed * 7 + life * 13) % 97 {
                    time.advance(Duration::from_millis(100));
                    tokio::task::yield_now().await;
                }
            }
            store.heal();
            let kinesis = reopen(dir.path()).await;
            let delivery = open(&kinesis, &store, &shared, by_day()).await;
            while_time_passes(&time, delivery.flush()).await.map_err(|error| format!("{error:?}"))?;
            compare(&delivered(&*store.inner()).await, 0..put)
        })
    });
}

async fn open(
    kinesis: &Kinesis,
    store: &FaultStore,
    clock: &Arc<dyn Clock>,
    settings: DeliverySettings,
) -> DeliveryStream {
    let builder = DeliveryStream::direct("d", kinesis.clone(), Arc::new(store.clone()));
    builder.with_settings(settings).with_clock(clock.clone()).open().await.unwrap()
}

#[tokio::test]
async fn streams_of_bytes_and_of_batches_are_taken_item_by_item() {
    let (time, shared) = clock();
    let kinesis = Kinesis::memory().open().await.unwrap();
    let store = Arc::new(InMemory::new());
    let builder = DeliveryStream::direct("d", kinesis.clone(), store.clone()).with_clock(shared);
    // Less than there is to put: it goes on as what was put is delivered.
    let settings = by_day().with_backlog_bytes(16 * 1024).with_buffer_interval(Duration::from_millis(500));
    let delivery = builder.with_settings(settings).open().await.unwrap();
    let flights = stream::iter((0..2_000).map(|id| flight(id).data));
    assert_eq!(while_time_passes(&time, delivery.put_stream(flights)).await.unwrap(), 2_000);
    let batch = |ids: std::ops::Range<i64>| {
        let id = Int64Array::from_iter_values(ids.clone());
        let day = Int64Array::from_iter_values(ids.clone().map(|id| id % 12 + 1));
        let name = StringArray::from_iter(ids.map(|id| (id % 2 == 0).then_some("a\nb")));
        RecordBatch::try_from_iter([
            ("id", Arc::new(id) as _),
            ("day", Arc::new(day) as _),
            ("name", Arc::new(name) as _),
        ])
        .unwrap()
    };
    let batches = stream::iter([batch(2_000..2_500), batch(2_500..2_501)]);
    assert_eq!(while_time_passes(&time, delivery.put_batches(batches)).await.unwrap(), 501);
    while_time_passes(&time, delivery.flush()).await.unwrap();
    compare(&delivered(&*store).await, 0..2_501).unwrap();
}

#[tokio::test]
async fn one_that_is_deleted_begins_anew() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let store = Arc::new(InMemory::new());
    let source = kinesis.create_stream("s", 1).await.unwrap();
    source.put_record(flight(0)).await.unwrap();
    let direct = || DeliveryStream::direct("d", kinesis.clone(), store.clone() as Arc<dyn ObjectStore>);
    let reading = || DeliveryStream::builder("d", source.clone(), store.clone());
    for (builder, expected) in [(direct(), 0), (direct(), 0), (reading(), 1), (reading(), 1)] {
        let delivery = builder.open().await.unwrap();
        if expected == 0 {
            delivery.put_record("never delivered").await.unwrap();
        } else {
            delivery.flush().await.unwrap();
        }
        assert_eq!(delivery.metrics().delivered_rows, expected);
        delivery.delete().await.unwrap();
        assert_eq!(delivery.flush().await.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(objects(&*store).await.len(), 2);
}
