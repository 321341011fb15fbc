//! How fast retained history is read again.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use kinesis_core::{IteratorType, Kinesis, PutRecord};

use crate::percentile::per_second;

const RECORD_BYTES: usize = 1024;
const BATCH: u64 = 500;

pub(crate) async fn run(dir: &Path, mib: u64) {
    println!("replay: {mib} MiB of history in records of 1 KiB, 4 shards side by side");
    let path = dir.join("replay");
    let kinesis = Kinesis::at(&path).open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    let data = Bytes::from(vec![7; RECORD_BYTES]);
    let records = mib * 1024;
    for batch in 0..records / BATCH {
        let record = |number: u64| PutRecord::new(data.clone(), format!("key-{}", batch * BATCH + number));
        stream.put_records((0..BATCH).map(record).collect()).await.unwrap();
    }
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();

    // Opened again: nothing is in memory but what the system keeps of files.
    for round in ["first", "second"] {
        let kinesis = Kinesis::at(&path).open().await.unwrap();
        let stream = kinesis.stream("s").unwrap();
        let begun = Instant::now();
        let newest = |shard| {
            let mut events = stream.subscribe(shard, IteratorType::TrimHorizon);
            tokio::spawn(async move {
                let (mut count, mut bytes) = (0_u64, 0_u64);
                while let Some(Ok(event)) = events.next().await {
                    count += event.records.len() as u64;
                    bytes += event.records.iter().map(|record| record.data.len() as u64).sum::<u64>();
                    if event.behind_latest == Duration::ZERO {
                        break;
                    }
                }
                (count, bytes)
            })
        };
        let readers: Vec<_> = stream.list_shards().unwrap().iter().map(|shard| newest(shard.id)).collect();
        let (mut count, mut bytes) = (0, 0);
        for reader in readers {
            let (read, payload) = reader.await.unwrap();
            count += read;
            bytes += payload;
        }
        let time = begun.elapsed();
        assert_eq!(count, records / BATCH * BATCH, "every record is read");
        println!("  {round} time: {count} records, {} MB/s of payload", per_second(bytes, time) / 1_000_000);
        kinesis.close().await.unwrap();
    }

    // What the disk, or the system's memory of it, gives without anything around it.
    let begun = Instant::now();
    let mut bytes = 0;
    let mut folders = vec![path];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "arrow") {
                bytes += std::fs::read(entry.path()).unwrap().len() as u64;
            }
        }
    }
    println!("  the same files read whole, one thread: {} MB/s", per_second(bytes, begun.elapsed()) / 1_000_000);
}
