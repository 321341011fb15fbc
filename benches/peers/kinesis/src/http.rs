//! Over HTTP: what clients of Kinesis get from ours and from other servers, in turn, with the same load.

use std::path::Path;
use std::time::{Duration, Instant};

use kinesis_core::{Kinesis, server};
use serde_json::json;
use wire_core::{Server, Services, Settings};

use crate::client::{Client, put_record, put_records};
use crate::percentile::{Times, per_second, ratio};

const RECORD_BYTES: usize = 1024;
const BATCH: usize = 100;

/// Records a second.
struct Figures {
    put_record_1: u64,
    put_record_16: u64,
    put_records_16: u64,
    read: u64,
}

pub(crate) async fn run(dir: &Path, secs: u64, peers: &[String]) {
    println!("http: records of 1 KiB; PutRecord by 1 and 16 connections, PutRecords of {BATCH} by 16, GetRecords by 1");
    let time = Duration::from_secs(secs);
    let memory = ours("ours, in memory", Kinesis::memory().open().await.unwrap(), time).await;
    ours("ours, durable", Kinesis::at(dir.join("http")).open().await.unwrap(), time).await;
    for peer in peers {
        let Some((name, url)) = peer.split_once('=') else {
            println!("  {peer}: give a peer as NAME=URL");
            continue;
        };
        let theirs = measure(name, url, time).await;
        println!(
            "  ours in memory against {name}: PutRecord {:.2} x and {:.2} x, PutRecords {:.2} x, GetRecords {:.2} x",
            ratio(memory.put_record_1, theirs.put_record_1),
            ratio(memory.put_record_16, theirs.put_record_16),
            ratio(memory.put_records_16, theirs.put_records_16),
            ratio(memory.read, theirs.read),
        );
    }
}

async fn ours(name: &str, kinesis: Kinesis, time: Duration) -> Figures {
    let services = Services::new(Settings::default()).with(server::service(kinesis.clone()));
    let server = Server::bind("127.0.0.1:0", services).await.unwrap();
    let figures = measure(name, &server.url(), time).await;
    server.close().await;
    kinesis.close().await.unwrap();
    figures
}

async fn measure(name: &str, url: &str, time: Duration) -> Figures {
    let mut client = Client::connect(url).await.unwrap();
    let stream = format!("bench-{}", std::process::id());
    client.call("CreateStream", json!({"StreamName": stream, "ShardCount": 4}).to_string().into()).await;
    loop {
        let found = client.call("DescribeStreamSummary", json!({"StreamName": stream}).to_string().into()).await;
        if found["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let one = put_record(&stream, RECORD_BYTES);
    let many = put_records(&stream, BATCH, RECORD_BYTES);
    let mut lines = Vec::new();
    let mut load = async |what: &str, connections: usize, operation: &'static str, input: &bytes::Bytes, each: u64| {
        let (count, mut times) = closed_loop(url, connections, operation, input, time).await;
        let rate = per_second(count * each, time);
        lines.push(format!("{what} {rate}/s (p50 {} us, p99 {} us)", times.percentile(50), times.percentile(99)));
        rate
    };
    let put_record_1 = load("PutRecord x 1:", 1, "PutRecord", &one, 1).await;
    let put_record_16 = load("x 16:", 16, "PutRecord", &one, 1).await;
    let put_records_16 = load("PutRecords x 16:", 16, "PutRecords", &many, BATCH as u64).await;
    // A connection that was idle for so long may be closed by now.
    let mut client = Client::connect(url).await.unwrap();
    let read = catch_up(&mut client, &stream).await;
    println!("  {name}: {}, GetRecords {read}/s", lines.join(", "));
    client.call("DeleteStream", json!({"StreamName": stream}).to_string().into()).await;
    Figures { put_record_1, put_record_16, put_records_16, read }
}

async fn closed_loop(
    url: &str,
    connections: usize,
    operation: &'static str,
    input: &bytes::Bytes,
    time: Duration,
) -> (u64, Times) {
    let end = Instant::now() + time;
    let tasks = (0..connections).map(|_| {
        let (url, input) = (url.to_owned(), input.clone());
        tokio::spawn(async move {
            let mut client = Client::connect(&url).await.unwrap();
            let mut times = Times::default();
            while Instant::now() < end {
                let begun = Instant::now();
                client.call(operation, input.clone()).await;
                times.add(begun.elapsed());
            }
            times
        })
    });
    let mut all = Times::default();
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await.unwrap());
    }
    (all.count() as u64, all)
}

/// Records a second, read from the oldest on, shard by shard.
async fn catch_up(client: &mut Client, stream: &str) -> u64 {
    let (begun, mut count) = (Instant::now(), 0);
    for shard in 0..4 {
        let from = json!({
            "StreamName": stream, "ShardId": format!("shardId-{shard:012}"), "ShardIteratorType": "TRIM_HORIZON",
        });
        let mut answer = client.call("GetShardIterator", from.to_string().into()).await;
        let mut iterator = answer["ShardIterator"].take();
        while !iterator.is_null() {
            let input = json!({"ShardIterator": iterator, "Limit": 10_000});
            answer = client.call("GetRecords", input.to_string().into()).await;
            let read = answer["Records"].as_array().map_or(0, Vec::len);
            count += read as u64;
            iterator = answer["NextShardIterator"].take();
            if read == 0 {
                break;
            }
        }
    }
    per_second(count, begun.elapsed())
}
