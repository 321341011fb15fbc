//! One instance at a time writes: once another has opened the same streams, nothing that the older one is asked for is
//! acknowledged any more, and what either acknowledged is there once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{DataStream, ErrorKind, Kinesis, PutBatch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::fault_store::{Effect, FaultStore, Operation, Rule};
use testkit::seeds::{Violation, check_all};
use tokio::task::JoinHandle;

use super::auditor::{Expected, verify};
use super::stage::{block_on, record, small_settings, stream_of, while_time_passes};

const INSTANCES: usize = 3;
const SEEDS: u64 = if cfg!(slow) { 2_000 } else { 500 };

/// Every request takes its time, so that those of two instances cross.
fn rules() -> Vec<Rule> {
    let all = [Operation::Put, Operation::Get, Operation::Head, Operation::List, Operation::Delete];
    vec![Rule::on(&all, Effect::Latency { min: Duration::ZERO, max: Duration::from_millis(200) }).with_probability(0.7)]
}

struct Run {
    store: FaultStore,
    clock: ManualClock,
    expected: Arc<Mutex<Expected>>,
    /// Counts openings and puts, so that one can be said to have begun after another had ended.
    time: Arc<AtomicU64>,
}

impl Run {
    async fn open(&self) -> Result<(Kinesis, DataStream), Violation> {
        let builder = Kinesis::on(Arc::new(self.store.clone()), "k").with_settings(small_settings());
        let builder = builder.with_clock(Arc::new(self.clock.clone())).adopt();
        let kinesis = builder.open().await.map_err(|error| format!("it does not open: {error:?}"))?;
        let stream = stream_of(&kinesis, 2).await.map_err(|error| format!("{error:?}"))?;
        Ok((kinesis, stream))
    }

    /// Puts until it is refused, and a few times more. Answers when the last put that was acknowledged had begun, and how many were not.
    fn writer(&self, stream: DataStream, seed: u64, stop: Arc<AtomicBool>) -> JoinHandle<Result<Written, Violation>> {
        let (expected, time) = (self.expected.clone(), self.time.clone());
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut written = Written { last_begun: 0, acknowledged: 0, refused: 0 };
            while written.refused < 3 && !stop.load(Ordering::SeqCst) {
                let numbers = expected.lock().unwrap().numbers(random.random_range(1..10));
                let begun = time.fetch_add(1, Ordering::SeqCst);
                let batch = PutBatch::new(numbers.iter().copied().map(record).collect());
                match stream.put_batch(batch).await {
                    Ok(output) => {
                        expected.lock().unwrap().acknowledge(&numbers, &output.records);
                        written.last_begun = begun;
                        written.acknowledged += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::Fenced => {
                        expected.lock().unwrap().unknown.push(numbers);
                        written.refused += 1;
                    }
                    Err(error) => return Err(format!("neither acknowledged nor fenced: {error:?}")),
                }
                tokio::task::yield_now().await;
            }
            Ok(written)
        })
    }
}

struct Written {
    last_begun: u64,
    acknowledged: u64,
    refused: u64,
}

/// Answers how many puts were acknowledged, and how many refused.
async fn check(seed: u64, clock: ManualClock) -> Result<(u64, u64), Violation> {
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), seed, Arc::new(clock.clone()), rules());
    let run = Run { store, clock, expected: Arc::default(), time: Arc::new(AtomicU64::new(1)) };
    let mut random = StdRng::seed_from_u64(seed);
    let stop = Arc::new(AtomicBool::new(false));
    let mut instances = Vec::new();
    for instance in 0..INSTANCES {
        let (kinesis, stream) = run.open().await?;
        // From here on nothing of those before is acknowledged.
        let opened = run.time.fetch_add(1, Ordering::SeqCst);
        let writer = run.writer(stream, seed * INSTANCES as u64 + instance as u64, stop.clone());
        instances.push((kinesis, opened, writer));
        for _ in 0..random.random_range(0..200) {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let opened: Vec<u64> = instances.iter().map(|(_, opened, _)| *opened).collect();
    let mut counts = (0, 0);
    for (at, (kinesis, _, writer)) in instances.into_iter().enumerate() {
        let written = writer.await.map_err(|error| error.to_string())??;
        if let Some(deposed) = opened.get(at + 1)
            && written.last_begun > *deposed
        {
            return Err(format!("instance {at} acknowledged a put that began after instance {} was open", at + 1));
        }
        counts = (counts.0 + written.acknowledged, counts.1 + written.refused);
        // The older ones cannot end cleanly, and the newest must.
        let closed = kinesis.close().await;
        if at + 1 == INSTANCES {
            closed.map_err(|error| format!("{error:?}"))?;
        }
    }
    let (kinesis, stream) = run.open().await?;
    let mut expected = std::mem::take(&mut *run.expected.lock().unwrap());
    verify(&stream, &mut expected).await?;
    kinesis.close().await.map_err(|error| format!("{error:?}"))?;
    Ok(counts)
}

#[test]
fn a_deposed_instance_acknowledges_nothing() {
    let done = check_all(0..SEEDS, |seed| {
        let clock = ManualClock::default();
        block_on(while_time_passes(&clock, check(seed, clock.clone())))
    });
    let (acknowledged, refused) = done.iter().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    assert!(acknowledged > done.len() as u64 && refused > done.len() as u64 / 2, "{acknowledged}, {refused}");
}
