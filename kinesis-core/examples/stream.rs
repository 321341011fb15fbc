//! A stream in a directory: put, subscribe, replay, and go on after a restart.
//!
//! `cargo run -p kinesis-core --example stream [DIR]`; run it twice with the same directory to see it go on.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::BTreeMap;

use futures::StreamExt;
use kinesis_core::{IteratorType, Kinesis, Producer, PutBatch, PutRecord, Result, ShardId};

const EVENTS: u64 = 10_000;
const BATCH: u64 = 500;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("kinesis-core-stream"), Into::into);
    let kinesis = Kinesis::at(&dir).open().await?;
    let stream = match kinesis.stream("clicks") {
        Ok(stream) => stream,
        Err(_) => kinesis.create_stream("clicks", 4).await?,
    };
    let recovered = kinesis.metrics().recovered_records;
    println!("{}: stream 'clicks', {recovered} records recovered from its journal", dir.display());

    // A reader that waits: it sees each record as soon as it is durable.
    let mut newest = stream.subscribe(ShardId::new(0), IteratorType::Latest);

    // The stream knows how far this producer came, so a second run goes on behind the first.
    let first = stream.producer("example")?.map_or(0, |last| last + 1);
    for number in (first..first + EVENTS).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        let click =
            |n: u64| PutRecord::new(format!("{{\"click\":{n},\"user\":{}}}", n % 100), format!("user-{}", n % 100));
        let batch = PutBatch::new((number..number + BATCH).map(click).collect());
        stream.put_batch(batch.with_producer(Producer::consecutive("example", number))).await?;
    }
    println!("put events {first} to {}, durable once each call returned", first + EVENTS - 1);
    if let Some(event) = newest.next().await {
        println!("the subscriber of shard 0 got {} of them at once", event?.records.len());
    }

    // A replay of everything, and a consumer that remembers how far it came.
    let mut positions = BTreeMap::new();
    let mut total = 0;
    for shard in stream.list_shards()? {
        let mut iterator = stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await?;
        let mut count = 0;
        loop {
            let output = stream.get_records(&iterator, 1000).await?;
            let (Some(last), Some(next)) = (output.records.last(), output.next_iterator) else { break };
            positions.insert(shard.id, last.sequence_number);
            count += output.records.len();
            iterator = next;
        }
        println!("{}: {count} records", shard.id);
        total += count;
    }
    stream.commit("example", positions, None).await?;
    println!("replayed {total} records; run this again to go on behind them");
    kinesis.close().await
}
