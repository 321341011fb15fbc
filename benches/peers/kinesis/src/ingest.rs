//! How many records a second become durable.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kinesis_core::{Kinesis, PutRecord, Settings};

use crate::bare::{Target, group_commit};
use crate::percentile::{Times, per_second, ratio};

const RECORD_BYTES: usize = 1024;
/// A tail that is not sealed while this measures: half of it is more than comes.
const UNSEALED_BYTES: usize = 16 << 30;

pub(crate) async fn run(dir: &Path, secs: u64, writers: &[usize], tail_mib: usize) {
    let time = Duration::from_secs(secs);
    println!("ingest: records of 1 KiB, each writer waits for its last one");
    for &writers in writers {
        // In turn, twice, so that a disk that slows down slows both.
        let (mut ours, mut unsealed, mut new, mut same) = <(Times, Times, Times, Times)>::default();
        for round in 0..2 {
            new.extend(group_commit(dir, Target::NewFile, writers, RECORD_BYTES, None, time / 2).await);
            let at = dir.join(format!("ingest-{writers}-{round}"));
            ours.extend(durable(&at, tail_mib << 20, writers, time / 2).await);
            unsealed.extend(durable(&at, UNSEALED_BYTES, writers, time / 2).await);
            same.extend(group_commit(dir, Target::SameBlocks, writers, RECORD_BYTES, None, time / 2).await);
        }
        let line = |name: &str, times: &mut Times| {
            let (count, p50, p99) = (times.count() as u64, times.percentile(50), times.percentile(99));
            println!("    {name}: {} records/s, p50 {p50} us, p99 {p99} us", per_second(count, time));
        };
        println!("  {writers} writers:");
        line(&format!("ours, tail of {tail_mib} MiB"), &mut ours);
        line("ours, all of it in the tail", &mut unsealed);
        line("bare group commit to a new file", &mut new);
        line("bare group commit over the same blocks", &mut same);
        let to = |ours: &Times, bare: &Times| ratio(ours.count() as u64, bare.count() as u64);
        println!(
            "    ours is {:.2} x and {:.2} x of these, with all in the tail {:.2} x and {:.2} x",
            to(&ours, &new),
            to(&ours, &same),
            to(&unsealed, &new),
            to(&unsealed, &same)
        );
    }
}

async fn durable(dir: &Path, tail_bytes: usize, writers: usize, time: Duration) -> Times {
    let settings = Settings::default().with_tail_bytes(tail_bytes);
    let kinesis = Kinesis::at(dir).with_settings(settings).open().await.unwrap();
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
    all
}
