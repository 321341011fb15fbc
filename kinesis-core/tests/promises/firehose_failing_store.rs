//! A store that fails is met with patience and back-pressure: memory stays bounded, the stream keeps the rest.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::firehose::{DeliveryEvent, DeliveryStream};
use kinesis_core::{ErrorKind, Kinesis, PutRecord};
use object_store::memory::InMemory;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

use super::firehose_rig::{Heard, by_day, clock, compare, delivered, put_flights, until};
use super::stage::while_time_passes;

#[tokio::test]
async fn memory_stays_bounded_while_the_store_fails_and_all_is_delivered_once_it_works() {
    let (time, shared) = clock();
    let kinesis = Kinesis::memory().with_clock(shared.clone()).open().await.unwrap();
    let source = kinesis.create_stream("s", 4).await.unwrap();
    let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable));
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared.clone(), vec![rule]);
    let heard = Heard::default();
    let memory = 128 * 1024;
    let delivery = DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()))
        .with_settings(by_day().with_memory_bytes(memory))
        .with_listener(heard.listener())
        .open()
        .await
        .unwrap();
    let mut most = 0;
    for chunk in 0..40 {
        put_flights(&source, chunk * 250..(chunk + 1) * 250).await;
        for _ in 0..20 {
            time.advance(Duration::from_millis(50));
            tokio::task::yield_now().await;
            let metrics = delivery.metrics();
            most = most.max(metrics.buffered_bytes + metrics.undelivered_bytes);
        }
    }
    while_time_passes(&time, until(|| heard.count(|event| matches!(event, DeliveryEvent::Retrying(_))) > 20)).await;
    let metrics = delivery.metrics();
    // A read gives one record however little is left.
    assert!(most <= memory + 1024, "{most} bytes of {memory}");
    assert!(metrics.read_records < 5_000, "{} records were read against the back-pressure", metrics.read_records);
    assert!(metrics.freshness > Duration::ZERO && metrics.undelivered_objects > 0);
    store.heal();
    while_time_passes(&time, delivery.flush()).await.unwrap();
    compare(&delivered(&*store.inner()).await, 0..10_000).unwrap();
    let metrics = delivery.metrics();
    assert_eq!((metrics.buffered_bytes, metrics.undelivered_bytes, metrics.undelivered_objects), (0, 0, 0));
    assert_eq!((metrics.delivered_rows, metrics.freshness), (10_000, Duration::ZERO));
    assert!(metrics.retries > 20);
}

#[tokio::test]
async fn no_read_goes_past_the_memory() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    put_flights(&source, 0..5_000).await;
    let (time, shared) = clock();
    let rule = Rule::on(&[Operation::Put], Effect::Hang);
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared, vec![rule]);
    let memory = 64 * 1024;
    let settings = by_day().with_buffer_bytes(1024 * 1024).with_memory_bytes(memory);
    let builder = DeliveryStream::builder("d", source, Arc::new(store.clone())).with_settings(settings);
    let delivery = builder.open().await.unwrap();
    let used = || {
        let metrics = delivery.metrics();
        metrics.buffered_bytes + metrics.undelivered_bytes
    };
    while_time_passes(&time, until(|| used() > memory * 9 / 10)).await;
    assert!(used() <= memory + 1024, "{} bytes of {memory}", used());
    assert!(delivery.metrics().read_records > 100);
}

#[tokio::test]
async fn past_the_retry_duration_it_stops_with_an_error_and_nothing_is_lost() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 2).await.unwrap();
    put_flights(&source, 0..200).await;
    let (time, shared) = clock();
    let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::PermissionDenied));
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared.clone(), vec![rule]);
    let builder = || {
        DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()))
            .with_settings(by_day().with_retry_duration(Duration::from_secs(30)))
            .with_clock(shared.clone())
    };
    let delivery = builder().open().await.unwrap();
    let error = while_time_passes(&time, delivery.flush()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(
        format!("{error:?}").contains("PermissionDenied") || format!("{error:?}").contains("injected"),
        "{error:?}"
    );
    assert_eq!(delivery.flush().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(delivery.close().await.unwrap_err().kind(), ErrorKind::Unavailable);
    store.heal();
    let delivery = builder().open().await.unwrap();
    while_time_passes(&time, delivery.flush()).await.unwrap();
    compare(&delivered(&*store.inner()).await, 0..200).unwrap();
}

#[tokio::test]
async fn a_put_that_never_answers_is_made_again() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    put_flights(&source, 0..50).await;
    let (time, shared) = clock();
    let rule = Rule::on(&[Operation::Put], Effect::Hang).at_call(0);
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared.clone(), vec![rule]);
    let delivery = DeliveryStream::builder("d", source, Arc::new(store.clone()))
        .with_settings(by_day().with_put_timeout(Duration::from_secs(10)))
        .with_clock(shared)
        .open()
        .await
        .unwrap();
    while_time_passes(&time, delivery.flush()).await.unwrap();
    store.assert_all_fired();
    compare(&delivered(&*store.inner()).await, 0..50).unwrap();
}

#[tokio::test]
async fn a_record_larger_than_all_bounds_is_delivered() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let padding = "x".repeat(900 * 1024);
    let record = PutRecord::new(format!(r#"{{"id":7,"day":8,"padding":"{padding}"}}"#), "k");
    source.put_record(record).await.unwrap();
    put_flights(&source, 20..60).await;
    let store = Arc::new(InMemory::new());
    let delivery = DeliveryStream::builder("d", source, store.clone()).with_settings(by_day()).open().await.unwrap();
    delivery.flush().await.unwrap();
    compare(&delivered(&*store).await, (20..60).chain([7])).unwrap();
}

#[tokio::test]
async fn what_retention_took_of_a_promise_is_told() {
    let (time, shared) = clock();
    let kinesis = Kinesis::memory().with_clock(shared.clone()).open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    put_flights(&source, 0..50).await;
    let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable));
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, shared, vec![rule]);
    let heard = Heard::default();
    let builder = || {
        DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()))
            .with_settings(by_day().with_buffer_interval(Duration::ZERO))
            .with_listener(heard.listener())
    };
    let delivery = builder().open().await.unwrap();
    until(|| heard.count(|event| matches!(event, DeliveryEvent::Retrying(_))) > 0).await;
    drop(delivery);
    time.advance(Duration::from_secs(25 * 3600));
    kinesis.seal().await.unwrap();
    assert!(kinesis.metrics().trimmed_segments > 0);
    store.heal();
    let delivery = builder().open().await.unwrap();
    delivery.flush().await.unwrap();
    assert_eq!(delivered(&*store.inner()).await, Vec::<u64>::new());
    assert_eq!(heard.count(|event| matches!(event, DeliveryEvent::Expired { .. })), 1);
}
