//! Power goes at any moment, with what was not synced: every acknowledged record is there afterwards, byte by byte; what
//! was not acknowledged is there whole or not at all; numbers only rise; a consumer stands where it committed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::object_store::ObjectStore;
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{DataStream, HashKey, Kinesis, PutBatch, ShardFilter};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::disk::{Sabotage, Sabotaged, SimDisk};
use testkit::seeds::{Violation, check_all, share_caught};

use super::auditor::{Expected, verify};
use super::stage::{block_on, on_disk, record, stream_of};

const LIVES: u32 = 5;

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
        let opened = on_disk(self.store.clone(), disk, 256 << 10, &self.clock).open().await;
        let kinesis = opened.map_err(|error| format!("it does not open: {error:?}"))?;
        let stream = stream_of(&kinesis, 2).await.map_err(|error| format!("{error:?}"))?;
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
                    self.expected.acknowledge(&numbers, &output.records);
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
                    self.expected.acknowledge(&numbers, &output[0].records);
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
                self.expected.acknowledge(&numbers, &output.records);
            }
        }
        Ok(())
    }
}

/// Answers how many records were acknowledged.
fn check(seed: u64, sabotage: Option<Sabotage>) -> Result<usize, Violation> {
    let mut run = Run::new(seed, sabotage);
    // Each life has a runtime of its own, with which all of its tasks end.
    for _ in 0..LIVES {
        block_on(run.live())?;
    }
    block_on(async {
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
