//! What version 1 wrote opens for ever: sealed segments, a checkpoint, and frames behind it.
//!
//! `tests/fixtures/v1` was written once by this function and is never written again:
//! `KINESIS_FIXTURE=kinesis-core/tests/fixtures/v1 cargo test -p kinesis-core --test promises format_stays`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::{DataStream, HashKey, Kinesis, Producer, PutBatch, PutRecord, Record, Settings, ShardId};

use super::stage::read_shard;

const TEXTS: [&str; 6] = ["one", "two", "three", "", "five \u{e9}", "six"];

fn builder(dir: &Path, clock: &ManualClock) -> kinesis_core::KinesisBuilder {
    let settings = Settings::default().with_journal_segment_bytes(8192);
    Kinesis::at(dir).with_settings(settings).with_clock(std::sync::Arc::new(clock.clone()))
}

async fn put(stream: &DataStream, numbers: std::ops::Range<usize>) {
    let records = numbers.clone().map(|number| {
        let record = PutRecord::new(TEXTS[number], format!("key \u{fc} {}", TEXTS[number]));
        if number % 2 == 0 { record } else { record.with_explicit_hash_key(HashKey::MAX) }
    });
    let producer = Producer::consecutive("producer", numbers.start as u64);
    stream.put_batch(PutBatch::new(records.collect()).with_producer(producer)).await.unwrap();
}

async fn write(dir: &Path) {
    let clock = ManualClock::default();
    let kinesis = builder(dir, &clock).open().await.unwrap();
    let stream = kinesis.create_stream("fixture", 2).await.unwrap();
    stream.set_retention(Duration::from_secs(48 * 3600)).await.unwrap();
    put(&stream, 0..2).await;
    stream.commit("before", BTreeMap::new(), Some("sealed".into())).await.unwrap();
    kinesis.seal().await.unwrap();
    clock.advance(Duration::from_millis(1234));
    put(&stream, 2..4).await;
    kinesis.seal().await.unwrap();
    put(&stream, 4..6).await;
    stream.commit("behind", BTreeMap::new(), Some("in the journal".into())).await.unwrap();
    kinesis.close().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every record's number, arrival, key and data, as the fixture has them.
fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let data = String::from_utf8(record.data.to_vec()).unwrap();
        format!("{} {} {} {data}", record.sequence_number, record.arrival.timestamp_millis(), record.partition_key)
    };
    records.iter().map(line).collect()
}

#[tokio::test]
async fn version_1_opens() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    if let Some(dir) = std::env::var_os("KINESIS_FIXTURE") {
        write(Path::new(&dir)).await;
    }
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    copy(&fixture, dir.path());
    let kinesis = builder(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.stream("fixture").unwrap();
    assert_eq!(stream.producer("producer").unwrap(), Some(5));
    assert_eq!(kinesis.describe_stream("fixture").unwrap().retention, Duration::from_secs(48 * 3600));
    for (name, state) in [("before", "sealed"), ("behind", "in the journal")] {
        assert_eq!(stream.consumer(name).unwrap().unwrap().state.unwrap(), state);
    }
    let mut found = Vec::new();
    for shard in 0..2 {
        found.push(lines(&read_shard(&stream, ShardId::new(shard)).await.unwrap()));
    }
    assert_eq!(found, EXPECTED);
    assert_eq!(kinesis.metrics().recovered_records, 2);
    // And it goes on from there.
    put(&stream, 4..6).await;
    assert_eq!(kinesis.metrics().duplicate_records, 2);
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
}

const EXPECTED: [&[&str]; 2] = [
    &[
        "49670424472731169861061894383145303276904469982749917186 1767225600000 key ü one one",
        "49670424472731169861061894383148930054363313938993512450 1767225601234 key ü three three",
        "49670424472731169861061894383151347906002543197342924802 1767225601234 key ü five é five é",
    ],
    &[
        "49670424472753470606260425006288047920996732973430603794 1767225600000 key ü two two",
        "49670424472753470606260425006291674698455576929674199058 1767225601234 key ü  ",
        "49670424472753470606260425006294092550094806188023611410 1767225601234 key ü six six",
    ],
];
