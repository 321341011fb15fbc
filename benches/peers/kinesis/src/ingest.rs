//! How many records a second become durable.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kinesis_core::{Kinesis, PutRecord};

use crate::bare::group_commit;
use crate::percentile::{Times, per_second, ratio};

const RECORD_BYTES: usize = 1024;

pub(crate) async fn run(dir: &Path, secs: u64, writers: &[usize]) {
    let time = Duration::from_secs(secs);
    println!("ingest: records of 1 KiB, each writer waits for its last one");
    for &writers in writers {
        // In turn, twice, so that a disk that slows down slows both.
        let (mut ours, mut bare) = ((0, Times::default()), (0, Times::default()));
        for round in 0..2 {
            let (count, times) = group_commit(dir, writers, RECORD_BYTES, time / 2).await;
            bare.0 += count;
            bare.1.extend(times);
            let (count, times) = durable(&dir.join(format!("ingest-{writers}-{round}")), writers, time / 2).await;
            ours.0 += count;
            ours.1.extend(times);
        }
        println!(
            "  {writers} writers: {} records/s (p50 {} us, p99 {} us), bare group commit {} records/s (p50 {} us): {:.2} x",
            per_second(ours.0, time),
            ours.1.percentile(50),
            ours.1.percentile(99),
            per_second(bare.0, time),
            bare.1.percentile(50),
            ratio(ours.0, bare.0),
        );
    }
}

async fn durable(dir: &Path, writers: usize, time: Duration) -> (u64, Times) {
    let kinesis = Kinesis::at(dir).open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    let end = Instant::now() + time;
    let data = Bytes::from(vec![7; RECORD_BYTES]);
    let tasks = (0..writers).map(|writer| {
        let (stream, data) = (stream.clone(), data.clone());
        tokio::spawn(async move {
            let mut times = Times::default();
            while Instant::now() < end {
                let begun = Instant::now();
                stream.put_record(PutRecord::new(data.clone(), format!("key-{writer}"))).await.unwrap();
                times.add(begun.elapsed());
            }
            times
        })
    });
    let mut all = Times::default();
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await.unwrap());
    }
    kinesis.close().await.unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    (all.count() as u64, all)
}
