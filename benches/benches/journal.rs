//! A local journal's durable appends beside the bare disk: the same bytes written and synced in the same batches.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use benches::Ratio;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use durable_core::journal::Journal;
use futures::future::join_all;

const RECORD_BYTES: usize = 1024;
const FILE_BYTES: u64 = 64 << 20;

fn appends(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("journal");
    for writers in [1_usize, 64] {
        group.throughput(Throughput::Elements(writers as u64));
        let journal = runtime.block_on(async {
            let recovery = Journal::dir(dir.path().join(format!("{writers}"))).open().await.unwrap();
            recovery.start(|_| {}).await.unwrap()
        });
        let body = Bytes::from(vec![7; RECORD_BYTES]);
        group.bench_function(BenchmarkId::new("durable appends of 1 KiB at once", writers), |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                let position = join_all((0..writers).map(|_| journal.append(body.clone(), 1))).await;
                // Keep the journal small: what was appended is of no use to anybody.
                let last = position.into_iter().map(Result::unwrap).max().unwrap();
                if last.0 % (8 << 10) < writers as u64 {
                    journal.checkpoint(last, Vec::new()).await.unwrap();
                }
            });
        });
        runtime.block_on(journal.close()).unwrap();

        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(dir.path().join("raw")).unwrap();
        file.write_all(&vec![0; usize::try_from(FILE_BYTES).unwrap()]).unwrap();
        file.sync_all().unwrap();
        let batch = vec![7; RECORD_BYTES * writers];
        let mut at = 0;
        group.bench_function(BenchmarkId::new("bare write and fdatasync of as many KiB", writers), |bencher| {
            bencher.iter(|| {
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&batch).unwrap();
                file.sync_data().unwrap();
                at = (at + batch.len() as u64) % (FILE_BYTES - batch.len() as u64);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, appends);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    let pair = |ours, theirs| Ratio { ours, theirs, what: "a bare write and fdatasync of the same bytes" };
    for line in benches::ratios(&[
        pair("journal/durable appends of 1 KiB at once/1", "journal/bare write and fdatasync of as many KiB/1"),
        pair("journal/durable appends of 1 KiB at once/64", "journal/bare write and fdatasync of as many KiB/64"),
    ]) {
        println!("{line}");
    }
}
