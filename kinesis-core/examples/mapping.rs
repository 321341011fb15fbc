//! Orders go to a function in batches: what it refuses comes again, in halves, until the one bad order is alone and is set
//! aside.
//!
//! `cargo run -p kinesis-core --example mapping`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use kinesis_core::mapping::{EventSourceMapping, Filter, KinesisEvent, OnFailure, Response, StartingPosition};
use kinesis_core::{IteratorType, Kinesis, PutRecord, ShardId};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> kinesis_core::Result<()> {
    let kinesis = Kinesis::memory().open().await?;
    let stream = kinesis.create_stream("orders", 1).await?;
    for number in 1..=12 {
        let total = if number == 6 { "oops".to_owned() } else { (number * 10).to_string() };
        let order = format!(r#"{{"kind": "order", "number": {number}, "total": {total:?}}}"#);
        stream.put_record(PutRecord::new(order, "shop-1")).await?;
        stream.put_record(PutRecord::new(r#"{"kind": "visit"}"#, "shop-1")).await?;
    }

    let dead_letters = kinesis.create_stream("dead-letters", 1).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let mapping = EventSourceMapping::builder(stream, "bookkeeping", move |event: KinesisEvent| {
        let tell = tell.clone();
        async move {
            let mut sum = 0;
            for record in &event.records {
                let order: serde_json::Value = serde_json::from_slice(&record.data)?;
                sum += order["total"].as_str().unwrap_or_default().parse::<u64>()?;
            }
            tell.send((event.records.len(), sum))?;
            Ok(Response::success())
        }
    })
    .with_starting_position(StartingPosition::TrimHorizon)
    .with_filters([Filter::new(r#"{"data": {"kind": ["order"]}}"#)?])
    .with_bisect_on_error(true)
    .with_maximum_retries(1)
    .with_on_failure(OnFailure::stream(dead_letters.clone()))
    .start()
    .await?;

    println!("12 orders and 12 visits were put; the visits are filtered out, and order 6 has no number for its total");
    let (mut orders, mut total) = (0, 0);
    while orders < 11
        && let Some((count, sum)) = told.recv().await
    {
        (orders, total) = (orders + count, total + sum);
        println!("  a batch of {count} orders is booked: {sum}, so far {total}");
    }
    let iterator = dead_letters.shard_iterator(ShardId::new(0), IteratorType::TrimHorizon).await?;
    for letter in dead_letters.get_records(&iterator, 10).await?.records {
        let letter: serde_json::Value = serde_json::from_slice(&letter.data).unwrap_or_default();
        println!(
            "set aside: {} record of {}, {} after {} calls",
            letter["KinesisBatchInfo"]["batchSize"],
            letter["KinesisBatchInfo"]["shardId"].as_str().unwrap_or_default(),
            letter["requestContext"]["condition"].as_str().unwrap_or_default(),
            letter["requestContext"]["approximateInvokeCount"],
        );
    }
    mapping.shutdown().await;
    kinesis.close().await
}
