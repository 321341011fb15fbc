//! A stream in a directory: durable puts beside the bare disk with the same bytes, and reads from the tail.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::io::{Seek, SeekFrom, Write};

use benches::Ratio;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group};
use kinesis_core::{DataStream, IteratorType, Kinesis, PutRecord};

const RECORD_BYTES: usize = 1024;
const BATCH: usize = 500;
const FILE_BYTES: u64 = 64 << 20;

fn records(batch: usize) -> Vec<PutRecord> {
    let data = Bytes::from(vec![7; RECORD_BYTES]);
    (0..batch).map(|number| PutRecord::new(data.clone(), format!("key-{number}"))).collect()
}

fn puts(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("streams");
    let (kinesis, stream) = runtime.block_on(open(dir.path()));

    group.throughput(Throughput::Bytes((BATCH * RECORD_BYTES) as u64));
    let batch = records(BATCH);
    group.bench_function("durable put_records of 500 x 1 KiB over 4 shards", |bencher| {
        bencher.to_async(&runtime).iter(|| async { stream.put_records(batch.clone()).await.unwrap() });
    });
    let path = dir.path().join("raw");
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&vec![0; usize::try_from(FILE_BYTES).unwrap()]).unwrap();
    file.sync_all().unwrap();
    let bytes = vec![7; BATCH * RECORD_BYTES];
    let mut at = 0;
    group.bench_function("bare write and fdatasync of 500 KiB", |bencher| {
        bencher.iter(|| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            at = (at + bytes.len() as u64) % (FILE_BYTES - bytes.len() as u64);
        });
    });

    group.throughput(Throughput::Bytes(RECORD_BYTES as u64));
    let one = records(1).remove(0);
    group.bench_function("durable put_record of 1 KiB", |bencher| {
        bencher.to_async(&runtime).iter(|| async { stream.put_record(one.clone()).await.unwrap() });
    });
    group.finish();
    runtime.block_on(kinesis.close()).unwrap();
}

fn reads(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("streams");
    let (kinesis, stream) = runtime.block_on(open(dir.path()));
    runtime.block_on(async {
        for _ in 0..20 {
            stream.put_records(records(BATCH)).await.unwrap();
        }
    });
    group.throughput(Throughput::Elements(20 * BATCH as u64));
    group.bench_function("get_records of 10000 x 1 KiB from the tail", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let mut read = 0;
            for shard in stream.list_shards().unwrap() {
                let mut iterator = Some(stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await.unwrap());
                while let Some(at) = iterator {
                    let output = stream.get_records(&at, 10_000).await.unwrap();
                    read += output.records.len();
                    iterator = output.next_iterator.filter(|_| !output.records.is_empty());
                }
            }
            assert_eq!(read, 20 * BATCH);
        });
    });
    group.finish();
    runtime.block_on(kinesis.close()).unwrap();
}

async fn open(dir: &std::path::Path) -> (Kinesis, DataStream) {
    let kinesis = Kinesis::at(dir.join("instance")).open().await.unwrap();
    let stream = kinesis.create_stream("bench", 4).await.unwrap();
    (kinesis, stream)
}

criterion_group!(benches, puts, reads);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    for line in benches::ratios(&[Ratio {
        ours: "streams/durable put_records of 500 x 1 KiB over 4 shards",
        theirs: "streams/bare write and fdatasync of 500 KiB",
        what: "a bare write and fdatasync of the same bytes",
    }]) {
        println!("{line}");
    }
}
