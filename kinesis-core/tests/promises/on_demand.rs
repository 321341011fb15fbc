//! A stream on demand gets the shards that carry double its peak, and loses and reorders nothing by that.

use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use futures::StreamExt;
use kinesis_core::{DataStream, IteratorType, Kinesis, PutRecord, ShardFilter, ShardId, StreamMode, StreamSpec};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn open_shards(stream: &DataStream) -> usize {
    stream.list_shards_with(ShardFilter::AtLatest).unwrap().len()
}

/// Puts `records` of one byte, and lets a minute pass.
async fn minute(clock: &ManualClock, stream: &DataStream, records: u64) {
    let mut left = records;
    while left > 0 {
        let batch = (0..left.min(500)).map(|number| PutRecord::new("1", format!("{number}"))).collect();
        left -= left.min(500);
        stream.put_records(batch).await.unwrap();
    }
    clock.advance(MINUTE);
}

/// Waits for the shard to end; answers how many records it had.
async fn ended(stream: &DataStream, shard: ShardId) -> usize {
    let events = stream.subscribe(shard, IteratorType::TrimHorizon);
    events.map(|event| event.unwrap().records.len()).collect::<Vec<_>>().await.iter().sum()
}

#[tokio::test]
async fn shards_follow_the_load() {
    let clock = ManualClock::default();
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let spec = StreamSpec::on_demand().with_retention(Duration::from_secs(8760 * 3600));
    let stream = kinesis.create_stream("s", spec).await.unwrap();
    let provisioned = kinesis.create_stream("p", 1).await.unwrap();
    assert_eq!(open_shards(&stream), 4);
    // The first look, for which nothing was put: what the stream has is enough.
    minute(&clock, &stream, 0).await;

    // 2,100 records a second want 4.2 shards. The minute in which they came may be cut in two looks: so two of them.
    let mut put = 0;
    let subscribed = ended(&stream, ShardId::new(0));
    tokio::pin!(subscribed);
    let first = loop {
        tokio::select! {
            biased;
            records = &mut subscribed => break records,
            () = minute(&clock, &stream, 2_100 * 60) => put += 2_100 * 60,
        }
        minute(&clock, &provisioned, 1_100 * 60).await;
    };
    assert_eq!(open_shards(&stream), 8);
    assert_eq!(open_shards(&provisioned), 1);
    let mut found = first;
    for shard in 1..4 {
        found += ended(&stream, ShardId::new(shard)).await;
    }
    assert!(found as u64 <= put + 2_100 * 60 && found >= 2_100, "{found} of {put}");

    // A month with next to nothing.
    let next = ended(&stream, ShardId::new(4));
    tokio::pin!(next);
    let mut days = 0;
    loop {
        tokio::select! {
            biased;
            _ = &mut next => break,
            () = minute(&clock, &stream, 1) => {}
        }
        clock.advance(DAY);
        days += 1;
        tokio::task::yield_now().await;
    }
    assert!(days >= 29, "after {days} days");
    assert_eq!(open_shards(&stream), 4);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_mode_is_left_and_taken_up_without_a_jump() {
    let clock = ManualClock::default();
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let stream = kinesis.create_stream("s", 7).await.unwrap();
    stream.set_mode(StreamMode::OnDemand).await.unwrap();
    for _ in 0..10 {
        minute(&clock, &stream, 1).await;
        kinesis.flush().await.unwrap();
    }
    assert_eq!(open_shards(&stream), 7);
    stream.set_mode(StreamMode::Provisioned).await.unwrap();
    stream.update_shard_count(2).await.unwrap();
    for _ in 0..10 {
        minute(&clock, &stream, 5_000).await;
        kinesis.flush().await.unwrap();
    }
    assert_eq!(open_shards(&stream), 2);
    kinesis.close().await.unwrap();
}
