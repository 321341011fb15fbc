//! What the promises are tried on: instances, records, and all that a stream holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durable_core::{Disk, ManualClock};
use kinesis_core::object_store::ObjectStore;
use kinesis_core::{
    DataStream, IteratorType, Kinesis, KinesisBuilder, PutRecord, Record, Result, SequenceNumber, Settings, ShardId,
};

/// A tail so small that a few puts seal it.
pub(crate) const SMALL_TAIL: usize = 64 * 1024;

/// An instance in `dir` with a small tail and a clock of our own.
pub(crate) fn small(dir: &Path, clock: &ManualClock) -> KinesisBuilder {
    Kinesis::at(dir).with_settings(small_settings()).with_clock(Arc::new(clock.clone()))
}

pub(crate) fn small_settings() -> Settings {
    Settings::default().with_tail_bytes(SMALL_TAIL).with_cache_bytes(SMALL_TAIL).with_journal_segment_bytes(1 << 20)
}

/// The record `number`: its key spreads over shards, its data are recognisable and of uneven length.
pub(crate) fn record(number: u64) -> PutRecord {
    let mut data = format!("{number}:").into_bytes();
    data.resize(data.len() + (number as usize * 37) % 300, b'.');
    PutRecord::new(data, format!("key-{}", number % 97))
}

/// An instance whose journal is on a simulated disk and whose segments are in a store, with a clock of our own.
pub(crate) fn on_disk(
    store: Arc<dyn ObjectStore>,
    disk: Arc<dyn Disk>,
    journal_segment_bytes: u64,
    clock: &ManualClock,
) -> KinesisBuilder {
    let settings = small_settings().with_journal_segment_bytes(journal_segment_bytes);
    let builder = Kinesis::on(store, "k").journal_dir("/journal").with_disk(disk);
    builder.with_settings(settings).with_clock(Arc::new(clock.clone()))
}

/// The stream `s`, made with so many shards if it is not there yet.
pub(crate) async fn stream_of(kinesis: &Kinesis, shards: u32) -> Result<DataStream> {
    match kinesis.stream("s") {
        Ok(stream) => Ok(stream),
        Err(_) => kinesis.create_stream("s", shards).await,
    }
}

/// The result of `work`, in a runtime of one thread with which all of its tasks end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Runs `work` while the clock runs, so that waits end.
pub(crate) async fn while_time_passes<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            clock.advance(Duration::from_millis(20));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = passing => unreachable!("time passes for ever"),
    }
}

/// The number of a record made by [`record`], whose key and data must be as they were made.
pub(crate) fn number_of(found: &Record) -> u64 {
    let text = String::from_utf8(found.data.to_vec()).unwrap();
    let number = text.split(':').next().unwrap().parse().unwrap();
    let expected = record(number);
    assert_eq!((found.data.clone(), found.partition_key.as_str()), (expected.data, expected.partition_key.as_str()));
    number
}

pub(crate) async fn put(stream: &DataStream, numbers: impl IntoIterator<Item = u64>) -> Vec<(ShardId, SequenceNumber)> {
    let output = stream.put_records(numbers.into_iter().map(record).collect()).await.unwrap();
    output.records.iter().map(|outcome| outcome.stored().unwrap()).map(|at| (at.shard_id, at.sequence_number)).collect()
}

/// All records of a shard from the oldest on, while nobody writes.
pub(crate) async fn read_shard(stream: &DataStream, shard: ShardId) -> Result<Vec<Record>> {
    let (all, behind_ms) = read_to_tip(stream, shard).await?;
    assert_eq!(behind_ms, 0);
    Ok(all)
}

/// The records of a shard from the oldest on until there are no more (or the closed shard ends), and by how much that is behind: something, if a writer
/// has put the next record meanwhile.
pub(crate) async fn read_to_tip(stream: &DataStream, shard: ShardId) -> Result<(Vec<Record>, u64)> {
    let mut iterator = stream.shard_iterator(shard, IteratorType::TrimHorizon).await?;
    let mut all = Vec::new();
    loop {
        let output = stream.get_records(&iterator, 1000).await?;
        let (behind_ms, tip) = (output.millis_behind_latest(), output.records.is_empty());
        all.extend(output.records);
        match output.next_iterator {
            Some(next) if !tip => iterator = next,
            _ => return Ok((all, behind_ms)),
        }
    }
}

/// All records of a stream, by shard.
pub(crate) async fn read_all(stream: &DataStream) -> Result<BTreeMap<ShardId, Vec<Record>>> {
    let mut all = BTreeMap::new();
    for shard in stream.list_shards()? {
        all.insert(shard.id, read_shard(stream, shard.id).await?);
    }
    Ok(all)
}

/// The numbers of all records of a stream, sorted.
pub(crate) async fn numbers(stream: &DataStream) -> Vec<u64> {
    let mut numbers: Vec<u64> = read_all(stream).await.unwrap().values().flatten().map(number_of).collect();
    numbers.sort_unstable();
    numbers
}

/// Opens the instance as soon as what was dropped has let go of it.
#[cfg(feature = "firehose")]
pub(crate) async fn reopen(dir: &Path) -> Kinesis {
    loop {
        match Kinesis::at(dir).open().await {
            Ok(kinesis) => return kinesis,
            Err(error) => assert_eq!(error.kind(), kinesis_core::ErrorKind::Conflict, "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
}
