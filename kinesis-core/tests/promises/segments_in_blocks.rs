//! A large segment is fetched and checked block by block, as far as it is read; compressed or not, it holds the same, and
//! other tools open it.

use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use durable_core::{Clock, ManualClock};
use futures::TryStreamExt;
use kinesis_core::{Compression, DataStream, ErrorKind, IteratorType, Kinesis, PutRecord, Record, Settings, ShardId};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

const SHARD: ShardId = ShardId::new(0);
const RECORDS: u64 = 40;

fn data(number: u64) -> Bytes {
    let mut data = vec![number as u8; 500_000 + number as usize];
    data[..8].copy_from_slice(&number.to_be_bytes());
    data.into()
}

async fn opened(store: &Arc<InMemory>, clock: &ManualClock, compression: Compression) -> (Kinesis, DataStream) {
    let settings = Settings::default().with_segment_compression(compression).with_cache_bytes(16 << 20);
    let kinesis = Kinesis::on(store.clone(), "k").with_settings(settings).with_clock(Arc::new(clock.clone()));
    let kinesis = kinesis.open().await.unwrap();
    let stream = match kinesis.stream("s") {
        Ok(stream) => stream,
        Err(_) => kinesis.create_stream("s", 1).await.unwrap(),
    };
    (kinesis, stream)
}

/// One segment of 20 MB in a store, one record a second, and an instance that has none of it in memory.
async fn one_segment(compression: Compression) -> (Arc<InMemory>, Path, Kinesis, DataStream, Vec<i64>) {
    let (store, clock) = (Arc::new(InMemory::new()), ManualClock::default());
    let (kinesis, stream) = opened(&store, &clock, compression).await;
    let mut arrivals = Vec::new();
    for number in 0..RECORDS {
        arrivals.push(clock.now().timestamp_millis());
        stream.put_record(PutRecord::new(data(number), format!("key {number}"))).await.unwrap();
        clock.advance(std::time::Duration::from_secs(1));
    }
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let listed = store.list(Some(&"k/segments".into())).map_ok(|object| object.location);
    let paths: Vec<Path> = listed.try_collect().await.unwrap();
    let (kinesis, stream) = opened(&store, &clock, compression).await;
    (store, paths[0].clone(), kinesis, stream, arrivals)
}

fn check(records: &[Record], from: u64) {
    for (number, record) in (from..).zip(records) {
        assert_eq!((&record.data, record.partition_key.as_str()), (&data(number), format!("key {number}").as_str()));
    }
}

async fn read_from(stream: &DataStream, from: IteratorType) -> Vec<Record> {
    let mut iterator = stream.shard_iterator(SHARD, from).await.unwrap();
    let mut all = Vec::new();
    loop {
        let output = stream.get_records(&iterator, 3).await.unwrap();
        if output.records.is_empty() {
            return all;
        }
        all.extend(output.records);
        iterator = output.next_iterator.unwrap();
    }
}

#[tokio::test]
async fn any_place_of_a_large_segment_is_found_by_number_and_by_time() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let (_store, _, kinesis, stream, arrivals) = one_segment(compression).await;
        let all = read_from(&stream, IteratorType::TrimHorizon).await;
        assert_eq!(all.len() as u64, RECORDS, "{compression:?}");
        check(&all, 0);
        for (number, record) in (0..).zip(&all) {
            let at = IteratorType::AtSequenceNumber(record.sequence_number);
            let after = IteratorType::AfterSequenceNumber(record.sequence_number);
            let time = IteratorType::AtTimestamp(DateTime::from_timestamp_millis(arrivals[number as usize]).unwrap());
            for (from, number) in [(at, number), (after, number + 1), (time, number)] {
                let iterator = stream.shard_iterator(SHARD, from).await.unwrap();
                let records = stream.get_records(&iterator, 1).await.unwrap().records;
                assert_eq!(records.is_empty(), number == RECORDS);
                check(&records, number);
            }
        }
        let metrics = kinesis.metrics();
        assert!(metrics.cache_bytes <= 16 << 20, "{metrics:?}");
    }
}

#[tokio::test]
async fn one_record_costs_one_block_and_who_reads_on_finds_the_next_fetched() {
    let (_store, _, kinesis, stream, arrivals) = one_segment(Compression::None).await;
    let middle = DateTime::from_timestamp_millis(arrivals[22]).unwrap();
    let iterator = stream.shard_iterator(SHARD, IteratorType::AtTimestamp(middle)).await.unwrap();
    check(&stream.get_records(&iterator, 1).await.unwrap().records, 22);
    let metrics = kinesis.metrics();
    assert_eq!(metrics.fetched_segments, 1, "{metrics:?}");
    assert!(metrics.cache_bytes < 6 << 20, "{metrics:?}");
    // From the beginning of a block on, the next one comes by itself.
    check(&read_from(&stream, IteratorType::TrimHorizon).await, 0);
    let blocks = kinesis.metrics().fetched_segments;
    assert!((5..=7).contains(&blocks), "each block is fetched once: {blocks}");
}

#[tokio::test]
async fn no_damaged_block_or_footer_is_served() {
    for compression in [Compression::None, Compression::Zstd] {
        let (store, path, kinesis, _, _) = one_segment(compression).await;
        kinesis.close().await.unwrap();
        let good = store.get(&path).await.unwrap().bytes().await.unwrap();
        let mut detected = 0;
        let step = good.len() / 60;
        let ends = [good.len() - 1, good.len() - 5, good.len() - 50, good.len() - 400];
        let places: Vec<usize> = (0..good.len()).step_by(step).skip(1).chain(ends).collect();
        for at in &places {
            let mut bad = good.to_vec();
            bad[*at] ^= 1 << (at % 8);
            store.put(&path, bad.into()).await.unwrap();
            // A new instance each time: what was checked before is in the cache.
            let (kinesis, stream) = opened(&store, &ManualClock::default(), compression).await;
            let mut iterator = stream.shard_iterator(SHARD, IteratorType::TrimHorizon).await.unwrap();
            let mut number = 0;
            loop {
                match stream.get_records(&iterator, 2).await {
                    Ok(output) if output.records.is_empty() => {
                        // The schema that begins the file, which the footer repeats, is for other tools.
                        assert!(number == RECORDS && *at < 2048, "byte {at}");
                        break;
                    }
                    Ok(output) => {
                        check(&output.records, number);
                        number += output.records.len() as u64;
                        iterator = output.next_iterator.unwrap();
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error:?}");
                        assert!(error.message().contains(path.as_ref()), "{error:?}");
                        detected += 1;
                        break;
                    }
                }
            }
            kinesis.close().await.unwrap();
        }
        assert!(detected >= places.iter().filter(|at| **at >= 2048).count(), "{compression:?}: {detected}");
        // Cut or grown, it is damaged too.
        for other in [good.slice(..good.len() / 2), good.slice(..good.len() - 1), [&good[..], b"x"].concat().into()] {
            store.put(&path, other.into()).await.unwrap();
            let (kinesis, stream) = opened(&store, &ManualClock::default(), compression).await;
            let iterator = stream.shard_iterator(SHARD, IteratorType::TrimHorizon).await.unwrap();
            let error = stream.get_records(&iterator, 2).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            kinesis.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn pyarrow_counts_the_rows_of_a_segment() {
    let count = "import pyarrow, sys\nfrom pyarrow import ipc\nprint(ipc.open_file(sys.argv[1]).read_all().num_rows)";
    let python = |arguments: Vec<String>| async move {
        tokio::task::spawn_blocking(move || std::process::Command::new("python3").args(arguments).output())
            .await
            .unwrap()
    };
    let has_pyarrow = python(vec!["-c".into(), "import pyarrow".into()]).await;
    if !has_pyarrow.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3 with pyarrow is missing (pip install pyarrow)");
        eprintln!(
            "skipped pyarrow_counts_the_rows_of_a_segment: python3 with pyarrow is missing (pip install pyarrow)"
        );
        return;
    }
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let (store, path, ..) = one_segment(compression).await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("segment.arrow");
        std::fs::write(&file, store.get(&path).await.unwrap().bytes().await.unwrap()).unwrap();
        let output = python(vec!["-c".into(), count.into(), file.to_str().unwrap().into()]).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.trim(), RECORDS.to_string());
    }
}
