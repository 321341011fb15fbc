//! Power goes at any moment, with what was not synced: every acknowledged record is there afterwards, byte by byte; what
//! was not acknowledged is there whole or not at all; numbers only rise; a consumer stands where it committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::object_store::ObjectStore;
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{
    DataStream, HashKey, IteratorType, Kinesis, PutBatch, PutOutcome, Record, SequenceNumber, ShardFilter, ShardId,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::disk::{Sabotage, Sabotaged, SimDisk};
use testkit::seeds::{Violation, check_all, share_caught};

use super::stage::{record, small_settings};

const LIVES: u32 = 5;

/// What must be there, and what may be.
#[derive(Default)]
struct Expected {
    /// By number: where it was acknowledged.
    acknowledged: BTreeMap<u64, (ShardId, SequenceNumber)>,
    /// Batches whose outcome nobody knows.
    unknown: Vec<Vec<u64>>,
    /// The consumer's positions that may be committed: the last acknowledged, and unknown ones behind it.
    positions: Vec<BTreeMap<ShardId, SequenceNumber>>,
    next: u64,
}

impl Expected {
    fn numbers(&mut self, count: u64) -> Vec<u64> {
        self.next += count;
        (self.next - count..self.next).collect()
    }
}

/// All records of all shards, in their order.
async fn read(stream: &DataStream) -> Result<BTreeMap<ShardId, Vec<Record>>, Violation> {
    let mut all = BTreeMap::new();
    for shard in stream.list_shards().map_err(|error| format!("{error:?}"))? {
        let mut records = Vec::new();
        let mut next = stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await.map(Some);
        while let Some(iterator) = next.map_err(|error| format!("{error:?}"))? {
            let output = stream.get_records(&iterator, 50).await.map_err(|error| format!("{error:?}"))?;
            let tip = output.records.is_empty();
            for record in &output.records {
                if !shard.hash_key_range.contains(record.hash_key) {
                    return Err(format!("{} has a record of another range", shard.id));
                }
            }
            records.extend(output.records);
            next = Ok(output.next_iterator.filter(|_| !tip));
        }
        all.insert(shard.id, records);
    }
    Ok(all)
}

fn number_of(found: &Record) -> Result<u64, Violation> {
    let text = String::from_utf8_lossy(&found.data).into_owned();
    let number = text.split(':').next().and_then(|number| number.parse().ok()).ok_or("a record of nobody")?;
    let expected = record(number);
    match (found.data.clone(), found.partition_key.as_str()) == (expected.data, expected.partition_key.as_str()) {
        true => Ok(number),
        false => Err(format!("record {number} is not as it was put")),
    }
}

/// Holds what is there against what must be; what was unknown is known then.
async fn verify(stream: &DataStream, expected: &mut Expected) -> Result<(), Violation> {
    let mut found = BTreeMap::new();
    for (shard, records) in read(stream).await? {
        let mut last = None;
        for record in &records {
            let number = number_of(record)?;
            if last.replace(record.sequence_number).is_some_and(|last| last >= record.sequence_number) {
                return Err(format!("numbers of {shard} do not rise at record {number}"));
            }
            if found.insert(number, (shard, record.sequence_number)).is_some() {
                return Err(format!("record {number} is there twice"));
            }
        }
    }
    for (number, place) in &expected.acknowledged {
        if found.get(number) != Some(place) {
            return Err(format!("acknowledged record {number} at {place:?}: found {:?}", found.get(number)));
        }
    }
    let mut known: BTreeSet<u64> = expected.acknowledged.keys().copied().collect();
    for batch in std::mem::take(&mut expected.unknown) {
        let there = batch.iter().filter(|number| found.contains_key(number)).count();
        if there != 0 && there != batch.len() {
            return Err(format!("{there} of the {} records of a batch are there", batch.len()));
        }
        known.extend(&batch);
        if there > 0 {
            expected.acknowledged.extend(batch.iter().map(|number| (*number, found[number])));
        }
    }
    if let Some(stray) = found.keys().find(|number| !known.contains(number)) {
        return Err(format!("record {stray} was never put, or was taken back"));
    }
    let positions = stream.consumer("c").map_err(|error| format!("{error:?}"))?.unwrap_or_default().positions;
    if !expected.positions.is_empty() && !expected.positions.contains(&positions) {
        return Err(format!("the consumer stands at {positions:?}, committed was {:?}", expected.positions));
    }
    if !expected.positions.is_empty() {
        expected.positions = vec![positions];
    }
    Ok(())
}

struct Run {
    disk: SimDisk,
    sabotage: Option<Sabotage>,
    store: Arc<dyn ObjectStore>,
    clock: ManualClock,
    random: StdRng,
    expected: Expected,
}

impl Run {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        Self {
            disk: SimDisk::new(seed),
            sabotage,
            store: Arc::new(InMemory::new()),
            clock: ManualClock::default(),
            random: StdRng::seed_from_u64(seed),
            expected: Expected::default(),
        }
    }

    async fn open(&self) -> Result<(Kinesis, DataStream), Violation> {
        let disk: Arc<dyn durable_core::Disk> = match self.sabotage {
            Some(sabotage) => Arc::new(Sabotaged::new(self.disk.clone(), sabotage)),
            None => Arc::new(self.disk.clone()),
        };
        let builder = Kinesis::on(self.store.clone(), "k").journal_dir("/journal").with_disk(disk);
        let settings = small_settings().with_journal_segment_bytes(256 << 10);
        let opened = builder.with_settings(settings).with_clock(Arc::new(self.clock.clone())).open().await;
        let kinesis = opened.map_err(|error| format!("it does not open: {error:?}"))?;
        let stream = match kinesis.stream("s") {
            Ok(stream) => stream,
            Err(_) => kinesis.create_stream("s", 2).await.map_err(|error| format!("{error:?}"))?,
        };
        Ok((kinesis, stream))
    }

    /// One life: what was before is verified, something happens, and power goes. Answers what was acknowledged.
    async fn live(&mut self) -> Result<(), Violation> {
        let (kinesis, stream) = self.open().await?;
        verify(&stream, &mut self.expected).await?;
        let steps = self.random.random_range(3..15);
        for _ in 0..steps {
            self.step(&kinesis, &stream).await?;
        }
        // Some are on their way when it happens.
        let mut under_way = Vec::new();
        for _ in 0..self.random.random_range(0..4) {
            let numbers = self.expected.numbers(3);
            let put = stream.put_batch(PutBatch::new(numbers.iter().copied().map(record).collect()));
            let mut put = Box::pin(put);
            for _ in 0..self.random.random_range(0..6) {
                if let std::task::Poll::Ready(Ok(output)) = futures::poll!(put.as_mut()) {
                    self.acknowledge(&numbers, &output.records);
                    break;
                }
                tokio::task::yield_now().await;
            }
            self.expected.unknown.push(numbers);
            under_way.push(put);
        }
        // What still runs of this life goes on with a disk that nobody sees any more.
        self.disk = self.disk.fork();
        self.disk.crash();
        drop(under_way);
        drop((kinesis, stream));
        // What was acknowledged after all is no longer unknown.
        let acknowledged = &self.expected.acknowledged;
        self.expected.unknown.retain(|batch| !batch.iter().any(|number| acknowledged.contains_key(number)));
        Ok(())
    }

    fn acknowledge(&mut self, numbers: &[u64], outcomes: &[PutOutcome]) {
        for (number, outcome) in numbers.iter().zip(outcomes) {
            if let Some(stored) = outcome.stored() {
                self.expected.acknowledged.insert(*number, (stored.shard_id, stored.sequence_number));
            }
        }
    }

    async fn step(&mut self, kinesis: &Kinesis, stream: &DataStream) -> Result<(), Violation> {
        let failed = |error: kinesis_core::Error| format!("{error:?}");
        self.clock.advance(Duration::from_millis(self.random.random_range(0..2000)));
        match self.random.random_range(0..12) {
            0 => kinesis.seal().await.map_err(failed)?,
            1 => {
                let open = stream.list_shards_with(ShardFilter::AtLatest).map_err(failed)?;
                let shard = &open[self.random.random_range(0..open.len())];
                let range = shard.hash_key_range;
                if open.len() < 6 {
                    let middle = range.starting.0 + (range.ending.0 - range.starting.0) / 2;
                    stream.split_shard(shard.id, HashKey(middle)).await.map_err(failed)?;
                } else {
                    let next = HashKey(range.ending.0.wrapping_add(1));
                    if let Some(other) = open.iter().find(|other| other.hash_key_range.starting == next && next.0 != 0)
                    {
                        stream.merge_shards(shard.id, other.id).await.map_err(failed)?;
                    }
                }
            }
            2 | 3 => {
                // Positions that are there, and records with them, in one step.
                let places: Vec<_> = self.expected.acknowledged.values().copied().collect();
                if let Some((shard, number)) = places.get(self.random.random_range(0..places.len().max(1))) {
                    let mut positions = self.expected.positions.first().cloned().unwrap_or_default();
                    positions.insert(*shard, *number);
                    let numbers = self.expected.numbers(2);
                    let batch = PutBatch::new(numbers.iter().copied().map(record).collect());
                    let transaction = kinesis.transaction().put(stream, batch);
                    let change = BTreeMap::from([(*shard, *number)]);
                    let output = transaction.commit(stream, "c", change, None).execute().await.map_err(failed)?;
                    self.acknowledge(&numbers, &output[0].records);
                    self.expected.positions = vec![positions];
                }
            }
            4 => {
                let wall = durable_core::Clock::now(&self.clock);
                let hours = self.random.random_range(-3600..3600);
                self.clock.set_wall(wall + chrono::Duration::seconds(hours));
            }
            _ => {
                let count = self.random.random_range(1..30);
                let numbers = self.expected.numbers(count);
                let records = numbers.iter().copied().map(record).collect();
                let output = stream.put_records(records).await.map_err(failed)?;
                self.acknowledge(&numbers, &output.records);
            }
        }
        Ok(())
    }
}

/// Answers how many records were acknowledged.
fn check(seed: u64, sabotage: Option<Sabotage>) -> Result<usize, Violation> {
    // Each life has its own, with which all of its tasks end.
    let runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())
    };
    let mut run = Run::new(seed, sabotage);
    for _ in 0..LIVES {
        runtime()?.block_on(run.live())?;
    }
    runtime()?.block_on(async {
        let (kinesis, stream) = run.open().await?;
        verify(&stream, &mut run.expected).await?;
        kinesis.close().await.map_err(|error| format!("{error:?}"))?;
        Ok(run.expected.acknowledged.len())
    })
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_there_in_part() {
    let acknowledged = check_all(0..300, |seed| check(seed, None));
    assert!(acknowledged.iter().sum::<usize>() >= acknowledged.len() * 100);
}

#[test]
fn a_disk_that_does_not_sync_is_caught() {
    let caught = share_caught(0..60, |seed| check(seed, Some(Sabotage::NoFileSync)));
    assert!(caught >= 0.95, "{caught}");
}
