//! Real flights as JSON into a stream, and out of it as Parquet by origin and day, to a destination that fails for a while.
//!
//! `cargo run -p kinesis-core --features firehose --example firehose`
#![allow(clippy::print_stdout, reason = "an example reports to whoever runs it")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durable_core::DurableLocal;
use flate2::read::GzDecoder;
use futures::StreamExt;
use kinesis_core::firehose::{
    DeliveryEvent, DeliverySettings, DeliveryStream, OutputFormat, ParquetFormat, PartitionColumns,
};
use kinesis_core::{DataStream, Kinesis, PutRecord};
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

const FLIGHTS: usize = 20_000;
/// So many puts fail before the destination recovers.
const FAILING_PUTS: u64 = 40;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?.keep();
    let kinesis = Kinesis::at(folder.join("kinesis")).open().await?;
    let flights = kinesis.create_stream("flights", 4).await?;

    // A directory that fails its first puts.
    let directory = Arc::new(DurableLocal::new(folder.join("delivered"))?);
    let failing = |put| Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable)).at_call(put);
    let failing = (0..FAILING_PUTS).map(failing).collect();
    let store = FaultStore::with_rules(directory, 1, kinesis.clock(), failing);

    let settings = DeliverySettings::new()
        .with_buffer_bytes(1024 * 1024)
        .with_buffer_interval(Duration::from_secs(5))
        .with_partition_by(["origin", "month", "day"])
        .with_prefix(
            "flights/origin=!{partitionKeyFromQuery:origin}/month=!{partitionKeyFromQuery:month}/\
             day=!{partitionKeyFromQuery:day}/",
        )
        .with_error_output_prefix("errors/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd}/")
        .with_format(OutputFormat::Parquet(ParquetFormat::new().with_partition_columns(PartitionColumns::Omit)));
    let delivery = DeliveryStream::builder("flights-to-parquet", flights.clone(), Arc::new(store))
        .with_settings(settings)
        .open()
        .await?;
    let mut events = delivery.events();

    let put = put_flights(&flights).await?;
    println!("{put} flights are in the stream, and one line that is no flight");
    let report = tokio::spawn(async move {
        let (mut rows_by_origin, mut retries) = (BTreeMap::<String, u64>::new(), 0);
        while let Some(event) = events.next().await {
            match event {
                DeliveryEvent::Delivered(delivered) => {
                    if retries > 0 && rows_by_origin.is_empty() {
                        println!("the destination has recovered after {retries} failed puts");
                    }
                    let origin = delivered.partition.get("origin").unwrap_or_default();
                    *rows_by_origin.entry(origin.to_owned()).or_default() += delivered.rows;
                }
                DeliveryEvent::Rejected(rejected) => {
                    println!("put aside {} of {}: {}", rejected.records, rejected.output, rejected.first_reason);
                }
                DeliveryEvent::Retrying(retrying) => {
                    retries += 1;
                    if retries == 1 {
                        println!("the destination fails: {}", retrying.reason);
                    }
                }
                DeliveryEvent::SchemaChanged { schema } => println!("{} columns were found", schema.fields().len()),
                _ => {}
            }
        }
        rows_by_origin
    });

    delivery.flush().await?;
    let metrics = delivery.metrics();
    delivery.close().await?;
    drop(delivery);
    for (origin, rows) in report.await? {
        println!("{origin}: {rows} rows");
    }
    println!(
        "{} rows in {} objects of {} bytes, {} records put aside, {} puts made again; see {}",
        metrics.delivered_rows,
        metrics.delivered_objects,
        metrics.delivered_bytes,
        metrics.rejected_records,
        metrics.retries,
        folder.join("delivered").display()
    );
    kinesis.close().await?;
    Ok(())
}

/// Puts the first flights of the sample as JSON, each field under its column's name.
async fn put_flights(stream: &DataStream) -> Result<usize, Box<dyn Error>> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/flights.csv.gz");
    let mut lines = BufReader::new(GzDecoder::new(std::fs::File::open(sample)?)).lines();
    let header = lines.next().ok_or("the sample is empty")??;
    let mut batch = vec![PutRecord::new("this is no flight", "none")];
    let mut put = 0;
    for line in lines.take(FLIGHTS) {
        let line = line?;
        let record: serde_json::Map<_, _> =
            header.split(',').zip(line.split(',')).map(|(name, text)| (name.to_owned(), value(text))).collect();
        let carrier = record.get("carrier").map(ToString::to_string).unwrap_or_default();
        batch.push(PutRecord::new(serde_json::to_vec(&record)?, carrier));
        put += 1;
        if batch.len() == 500 {
            stream.put_records(std::mem::take(&mut batch)).await?;
        }
    }
    if !batch.is_empty() {
        stream.put_records(batch).await?;
    }
    Ok(put)
}

fn value(text: &str) -> serde_json::Value {
    match text.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) if text.is_empty() || text == "NA" => serde_json::Value::Null,
        Err(_) => text.into(),
    }
}
