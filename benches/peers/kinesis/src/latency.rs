//! How long a record takes from its put to a reader that waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kinesis_core::{Durability, IteratorType, Kinesis, PutBatch, PutRecord};

use crate::bare::{Target, group_commit, wake, write_and_sync};
use crate::pace::{pace, turn};
use crate::percentile::{Times, ratio};

const RECORD_BYTES: usize = 1024;
const RATE: u32 = 10_000;
const WRITERS: usize = 64;

pub(crate) async fn run(dir: &Path, secs: u64) {
    let time = Duration::from_secs(secs);
    println!("latency: records of 1 KiB, put to a waiting reader; {RATE} a second");
    let mut bare = write_and_sync(dir, RECORD_BYTES, time);
    let (p50, p99) = (bare.percentile(50), bare.percentile(99));
    println!("  bare write and fdatasync of 1 KiB: p50 {p50} us, p99 {p99} us");
    let paced = Some(pace(RATE, time));
    let mut grouped = group_commit(dir, Target::SameBlocks, WRITERS, RECORD_BYTES, paced, time).await;
    let (p50_grouped, p99_grouped) = (grouped.percentile(50), grouped.percentile(99));
    println!("  bare group commit, {WRITERS} writers: p50 {p50_grouped} us, p99 {p99_grouped} us");
    let mut woken = wake(time.min(Duration::from_secs(2)));
    println!("  bare wake of a waiting thread: p50 {} us, p99 {} us", woken.percentile(50), woken.percentile(99));
    for (what, place, writers, durability, rate) in [
        ("durable, 1 writer, one at a time", Some(dir), 1, Durability::Journal, None),
        ("durable, 64 writers", Some(dir), WRITERS, Durability::Journal, Some(RATE)),
        ("not waiting for the disk, 64 writers", Some(dir), WRITERS, Durability::Memory, Some(RATE)),
        ("in memory, 1 writer, one at a time", None, 1, Durability::Journal, None),
        ("in memory, 64 writers", None, WRITERS, Durability::Journal, Some(RATE)),
    ] {
        let mut times = measure(place, writers, durability, rate, time).await;
        let (ours50, ours99) = (times.percentile(50), times.percentile(99));
        println!(
            "  {what}: {} records, p50 {ours50} us = {:.2} x bare, p99 {ours99} us = {:.2} x bare",
            times.count(),
            ratio(ours50, p50),
            ratio(ours99, p99)
        );
        if place.is_some() && writers == WRITERS {
            let (to50, to99) = (ratio(ours50, p50_grouped), ratio(ours99, p99_grouped));
            println!("    p50 {to50:.2} x and p99 {to99:.2} x of the bare group commit");
        }
    }
}

async fn measure(
    dir: Option<&Path>,
    writers: usize,
    durability: Durability,
    rate: Option<u32>,
    time: Duration,
) -> Times {
    let builder = match dir {
        Some(dir) => Kinesis::at(dir.join(format!("latency-{writers}-{durability:?}"))),
        None => Kinesis::memory(),
    };
    let kinesis = builder.open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let shard = stream.list_shards().unwrap()[0].id;
    let begun = Instant::now();
    let mut events = stream.subscribe(shard, IteratorType::Latest);
    let reader = tokio::spawn(async move {
        let mut times = Times::default();
        while let Some(Ok(event)) = events.next().await {
            let now = begun.elapsed();
            for record in event.records {
                let Some(sent) = record.data.first_chunk::<8>() else { continue };
                let sent = u64::from_le_bytes(*sent);
                if sent == u64::MAX {
                    return times;
                }
                times.add(now.saturating_sub(Duration::from_nanos(sent)));
            }
        }
        times
    });
    let stream = Arc::new(stream);
    let paced = rate.map(|rate| pace(rate, time));
    let tasks = (0..writers).map(|_| {
        let (stream, paced) = (stream.clone(), paced.clone());
        tokio::spawn(async move {
            while begun.elapsed() < time && turn(paced.as_deref()).await {
                let mut data = vec![7; RECORD_BYTES];
                let sent = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0);
                data.splice(..8, sent.to_le_bytes());
                put(&stream, data, durability).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    put(&stream, u64::MAX.to_le_bytes().to_vec(), durability).await;
    let times = reader.await.unwrap();
    kinesis.close().await.unwrap();
    times
}

async fn put(stream: &kinesis_core::DataStream, data: Vec<u8>, durability: Durability) {
    let record = PutRecord::new(data, "key");
    match durability {
        Durability::Memory => {
            let batch = PutBatch::new(vec![record]).with_durability(durability);
            stream.put_batch(batch).await.unwrap();
        }
        _ => {
            stream.put_record(record).await.unwrap();
        }
    }
}
