//! Within a shard every sequence number is greater than those before, over restarts, whatever the clock does; and no clock that
//! jumps makes a record old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_core::{Clock, ManualClock};
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{Durability, PutBatch, SequenceNumber, ShardId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::disk::SimDisk;
use testkit::seeds::{Violation, check_all};

use super::stage::{block_on, on_disk, put, read_all, record, stream_of};

const HOUR: i64 = 3600;
const JUMPS: [i64; 5] = [0, HOUR, -HOUR, 30 * 24 * HOUR, -30 * 24 * HOUR];

#[derive(Default)]
struct Numbers {
    newest: BTreeMap<ShardId, SequenceNumber>,
    given: usize,
}

impl Numbers {
    /// Takes the next number of a shard, which must be greater than the last, as a number and as text.
    fn next(&mut self, shard: ShardId, number: SequenceNumber) -> Result<(), Violation> {
        self.given += 1;
        match self.newest.insert(shard, number) {
            Some(before) if before >= number || before.to_string() >= number.to_string() => {
                Err(format!("{shard} gave {number} after {before}"))
            }
            _ => Ok(()),
        }
    }
}

/// Answers how many numbers were given.
async fn check(seed: u64) -> Result<usize, Violation> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut disk, store, clock) = (SimDisk::new(seed), Arc::new(InMemory::new()), ManualClock::default());
    let start = clock.now();
    let mut numbers = Numbers::default();
    let mut durable: BTreeMap<ShardId, usize> = BTreeMap::new();
    // Age is told from the clock that an opening finds, so one that finds a jumped one may trim.
    let mut may_be_trimmed = false;
    for life in 0..4 {
        let jump = if random.random_bool(0.3) { JUMPS[random.random_range(0..5)] } else { 0 };
        clock.set_wall(start + chrono::Duration::seconds(jump));
        may_be_trimmed |= jump != 0;
        let opened = on_disk(store.clone(), Arc::new(disk.clone()), 64 << 10, &clock).open().await;
        let kinesis = opened.map_err(|error| error.to_string())?;
        let stream = stream_of(&kinesis, 3).await.map_err(|error| error.to_string())?;
        for batch in 0..6 {
            // A clock that stands still is one that does not advance here.
            clock.set_wall(start + chrono::Duration::seconds(JUMPS[random.random_range(0..5)]));
            clock.advance(Duration::from_millis(random.random_range(0..50)));
            for (shard, number) in put(&stream, (0..random.random_range(1..30)).map(|i| i + batch)).await {
                numbers.next(shard, number)?;
                *durable.entry(shard).or_default() += 1;
            }
        }
        if random.random_bool(0.5) {
            kinesis.seal().await.map_err(|error| error.to_string())?;
        }
        for (shard, records) in read_all(&stream).await.map_err(|error| error.to_string())? {
            if !records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number) {
                return Err(format!("{shard} is out of order in life {life}"));
            }
            let least = durable.get(&shard).copied().unwrap_or(0);
            if !may_be_trimmed && records.len() < least {
                return Err(format!("{shard} has {} of {least} records in life {life}", records.len()));
            }
        }
        // The last puts of a life may never become durable; their numbers are not given again all the same.
        let batch = PutBatch::new((0..20).map(record).collect()).with_durability(Durability::Memory);
        for outcome in stream.put_batch(batch).await.map_err(|error| error.to_string())?.records {
            let stored = outcome.stored().ok_or("a record was not stored")?;
            numbers.next(stored.shard_id, stored.sequence_number)?;
        }
        if random.random_bool(0.7) {
            kinesis.close().await.map_err(|error| error.to_string())?;
        } else {
            // Power goes; what still runs of this life goes on with a disk that nobody sees any more.
            disk = disk.fork();
            disk.crash();
            drop((kinesis, stream));
        }
    }
    Ok(numbers.given)
}

#[test]
fn over_restarts_and_clock_jumps() {
    let given = check_all(0..1000, |seed| block_on(check(seed)));
    assert!(given.iter().all(|given| *given > 100), "{given:?}");
}
