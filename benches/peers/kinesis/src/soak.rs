//! Whether memory stays where it is while records come, are read and go.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use kinesis_core::{IteratorType, Kinesis, PutRecord, Settings};

use crate::shards::resident_kib;

const RECORD_BYTES: usize = 1024;

pub(crate) async fn run(dir: &Path, minutes: u64, batches: u64) {
    println!("soak: {minutes} minutes of puts and reads through small tails and caches");
    let settings = Settings::default().with_tail_bytes(32 << 20).with_cache_bytes(32 << 20);
    let kinesis = Kinesis::at(dir.join("soak")).with_settings(settings).open().await.unwrap();
    let begun = Instant::now();
    let end = begun + Duration::from_secs(minutes * 60);
    let mut tail_kib = Vec::new();
    let mut round = 0_u64;
    let data = Bytes::from(vec![7; RECORD_BYTES]);
    while Instant::now() < end {
        // A stream's life: filled, followed to its tip, deleted. So the disk is bounded too.
        let stream = kinesis.create_stream(&format!("s-{round}"), 4).await.unwrap();
        for batch in 0..batches {
            let record = |number: u64| PutRecord::new(data.clone(), format!("key-{}", batch * 500 + number));
            stream.put_records((0..500).map(record).collect()).await.unwrap();
        }
        for shard in stream.list_shards().unwrap() {
            let mut events = stream.subscribe(shard.id, IteratorType::TrimHorizon);
            while let Some(Ok(event)) = events.next().await {
                if event.behind_latest.is_zero() {
                    break;
                }
            }
        }
        kinesis.delete_stream(&format!("s-{round}")).await.unwrap();
        round += 1;
        tail_kib.push(resident_kib());
        if round.is_multiple_of(10.max(4_000 / batches.max(1))) {
            println!("  {} s: {} MiB, {round} streams", begun.elapsed().as_secs(), resident_kib() / 1024);
        }
    }
    let (early, late) = tail_kib.split_at(tail_kib.len() / 2);
    let most = |part: &[u64]| part.iter().max().copied().unwrap_or(0) / 1024;
    println!("  most memory: {} MiB in the first half, {} MiB in the second", most(early), most(late));
    kinesis.close().await.unwrap();
}
