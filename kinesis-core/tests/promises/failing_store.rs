//! A store that fails, throttles, resets, and applies what it says it did not: no acknowledged record is lost, none is doubled,
//! and once it works again everything does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{DataStream, ErrorKind, Kinesis, PutBatch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};
use testkit::seeds::{Violation, check_all};

use super::auditor::{Expected, verify};
use super::stage::{block_on, record, small_settings, while_time_passes};

const LIVES: u32 = 3;
const SEEDS: u64 = if cfg!(slow) { 500 } else { 200 };

/// How often an instance is opened while the store fails, at most.
const OPENINGS_MAX: u32 = 200;

/// Twice the rates of the harshest test known: 20% unavailable, 10% throttled, 30% reset, every other of them applied all the same.
fn rules() -> Vec<Rule> {
    let all = [Operation::Put, Operation::Get, Operation::Head, Operation::List, Operation::Delete];
    let puts = [Operation::Put];
    vec![
        Rule::on(&all, Effect::Fail(Failure::Unavailable)).with_probability(0.2),
        Rule::on(&all, Effect::Fail(Failure::Throttled)).with_probability(0.1),
        Rule::on(&all, Effect::Fail(Failure::Reset)).with_probability(0.15),
        Rule::on(&puts, Effect::ApplyThenFail(Failure::Reset)).with_probability(0.15),
        Rule::on(&puts, Effect::ApplyThenFail(Failure::Unavailable)).with_probability(0.1),
        Rule::on(&all, Effect::Latency { min: Duration::ZERO, max: Duration::from_secs(3) }).with_probability(0.35),
    ]
}

struct Run {
    store: FaultStore,
    clock: ManualClock,
    random: StdRng,
    expected: Expected,
}

impl Run {
    async fn open(&self) -> Result<(Kinesis, DataStream), Violation> {
        for _ in 0..OPENINGS_MAX {
            let builder = Kinesis::on(Arc::new(self.store.clone()), "k").with_settings(small_settings());
            let kinesis = match builder.with_clock(Arc::new(self.clock.clone())).adopt().open().await {
                Ok(kinesis) => kinesis,
                Err(error) if told(error.kind()) => continue,
                Err(error) => return Err(format!("it does not open: {error:?}")),
            };
            match kinesis.stream("s") {
                Ok(stream) => return Ok((kinesis, stream)),
                Err(_) => match kinesis.create_stream("s", 2).await {
                    Ok(stream) => return Ok((kinesis, stream)),
                    Err(error) if told(error.kind()) => {}
                    Err(error) => return Err(format!("{error:?}")),
                },
            }
        }
        Err(format!("it was not opened in {OPENINGS_MAX} attempts"))
    }

    /// Puts and seals until something fails for good, or for a while.
    async fn live(&mut self) -> Result<(), Violation> {
        let (kinesis, stream) = self.open().await?;
        for _ in 0..self.random.random_range(3..12) {
            let numbers = self.expected.numbers(self.random.random_range(1..20));
            let put = stream.put_batch(PutBatch::new(numbers.iter().copied().map(record).collect())).await;
            match put {
                Ok(output) => self.expected.acknowledge(&numbers, &output.records),
                Err(error) if told(error.kind()) => {
                    self.expected.unknown.push(numbers);
                    // Refused before the journal saw it, a put changes nothing.
                    if error.message().starts_with("memory is full") {
                        continue;
                    }
                    // Nobody knows whether it happened, and nothing is acknowledged until the instance is opened anew.
                    let next = self.expected.numbers(1);
                    if stream.put_record(record(next[0])).await.is_ok() {
                        return Err(format!("a put was acknowledged behind one that failed: {error:?}"));
                    }
                    break;
                }
                Err(error) => return Err(format!("{error:?}")),
            }
            if self.random.random_bool(0.2)
                && let Err(error) = kinesis.seal().await
                && !told(error.kind())
            {
                return Err(format!("{error:?}"));
            }
        }
        if self.random.random_bool(0.5) {
            let _ = kinesis.close().await;
        }
        Ok(())
    }
}

fn told(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Fenced | ErrorKind::Closed)
}

/// Answers how often each fault fired, and how many records were acknowledged.
async fn check(seed: u64, clock: ManualClock) -> Result<(Vec<u64>, usize), Violation> {
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), seed, Arc::new(clock.clone()), rules());
    let mut run = Run { store, clock, random: StdRng::seed_from_u64(seed), expected: Expected::default() };
    for _ in 0..LIVES {
        run.live().await?;
    }
    run.store.heal();
    let (kinesis, stream) = run.open().await?;
    verify(&stream, &mut run.expected).await?;
    // It goes on as if nothing had been.
    let numbers = run.expected.numbers(10);
    let failed = |error: kinesis_core::Error| format!("after the faults: {error:?}");
    let output = stream.put_records(numbers.iter().copied().map(record).collect()).await.map_err(failed)?;
    run.expected.acknowledge(&numbers, &output.records);
    kinesis.seal().await.map_err(failed)?;
    stream.commit("c", BTreeMap::new(), None).await.map_err(failed)?;
    verify(&stream, &mut run.expected).await?;
    kinesis.close().await.map_err(failed)?;
    Ok((run.store.fired(), run.expected.acknowledged.len()))
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let done = check_all(0..SEEDS, |seed| {
        let clock = ManualClock::default();
        block_on(while_time_passes(&clock, check(seed, clock.clone())))
    });
    for rule in 0..rules().len() {
        let fired: u64 = done.iter().map(|(fired, _)| fired[rule]).sum();
        assert!(fired > 0, "{:?} never fired", rules()[rule]);
    }
    assert!(done.iter().map(|(_, acknowledged)| acknowledged).sum::<usize>() > done.len() * 10);
}
