//! What a version wrote opens for ever: sealed segments, a checkpoint, frames behind it, and leases.
//!
//! `tests/fixtures/v1` and `v2` were written once and are never written again; version 2 by this function:
//! `KINESIS_FIXTURE=kinesis-core/tests/fixtures/v2 cargo test -p kinesis-core --test promises format_stays`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::worker::{
    Checkpoint, Checkpointer, InitialPosition, ProcessRecords, ProcessorError, RecordProcessor, Worker,
};
use kinesis_core::{
    Compression, DataStream, HashKey, Kinesis, Producer, PutBatch, PutRecord, Record, SequenceNumber, Settings,
    ShardId, StreamSpec,
};

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

/// Has a frame of every kind, and a segment of every form, in segments and behind them.
async fn write(dir: &Path) {
    let clock = ManualClock::default();
    let kinesis = builder(dir, &clock).open().await.unwrap();
    let stream =
        kinesis.create_stream("fixture", StreamSpec::provisioned(2).with_record_bytes_max(2 << 20)).await.unwrap();
    stream.set_retention(Duration::from_secs(48 * 3600)).await.unwrap();
    put(&stream, 0..2).await;
    stream.commit("before", BTreeMap::new(), Some("sealed".into())).await.unwrap();
    kinesis.seal().await.unwrap();
    clock.advance(Duration::from_millis(1234));
    stream.add_tags([("team".to_owned(), "sealed".to_owned())].into()).await.unwrap();
    stream.register_stream_consumer("fan-out").await.unwrap();
    stream.split_shard(ShardId::new(1), HashKey(3 << 126)).await.unwrap();
    put(&stream, 2..4).await;
    kinesis.create_stream("deleted", 1).await.unwrap();
    kinesis.close().await.unwrap();
    // The same again, compressed, and with workers.
    let kinesis = compressed(dir, &clock).open().await.unwrap();
    let stream = kinesis.stream("fixture").unwrap();
    let processor = |_| Idle;
    let worker = Worker::builder(stream.clone(), "app", processor).with_worker_id("worker");
    let worker = worker.with_initial_position(InitialPosition::TrimHorizon).start().await.unwrap();
    while !worker.leases().await.unwrap().iter().any(|lease| lease.checkpoint == Checkpoint::ShardEnd) {
        clock.advance(Duration::from_millis(500));
        tokio::task::yield_now().await;
    }
    worker.shutdown().await;
    kinesis.seal().await.unwrap();
    kinesis.delete_stream("deleted").await.unwrap();
    stream.add_tags([("place".to_owned(), "in the journal".to_owned())].into()).await.unwrap();
    stream.merge_shards(ShardId::new(0), ShardId::new(2)).await.unwrap();
    stream.commit("gone", BTreeMap::new(), None).await.unwrap();
    stream.delete_consumer("gone").await.unwrap();
    put(&stream, 4..6).await;
    let put = PutBatch::new(vec![PutRecord::new("in a transaction", "key")]);
    let newest = numbers(&stream).await.remove(&ShardId::new(3)).unwrap();
    let positions = BTreeMap::from([(ShardId::new(3), newest)]);
    let transaction = kinesis.transaction().put(&stream, put);
    transaction.commit(&stream, "behind", positions, Some("in the journal".into())).execute().await.unwrap();
    kinesis.close().await.unwrap();
}

fn compressed(dir: &Path, clock: &ManualClock) -> kinesis_core::KinesisBuilder {
    let settings = Settings::default().with_journal_segment_bytes(8192).with_segment_compression(Compression::Zstd);
    builder(dir, clock).with_settings(settings)
}

struct Idle;

impl RecordProcessor for Idle {
    async fn process_records(&mut self, _: ProcessRecords<'_>, to: &Checkpointer) -> Result<(), ProcessorError> {
        Ok(to.checkpoint().await?)
    }

    async fn shard_ended(&mut self, to: &Checkpointer) -> Result<(), ProcessorError> {
        Ok(to.checkpoint().await?)
    }
}

/// The newest record of each shard.
async fn numbers(stream: &DataStream) -> BTreeMap<ShardId, SequenceNumber> {
    let all = super::stage::read_all(stream).await.unwrap();
    all.into_iter().filter_map(|(shard, records)| Some((shard, records.last()?.sequence_number))).collect()
}

/// Everything that a stream has, a line each.
async fn told(kinesis: &Kinesis) -> String {
    let stream = kinesis.stream("fixture").unwrap();
    let (about, mut told) = (stream.describe().unwrap(), Vec::new());
    told.push(format!("retention {:?}, {:?}, tags {:?}", about.retention, about.mode, stream.tags().unwrap()));
    for shard in stream.list_shards().unwrap() {
        let range = shard.hash_key_range;
        let parents = (shard.parent, shard.adjacent_parent);
        told.push(format!("{} {} to {}, of {parents:?}", shard.id, range.starting, range.ending));
        told.extend(lines(&read_shard(&stream, shard.id).await.unwrap()));
    }
    for name in stream.consumers().unwrap() {
        told.push(format!("{name}: {:?}", stream.consumer(&name).unwrap()));
    }
    told.extend(stream.stream_consumers().unwrap().iter().map(|consumer| consumer.name.clone()));
    told.push(format!("producer at {:?}", stream.producer("producer").unwrap()));
    let worker = Worker::builder(stream, "app", |_| Idle).start().await.unwrap();
    for lease in worker.leases().await.unwrap() {
        told.push(format!("lease of {}: {:?}", lease.shard, lease.checkpoint));
    }
    worker.shutdown().await;
    told.join("\n") + "\n"
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

fn fixture(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

#[tokio::test]
async fn version_1_opens() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    copy(&fixture("v1"), dir.path());
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

#[tokio::test]
async fn version_2_opens() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    if let Some(place) = std::env::var_os("KINESIS_FIXTURE") {
        write(&Path::new(&place).join("data")).await;
        copy(&Path::new(&place).join("data"), dir.path());
        let kinesis = builder(dir.path(), &clock).open().await.unwrap();
        std::fs::write(Path::new(&place).join("told.txt"), told(&kinesis).await).unwrap();
        return;
    }
    copy(&fixture("v2/data"), dir.path());
    let expected = std::fs::read_to_string(fixture("v2/told.txt")).unwrap();
    let kinesis = builder(dir.path(), &clock).open().await.unwrap();
    assert_eq!(told(&kinesis).await, expected);
    assert_eq!(kinesis.list_streams().len(), 1);
    // And it goes on from there, as what comes from there opens again.
    let stream = kinesis.stream("fixture").unwrap();
    put(&stream, 4..6).await;
    assert_eq!(kinesis.metrics().duplicate_records, 2);
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let kinesis = builder(dir.path(), &clock).open().await.unwrap();
    assert_eq!(told(&kinesis).await, expected);
    kinesis.close().await.unwrap();
}
