//! Metrics count what was done, once, by the names that CloudWatch has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_core::{Clock, ManualClock};
use futures::StreamExt;
use kinesis_core::{HashKey, IteratorType, Kinesis, Limits, PutBatch, PutRecord, Settings, ShardId};
use object_store::memory::InMemory;

const SHARD: ShardId = ShardId::new(0);
const OTHER: ShardId = ShardId::new(1);

fn record(data: &str) -> PutRecord {
    PutRecord::new(data.to_owned(), "key").with_explicit_hash_key(HashKey(0))
}

#[tokio::test]
async fn each_call_is_counted_as_what_it_is() {
    let clock = ManualClock::default();
    let limits = Limits::unlimited().with_shard_write_records_per_second(6).with_shard_read_calls_per_second(2);
    let settings = Settings::default().with_limits(limits);
    let kinesis = Kinesis::memory().with_settings(settings).with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    assert_eq!(stream.metrics().unwrap().by_name().iter().map(|(.., value)| value).sum::<u64>(), 0);

    stream.put_record(record("four")).await.unwrap();
    stream.put_records(vec![record("a"), record("bc")]).await.unwrap();
    let other = record("x").with_explicit_hash_key(HashKey::MAX);
    kinesis.transaction().put(&stream, PutBatch::new(vec![other, record("y")])).execute().await.unwrap();
    // Two are left of six.
    stream.put_records(vec![record("1"), record("2"), record("3")]).await.unwrap();
    stream.put_record(record("refused")).await.unwrap_err();

    clock.advance(Duration::from_millis(1_234));
    let iterator = stream.shard_iterator(SHARD, IteratorType::TrimHorizon).await.unwrap();
    let first = stream.get_records(&iterator, 2).await.unwrap();
    stream.get_records(&first.next_iterator.unwrap(), 1).await.unwrap();
    stream.get_records(&iterator, 1).await.unwrap_err();
    stream.subscribe(OTHER, IteratorType::TrimHorizon).next().await.unwrap().unwrap();

    let metrics = stream.metrics().unwrap();
    let by_name: BTreeMap<&str, u64> = metrics.by_name().into_iter().map(|(name, _, value)| (name, value)).collect();
    let expected = [
        ("IncomingBytes", 4 + 3 + 2 + 2 + 7 * 3),
        ("IncomingRecords", 7),
        ("PutRecord.Bytes", 7),
        ("PutRecord.Success", 1),
        ("PutRecords.Bytes", 3 + 2 + 2 + 6 * 3),
        ("PutRecords.Success", 3),
        ("PutRecords.TotalRecords", 7),
        ("PutRecords.SuccessfulRecords", 6),
        ("PutRecords.ThrottledRecords", 1),
        ("WriteProvisionedThroughputExceeded", 2),
        ("ReadProvisionedThroughputExceeded", 1),
        ("GetRecords.Success", 2),
        ("GetRecords.Records", 3),
        ("GetRecords.Bytes", 4 + 1 + 2 + 3 * 3),
        ("GetRecords.IteratorAgeMilliseconds", 1_234),
        ("SubscribeToShard.Success", 1),
        ("SubscribeToShardEvent.Success", 1),
        ("SubscribeToShardEvent.Records", 1),
        ("SubscribeToShardEvent.Bytes", 4),
        ("SubscribeToShardEvent.MillisBehindLatest", 0),
    ];
    for (name, value) in expected {
        assert_eq!(by_name.get(name), Some(&value), "{name}");
    }
    let shards = stream.shard_metrics().unwrap();
    let shard = &shards[&SHARD];
    assert_eq!((shard.incoming_records, shard.outgoing_records, shard.iterator_age_millis), (6, 3, 1_234));
    assert_eq!((shard.write_provisioned_throughput_exceeded, shard.read_provisioned_throughput_exceeded), (2, 1));
    assert_eq!((shards[&OTHER].incoming_bytes, shards[&OTHER].outgoing_bytes), (4, 4));
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn recovery_is_not_counted() {
    let store = Arc::new(InMemory::new());
    let kinesis = Kinesis::on(store.clone(), "k").open().await.unwrap();
    kinesis.create_stream("s", 1).await.unwrap().put_record(record("a")).await.unwrap();
    kinesis.close().await.unwrap();

    let kinesis = Kinesis::on(store, "k").open().await.unwrap();
    let stream = kinesis.stream("s").unwrap();
    assert_eq!((kinesis.metrics().recovered_records, stream.metrics().unwrap()), (1, Default::default()));
    assert_eq!(stream.shard_metrics().unwrap()[&SHARD], Default::default());
    kinesis.close().await.unwrap();
}

/// Takes down the events of one target.
struct Told {
    lines: Arc<Mutex<Vec<String>>>,
    wake: Arc<tokio::sync::Notify>,
}

impl tracing::Subscriber for Told {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "kinesis_core::metrics"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
        self.wake.notify_one();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn each_minute_tells_what_changed() {
    let (lines, wake) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<tokio::sync::Notify>::default());
    let _guard = tracing::subscriber::set_default(Told { lines: lines.clone(), wake: wake.clone() });
    let clock = ManualClock::default();
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let stream = kinesis.create_stream("busy", 1).await.unwrap();
    kinesis.create_stream("idle", 1).await.unwrap();
    for round in 1..=2 {
        stream.put_record(record("four")).await.unwrap();
        while lines.lock().unwrap().len() < round {
            // Another test that comes to the event for the first time may just have found that nobody listens: tracing would
            // keep to that.
            tracing::callsite::rebuild_interest_cache();
            clock.advance(Duration::from_secs(60));
            tokio::select! { () = wake.notified() => {}, () = tokio::task::yield_now() => {} }
        }
    }
    let lines = lines.lock().unwrap().clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, records) in lines.iter().zip(1..) {
        assert!(line.contains("stream=busy ") && !line.contains("shard="), "{line}");
        assert!(line.contains(&format!("IncomingRecords={records} PutRecord.Bytes={} ", records * 7)), "{line}");
    }
    assert_eq!(clock.monotonic().as_secs() % 60, 0);
    kinesis.close().await.unwrap();
}
