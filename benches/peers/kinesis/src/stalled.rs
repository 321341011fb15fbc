//! What a consumer that stands still costs the others.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use kinesis_core::{IteratorType, Kinesis, PutRecord, Settings};

use crate::percentile::{per_second, ratio};
use crate::shards::resident_kib;

const RECORD_BYTES: usize = 1024;
const BATCH: usize = 500;
const OTHERS: u64 = 9;
const TAIL_BYTES: usize = 64 << 20;

pub(crate) async fn run(dir: &Path, secs: u64) {
    println!("stalled: {OTHERS} consumers of one shard, and one that stands still");
    let time = Duration::from_secs(secs);
    let (mut without, mut with) = (0, 0);
    // The first run also takes the memory that a tail and what reads it take.
    consumed(dir, false, time).await;
    let before = resident_kib();
    let mut grown = 0;
    for _ in 0..2 {
        without += consumed(dir, false, time).await;
        with += consumed(dir, true, time).await;
        grown = grown.max(resident_kib().saturating_sub(before));
    }
    let rate = |records| per_second(records, 2 * time);
    println!("  without it: {} records/s read by the others, with it {}", rate(without), rate(with));
    println!("  {:.2} x; {} MiB more memory", ratio(with, without), grown / 1024);
}

/// How many records the others read in this time, with or without one that stands still.
async fn consumed(dir: &Path, one_stalls: bool, time: Duration) -> u64 {
    let at = dir.join("stalled");
    let settings = Settings::default().with_tail_bytes(TAIL_BYTES).with_cache_bytes(TAIL_BYTES);
    let kinesis = Kinesis::at(&at).with_settings(settings).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let shard = stream.list_shards().unwrap()[0].id;
    let batch: Vec<_> = (0..BATCH).map(|_| PutRecord::new(Bytes::from(vec![7; RECORD_BYTES]), "key")).collect();
    stream.put_records(batch.clone()).await.unwrap();
    let mut stalled = one_stalls.then(|| stream.subscribe(shard, IteratorType::TrimHorizon));
    if let Some(stalled) = &mut stalled {
        stalled.next().await.unwrap().unwrap();
    }
    let end = Instant::now() + time;
    let others = (0..OTHERS).map(|_| {
        let mut events = stream.subscribe(shard, IteratorType::Latest);
        tokio::spawn(async move {
            let mut records = 0;
            while let Ok(Some(event)) = tokio::time::timeout_at(end.into(), events.next()).await {
                records += event.unwrap().records.len() as u64;
            }
            records
        })
    });
    let others: Vec<_> = others.collect();
    while Instant::now() < end {
        stream.put_records(batch.clone()).await.unwrap();
    }
    let mut records = 0;
    for other in others {
        records += other.await.unwrap();
    }
    drop(stalled);
    kinesis.close().await.unwrap();
    std::fs::remove_dir_all(at).unwrap();
    records
}
