//! Quotas refuse what is past them, with an error that may be retried, and nothing of what is refused has happened.

use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::{
    ErrorKind, HashKey, IteratorType, Kinesis, Limits, PutBatch, PutOutcome, PutRecord, Settings, ShardId,
    ShardIterator, StreamMode, StreamSpec,
};

use super::stage::read_shard;

const SECOND: Duration = Duration::from_secs(1);

async fn opened(limits: Limits, clock: &ManualClock) -> Kinesis {
    let settings = Settings::default().with_limits(limits).with_record_bytes_max(10 << 20);
    Kinesis::memory().with_settings(settings).with_clock(Arc::new(clock.clone())).open().await.unwrap()
}

fn records(count: usize, bytes: usize, key: HashKey) -> Vec<PutRecord> {
    vec![PutRecord::new(vec![7; bytes - 1], "k").with_explicit_hash_key(key); count]
}

#[tokio::test]
async fn a_shard_takes_a_thousand_records_and_a_mebibyte_a_second() {
    let clock = ManualClock::default();
    let kinesis = opened(Limits::aws(), &clock).await;
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let first = ShardId::new(0);
    // 1,000 small ones, then the other shard still takes them.
    for _ in 0..2 {
        assert_eq!(stream.put_records(records(500, 10, HashKey(0))).await.unwrap().stored(), 500);
    }
    let mut mixed = records(3, 10, HashKey(0));
    mixed.insert(1, records(1, 10, HashKey::MAX).remove(0));
    let output = stream.put_records(mixed).await.unwrap();
    assert_eq!((output.stored(), output.throttled(), output.duplicates()), (1, 3, 0));
    assert!(output.records[1].stored().is_some_and(|stored| stored.shard_id == ShardId::new(1)));
    assert_eq!(output.records[0], PutOutcome::Throttled(first));
    let refused = stream.put_record(records(1, 10, HashKey(0)).remove(0)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Throttled, "ProvisionedThroughputExceededException"));
    assert!(refused.is_retryable() && refused.message().contains("shardId-000000000000"), "{refused:?}");
    // An atomic batch is refused whole, and takes nothing of what its other shard has left.
    let mut batch = records(400, 10, HashKey::MAX);
    batch.push(records(1, 10, HashKey(0)).remove(0));
    assert_eq!(stream.put_batch(PutBatch::new(batch)).await.unwrap_err().kind(), ErrorKind::Throttled);
    let output = stream.put_records(records(500, 10, HashKey::MAX)).await.unwrap();
    assert_eq!(output.stored(), 500);
    // A second later there is as much again; by bytes it is a mebibyte.
    clock.advance(SECOND);
    let output = stream.put_records(records(12, 100 << 10, HashKey(0))).await;
    assert_eq!(output.unwrap().stored(), 10);
    // A record of 5 MiB is taken once, and paid for with five seconds.
    clock.advance(SECOND);
    assert_eq!(stream.put_records(records(1, 5 << 20, HashKey(0))).await.unwrap().stored(), 1);
    clock.advance(4 * SECOND);
    assert_eq!(stream.put_records(records(1, 10, HashKey(0))).await.unwrap().throttled(), 1);
    clock.advance(SECOND);
    assert_eq!(stream.put_records(records(1, 10, HashKey(0))).await.unwrap().stored(), 1);
    assert_eq!(kinesis.metrics().throttled_writes, 3 + 1 + 1 + 2 + 1);
}

#[tokio::test]
async fn what_is_not_put_takes_no_throughput() {
    let clock = ManualClock::default();
    let kinesis = opened(Limits::aws(), &clock).await;
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    for _ in 0..2 {
        assert_eq!(stream.put_records(records(500, 10, HashKey(0))).await.unwrap().stored(), 500);
    }
    // The second batch of a transaction is refused, after the first was admitted.
    let other = kinesis.create_stream("other", 1).await.unwrap();
    let batch = || PutBatch::new(records(400, 10, HashKey(0)));
    for _ in 0..3 {
        let refused = kinesis.transaction().put(&other, batch()).put(&stream, batch()).execute().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Throttled);
    }
    assert_eq!(other.put_records(records(500, 10, HashKey(0))).await.unwrap().stored(), 500);
    // A batch expects another record than the newest.
    let batch = PutBatch::new(records(500, 10, HashKey::MAX));
    let newest = stream.put_records(records(1, 10, HashKey::MAX)).await.unwrap().records[0].stored().copied().unwrap();
    let conflict = stream.put_batch(batch.with_expected(newest.shard_id, None)).await.unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::Conflict);
    let output = stream.put_records(records(499, 10, HashKey::MAX)).await.unwrap();
    assert_eq!(output.stored(), 499);
    let output = stream.put_records(records(500, 10, HashKey::MAX)).await.unwrap();
    assert_eq!(output.stored(), 500);
}

#[tokio::test]
async fn a_shard_gives_five_answers_and_two_mebibytes_a_second() {
    let clock = ManualClock::default();
    let kinesis = opened(Limits::aws().with_shard_write_bytes_per_second(None), &clock).await;
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let shard = ShardId::new(0);
    stream.put_records(records(9, 1 << 20, HashKey(0))).await.unwrap();
    let iterator = stream.shard_iterator(shard, IteratorType::TrimHorizon).await.unwrap();
    for _ in 0..4 {
        stream.shard_iterator(shard, IteratorType::Latest).await.unwrap();
    }
    let refused = stream.shard_iterator(shard, IteratorType::Latest).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Throttled);
    assert_eq!(stream.get_records(&iterator, 10).await.unwrap().records.len(), 9);
    // Nine mebibytes are paid for with four seconds and a half, less the second that was saved up.
    for _ in 0..3 {
        assert_eq!(stream.get_records(&iterator, 10).await.unwrap_err().kind(), ErrorKind::Throttled);
        clock.advance(SECOND);
    }
    assert_eq!(stream.get_records(&iterator, 10).await.unwrap_err().kind(), ErrorKind::Throttled);
    clock.advance(SECOND);
    assert_eq!(stream.get_records(&iterator, 1).await.unwrap().records.len(), 1);
    clock.advance(60 * SECOND);
    let tip = stream.shard_iterator(shard, IteratorType::Latest).await.unwrap();
    for _ in 0..5 {
        stream.get_records(&tip, 10).await.unwrap();
    }
    assert_eq!(stream.get_records(&tip, 10).await.unwrap_err().kind(), ErrorKind::Throttled);
    // A subscription has a throughput of its own.
    let mut events = stream.subscribe(shard, IteratorType::TrimHorizon);
    assert_eq!(futures::StreamExt::next(&mut events).await.unwrap().unwrap().records.len(), 9);
}

#[tokio::test]
async fn an_iterator_ends_after_five_minutes_and_reads_back_from_its_text() {
    let clock = ManualClock::default();
    let kinesis = opened(Limits::aws(), &clock).await;
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let iterator = stream.shard_iterator(ShardId::new(0), IteratorType::TrimHorizon).await.unwrap();
    let iterator: ShardIterator = iterator.to_string().parse().unwrap();
    clock.advance(300 * SECOND);
    let next = stream.get_records(&iterator, 10).await.unwrap().next_iterator.unwrap();
    clock.advance(SECOND);
    let expired = stream.get_records(&iterator, 10).await.unwrap_err();
    assert_eq!((expired.kind(), expired.code()), (ErrorKind::Expired, "ExpiredIteratorException"));
    stream.get_records(&next, 10).await.unwrap();
}

#[tokio::test]
async fn an_account_has_so_many_shards_streams_and_calls() {
    let clock = ManualClock::default();
    let kinesis = opened(Limits::aws().with_open_shards(10).with_on_demand_streams(1), &clock).await;
    let kind = |result: kinesis_core::Result<()>| result.unwrap_err().kind();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    assert_eq!(kinesis.create_stream("t", 7).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(kind(stream.update_shard_count(9).await), ErrorKind::LimitExceeded, "more than twice as many");
    assert_eq!(kind(stream.update_shard_count(1).await), ErrorKind::LimitExceeded, "less than half");
    stream.update_shard_count(8).await.unwrap();
    kinesis.create_stream("t", 2).await.unwrap();
    let full = stream.list_shards_with(kinesis_core::ShardFilter::AtLatest).unwrap()[0].id;
    assert_eq!(kind(stream.split_shard(full, HashKey(9)).await), ErrorKind::LimitExceeded);
    let demanding = kinesis.create_stream("d", StreamSpec::on_demand()).await.unwrap();
    assert_eq!(kind(stream.set_mode(StreamMode::OnDemand).await), ErrorKind::LimitExceeded);
    // Five calls of one kind in a second.
    assert_eq!(kinesis.create_stream("u", 1).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(kinesis.create_stream("u", 1).await.unwrap_err().kind(), ErrorKind::Throttled);
    clock.advance(SECOND);
    for number in 0..20 {
        demanding.register_stream_consumer(&format!("c{number}")).await.unwrap();
        clock.advance(SECOND);
    }
    assert_eq!(demanding.register_stream_consumer("one more").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(demanding.register_stream_consumer("c20").await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(demanding.register_stream_consumer("c1").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    // Ten updates in 24 hours, rolling.
    for shards in [7, 8, 7, 8, 7, 8, 7, 8, 7] {
        stream.update_shard_count(shards).await.unwrap();
        clock.advance(SECOND);
    }
    assert_eq!(kind(stream.update_shard_count(8).await), ErrorKind::LimitExceeded);
    clock.advance(24 * 3600 * SECOND);
    stream.update_shard_count(8).await.unwrap();
}

#[tokio::test]
async fn without_limits_nothing_is_refused() {
    let clock = ManualClock::default();
    let kinesis = opened(Limits::unlimited(), &clock).await;
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    for _ in 0..10 {
        assert_eq!(stream.put_records(records(500, 100, HashKey(0))).await.unwrap().stored(), 500);
        stream.shard_iterator(ShardId::new(0), IteratorType::Latest).await.unwrap();
    }
    stream.update_shard_count(100).await.unwrap();
    assert_eq!(read_shard(&stream, ShardId::new(0)).await.unwrap().len(), 5000);
}
