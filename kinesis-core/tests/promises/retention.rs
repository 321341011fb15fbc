//! Records younger than the retention are never removed; older ones are, and who would have read them next is told.

use std::sync::Arc;
use std::time::Duration;

use durable_core::{Clock, ManualClock};
use futures::StreamExt;
use kinesis_core::{ErrorKind, IteratorType, Kinesis, ShardId, StreamSpec};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::stage::{numbers, put, small};

const HOUR: Duration = Duration::from_secs(3600);
/// How often the background looks after retention.
const SWEEP: Duration = Duration::from_secs(60);
const SHARD: ShardId = ShardId::new(0);

async fn objects(store: &dyn ObjectStore) -> usize {
    store.list(Some(&"segments".into())).count().await
}

#[tokio::test]
async fn segments_go_when_all_of_them_is_too_old() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    for hour in 0..30 {
        put(&stream, hour * 10..hour * 10 + 10).await;
        if hour % 3 == 2 {
            kinesis.seal().await.unwrap();
        }
        clock.advance(HOUR);
    }
    let reader = stream.shard_iterator(SHARD, IteratorType::TrimHorizon).await.unwrap();
    let reader = stream.get_records(&reader, 5).await.unwrap().next_iterator.unwrap();
    kinesis.seal().await.unwrap();
    // It is hour 30, so what came before hour 6 is too old: two segments of three hours.
    assert_eq!(numbers(&stream).await, (60..300).collect::<Vec<_>>());
    assert_eq!((kinesis.metrics().trimmed_segments, objects(kinesis.store().as_ref()).await), (2, 8));
    let expired = stream.get_records(&reader, 5).await.unwrap_err();
    assert_eq!((expired.kind(), expired.code()), (ErrorKind::Expired, "ExpiredIteratorException"));
    // It stays so over a restart, even to one who would not find it too old.
    kinesis.close().await.unwrap();
    let early = ManualClock::new(clock.now() - chrono::Duration::hours(20));
    let kinesis = small(dir.path(), &early).open().await.unwrap();
    let stream = kinesis.stream("s").unwrap();
    assert_eq!(numbers(&stream).await, (60..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_background_does_it_alone() {
    let (store, clock) = (Arc::new(InMemory::new()), ManualClock::default());
    let kinesis = Kinesis::on(store.clone(), "").with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    put(&stream, 0..10).await;
    // Sweeps short of the retention do nothing; one past it seals what is in memory, and trims it.
    clock.advance(24 * HOUR);
    put(&stream, 10..20).await;
    assert_eq!(numbers(&stream).await, (0..20).collect::<Vec<_>>());
    // Trimmed for readers first, deleted from the store once no checkpoint names it.
    while kinesis.metrics().trimmed_segments == 0 || objects(store.as_ref()).await > 0 {
        clock.advance(SWEEP);
        tokio::task::yield_now().await;
    }
    assert_eq!(numbers(&stream).await, Vec::<u64>::new());
    put(&stream, 20..30).await;
    assert_eq!(numbers(&stream).await, (20..30).collect::<Vec<_>>());
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_longer_retention_keeps_longer() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    for bad in [Duration::ZERO, 23 * HOUR, 8761 * HOUR] {
        assert_eq!(stream.set_retention(bad).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    stream.set_retention(8760 * HOUR).await.unwrap();
    put(&stream, 0..50).await;
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    assert_eq!(kinesis.describe_stream("s").unwrap().retention, 8760 * HOUR);
    let stream = kinesis.stream("s").unwrap();
    clock.advance(8759 * HOUR);
    kinesis.seal().await.unwrap();
    assert_eq!(numbers(&stream).await.len(), 50);
    clock.advance(2 * HOUR);
    kinesis.seal().await.unwrap();
    assert_eq!(numbers(&stream).await.len(), 0);
}

#[tokio::test]
async fn a_clock_that_jumps_removes_nothing_early() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let start = clock.now();
    let month = 30 * 24 * HOUR;
    put(&stream, 0..20).await;
    clock.set_wall(start + month);
    kinesis.seal().await.unwrap();
    put(&stream, 20..40).await;
    kinesis.seal().await.unwrap();
    clock.set_wall(start - month);
    put(&stream, 40..60).await;
    kinesis.seal().await.unwrap();
    clock.set_wall(start);
    kinesis.seal().await.unwrap();
    clock.advance(23 * HOUR);
    kinesis.seal().await.unwrap();
    assert_eq!(numbers(&stream).await, (0..60).collect::<Vec<_>>());
    assert_eq!(kinesis.metrics().trimmed_segments, 0);
    // And the jump does not keep what is really too old, where it was stamped right.
    clock.advance(2 * HOUR);
    kinesis.seal().await.unwrap();
    assert!(!numbers(&stream).await.contains(&0));
}

#[tokio::test]
async fn a_long_retention_of_many_segments_is_kept_over_restarts() {
    const DAYS: u64 = 365;
    let (store, clock) = (Arc::new(InMemory::new()), ManualClock::default());
    let opened = || Kinesis::on(store.clone(), "k").with_clock(Arc::new(clock.clone())).open();
    let spec = StreamSpec::provisioned(1).with_retention(DAYS as u32 * 24 * HOUR);
    opened().await.unwrap().create_stream("s", spec).await.unwrap();
    // Two segments a day for two years and more: what is older than one goes meanwhile.
    let mut next = 0;
    for part in [100, 200, 300, 180] {
        let kinesis = opened().await.unwrap();
        let stream = kinesis.stream("s").unwrap();
        for _ in 0..part {
            for _ in 0..2 {
                put(&stream, [next]).await;
                kinesis.seal().await.unwrap();
                next += 1;
                clock.advance(12 * HOUR);
            }
        }
        kinesis.seal().await.unwrap();
        let oldest = next.saturating_sub(2 * DAYS);
        assert_eq!(numbers(&stream).await, (oldest..next).collect::<Vec<_>>());
        kinesis.close().await.unwrap();
        let kinesis = opened().await.unwrap();
        assert_eq!(numbers(&kinesis.stream("s").unwrap()).await, (oldest..next).collect::<Vec<_>>());
        let held = store.list(Some(&"k/segments".into())).count().await;
        assert_eq!(held as u64, next - oldest);
        kinesis.close().await.unwrap();
    }
}
