//! Workers share a stream's shards: every record is processed, parents before children, and no lease is held twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_core::{Clock, ManualClock};
use kinesis_core::object_store::{ObjectStore, memory::InMemory, path::Path};
use kinesis_core::worker::{
    Checkpoint, Checkpointer, InitialPosition, ProcessRecords, ProcessorError, RecordProcessor, Worker, WorkerBuilder,
};
use kinesis_core::{Aggregator, DataStream, ErrorKind, HashKey, IteratorType, Kinesis, PutRecord, ShardId};
use tokio::sync::Notify;

use super::stage::{number_of, put, record};

const LEASE: Duration = Duration::from_secs(10);

/// What happened to processors, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Begun(ShardId, Checkpoint),
    Record(ShardId, u64),
    Lost(ShardId),
    Ended(ShardId),
    Asked(ShardId),
}

/// What processors share with the test.
#[derive(Default)]
struct Told {
    events: Mutex<Vec<Event>>,
    /// Each is one call that fails, or panics.
    failures: Mutex<u32>,
    panics: Mutex<u32>,
    /// Whether processors checkpoint what they processed.
    lazy: bool,
    /// While set, calls wait for it.
    gate: Mutex<Option<Arc<Notify>>>,
    /// Errors of checkpoints.
    refused: Mutex<Vec<ErrorKind>>,
}

impl Told {
    fn tell(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    fn numbers(&self) -> Vec<u64> {
        let number = |event: &Event| if let Event::Record(_, number) = event { Some(*number) } else { None };
        self.events.lock().unwrap().iter().filter_map(number).collect()
    }
}

struct Teller {
    told: Arc<Told>,
    shard: ShardId,
}

impl RecordProcessor for Teller {
    async fn initialize(&mut self, shard: ShardId, from: Checkpoint) -> Result<(), ProcessorError> {
        assert_eq!(shard, self.shard);
        self.told.tell(Event::Begun(shard, from));
        Ok(())
    }

    async fn process_records(
        &mut self,
        input: ProcessRecords<'_>,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        let gate = self.told.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        {
            let mut failures = self.told.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err("not now".into());
            }
        }
        for user in input.records {
            self.told.tell(Event::Record(self.shard, number_of(&user.record)));
        }
        {
            let mut panics = self.told.panics.lock().unwrap();
            if *panics > 0 {
                *panics -= 1;
                drop(panics);
                panic!("a processor's own fault");
            }
        }
        if !self.told.lazy
            && let Err(error) = checkpointer.checkpoint().await
        {
            self.told.refused.lock().unwrap().push(error.kind());
            return Err(error.into());
        }
        Ok(())
    }

    async fn lease_lost(&mut self) {
        self.told.tell(Event::Lost(self.shard));
    }

    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        self.told.tell(Event::Ended(self.shard));
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(&mut self, _: &Checkpointer) -> Result<(), ProcessorError> {
        self.told.tell(Event::Asked(self.shard));
        Ok(())
    }
}

fn builder(
    stream: &DataStream,
    told: &Arc<Told>,
    id: &str,
) -> WorkerBuilder<impl Fn(ShardId) -> Teller + Send + Sync + use<>> {
    let told = told.clone();
    Worker::builder(stream.clone(), "app", move |shard| Teller { told: told.clone(), shard })
        .with_worker_id(id)
        .with_initial_position(InitialPosition::TrimHorizon)
        .with_lease_duration(LEASE)
}

async fn opened(clock: &ManualClock, shards: u32) -> (Kinesis, DataStream) {
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let stream = kinesis.create_stream("s", shards).await.unwrap();
    (kinesis, stream)
}

/// Lets time pass until `done`.
async fn until(clocks: &[&ManualClock], done: impl AsyncFn() -> bool) {
    while !done().await {
        clocks.iter().for_each(|clock| clock.advance(Duration::from_millis(500)));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}

/// Each of the first `count` numbers once, per shard in the order of the shard.
async fn check_once(stream: &DataStream, told: &Told, count: u64) {
    let mut numbers = told.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    let mut by_shard: BTreeMap<ShardId, Vec<u64>> = BTreeMap::new();
    for event in told.events() {
        if let Event::Record(shard, number) = event {
            by_shard.entry(shard).or_default().push(number);
        }
    }
    for (shard, found) in by_shard {
        let records = super::stage::read_shard(stream, shard).await.unwrap();
        assert_eq!(found, records.iter().map(number_of).collect::<Vec<_>>(), "{shard}");
    }
}

/// No shard begins before those it came from have ended.
fn check_parents_first(stream: &DataStream, told: &Told) {
    let events = told.events();
    for shard in stream.list_shards().unwrap() {
        let begun = events.iter().position(|event| matches!(event, Event::Begun(id, _) if *id == shard.id)).unwrap();
        for parent in shard.parent.iter().chain(&shard.adjacent_parent) {
            let ended = events.iter().position(|event| *event == Event::Ended(*parent)).unwrap();
            assert!(ended < begun, "{} began before {parent} had ended", shard.id);
        }
    }
}

#[tokio::test]
async fn through_splits_and_merges_every_record_comes_once() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 2).await;
    let told = Arc::new(Told::default());
    put(&stream, 0..100).await;
    let one = builder(&stream, &told, "one").with_records_max(7).start().await.unwrap();
    put(&stream, 100..200).await;
    until(&[&clock], async || told.numbers().len() >= 150).await;
    let two = builder(&stream, &told, "two").start().await.unwrap();
    stream.split_shard(ShardId::new(0), HashKey(1 << 126)).await.unwrap();
    put(&stream, 200..300).await;
    until(&[&clock], async || told.numbers().len() >= 250).await;
    stream.merge_shards(ShardId::new(3), ShardId::new(1)).await.unwrap();
    put(&stream, 300..400).await;
    stream.update_shard_count(4).await.unwrap();
    put(&stream, 400..500).await;
    until(&[&clock], async || told.numbers().len() >= 500).await;
    check_once(&stream, &told, 500).await;
    check_parents_first(&stream, &told);
    // Leases of done shards stay until the stream forgets the shards; then they go.
    until(&[&clock], async || {
        let leases = one.leases().await.unwrap();
        let open: Vec<_> = leases.iter().filter(|lease| lease.checkpoint != Checkpoint::ShardEnd).collect();
        open.len() == 4 && open.iter().all(|lease| lease.owner.is_some())
    })
    .await;
    clock.advance(Duration::from_secs(49 * 3600));
    kinesis.seal().await.unwrap();
    kinesis.seal().await.unwrap();
    let left = stream.list_shards().unwrap().len();
    until(&[&clock], async || one.leases().await.unwrap().len() == left).await;
    one.shutdown().await;
    two.shutdown().await;
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn leases_are_spread_evenly_and_handed_over_in_order() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 6).await;
    let told = Arc::new(Told::default());
    let mut workers = vec![builder(&stream, &told, "w0").start().await.unwrap()];
    let loads = async |workers: &[Worker]| {
        let leases = workers[0].leases().await.unwrap();
        let count = |worker: &Worker| leases.iter().filter(|lease| lease.owner.as_deref() == Some(worker.id())).count();
        workers.iter().map(count).collect::<Vec<_>>()
    };
    let mut numbers = 0..;
    for count in 1..=4_usize {
        if count > 1 {
            workers.push(builder(&stream, &told, &format!("w{}", count - 1)).start().await.unwrap());
        }
        let share = 6_usize.div_ceil(count);
        until(&[&clock], async || {
            let loads = loads(&workers).await;
            loads.iter().sum::<usize>() == 6 && loads.iter().all(|load| (6 / count..=share).contains(load))
        })
        .await;
        put(&stream, numbers.by_ref().take(60)).await;
    }
    // One that stops gives back what it holds, and the others have it at once.
    workers.remove(1).shutdown().await;
    until(&[&clock], async || loads(&workers).await == [2, 2, 2]).await;
    put(&stream, numbers.by_ref().take(60)).await;
    until(&[&clock], async || told.numbers().len() >= 300).await;
    // Each handover let the processor finish and checkpoint: nothing came twice, and nothing was taken by force.
    check_once(&stream, &told, 300).await;
    assert!(!told.events().iter().any(|event| matches!(event, Event::Lost(_))));
    assert!(told.events().iter().filter(|event| matches!(event, Event::Asked(_))).count() >= 4);
    for worker in workers {
        worker.shutdown().await;
    }
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn the_leases_of_a_dead_worker_go_to_another_and_nothing_is_passed_over() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 3).await;
    let (told, lazy) = (Arc::new(Told::default()), Arc::new(Told { lazy: true, ..Told::default() }));
    put(&stream, 0..90).await;
    let dead = builder(&stream, &lazy, "dead").start().await.unwrap();
    until(&[&clock], async || lazy.numbers().len() == 90).await;
    let before = clock.monotonic();
    drop(dead);
    let heir = builder(&stream, &told, "heir").start().await.unwrap();
    put(&stream, 90..150).await;
    until(&[&clock], async || told.numbers().len() >= 150).await;
    assert!(clock.monotonic() - before >= LEASE, "no lease is taken before its owner was silent for so long");
    // Nothing was checkpointed, so all comes again.
    check_once(&stream, &told, 150).await;
    assert!(heir.leases().await.unwrap().iter().all(|lease| lease.epoch == 2));
    heir.shutdown().await;

    // Another one goes on where the last checkpoint is, under whatever name.
    put(&stream, 150..200).await;
    let later = builder(&stream, &told, "heir").start().await.unwrap();
    until(&[&clock], async || told.numbers().len() >= 200).await;
    check_once(&stream, &told, 200).await;
    later.shutdown().await;
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_was_paused_cannot_checkpoint_what_another_has() {
    let (clock, its_own) = (ManualClock::default(), ManualClock::default());
    let (kinesis, stream) = opened(&clock, 1).await;
    let gate = Arc::new(Notify::new());
    let held = Arc::new(Told { gate: Mutex::new(Some(gate.clone())), ..Told::default() });
    put(&stream, 0..10).await;
    // Its clock stands still while its processor is at work: to the others it is silent, to itself nothing has happened.
    let paused = builder(&stream, &held, "paused").with_clock(Arc::new(its_own.clone())).start().await.unwrap();
    until(&[], async || held.events().iter().any(|event| matches!(event, Event::Begun(..)))).await;
    let told = Arc::new(Told::default());
    let other = builder(&stream, &told, "other").start().await.unwrap();
    until(&[&clock], async || told.numbers().len() == 10).await;
    held.gate.lock().unwrap().take();
    gate.notify_one();
    until(&[&clock], async || held.events().contains(&Event::Lost(ShardId::new(0)))).await;
    assert_eq!(*held.refused.lock().unwrap(), [ErrorKind::Fenced]);
    let lease = other.leases().await.unwrap().remove(0);
    assert_eq!((lease.owner.as_deref(), lease.epoch), (Some("other"), 2));
    put(&stream, 10..20).await;
    until(&[&clock, &its_own], async || told.numbers().len() + held.numbers().len() >= 30).await;
    check_once(&stream, &told, 20).await;
    drop(paused);
    other.shutdown().await;
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn what_fails_or_panics_is_tried_again() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    let told = Arc::new(Told { failures: Mutex::new(5), ..Told::default() });
    put(&stream, 0..10).await;
    let worker = builder(&stream, &told, "w").start().await.unwrap();
    until(&[&clock], async || told.numbers().len() >= 10).await;
    check_once(&stream, &told, 10).await;
    *told.panics.lock().unwrap() = 2;
    put(&stream, 10..20).await;
    until(&[&clock], async || told.numbers().len() >= 40).await;
    // Two processors fell over the same records; the third one's checkpoint holds.
    let numbers = told.numbers();
    assert_eq!(numbers[10..], [(10..20).collect::<Vec<_>>(), (10..20).collect(), (10..20).collect()].concat());
    let begun: Vec<_> = told.events().into_iter().filter(|event| matches!(event, Event::Begun(..))).collect();
    assert_eq!(begun.len(), 3);
    assert_eq!(begun[1], begun[2]);
    worker.shutdown().await;
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn an_application_begins_where_it_is_told_and_leaves_no_gap_behind_it() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 2).await;
    put(&stream, 0..20).await;
    clock.advance(Duration::from_secs(60));
    let at = clock.now();
    put(&stream, 20..40).await;
    for (name, initial, expected) in [
        ("latest", InitialPosition::Latest, 40..60),
        ("timed", InitialPosition::AtTimestamp(at), 20..60),
        ("all", InitialPosition::TrimHorizon, 0..60),
    ] {
        // The first worker dies before anything is checkpointed: what came meanwhile is not lost.
        let lazy = Arc::new(Told { lazy: true, ..Told::default() });
        let told = Arc::new(Told::default());
        let make = |told: &Arc<Told>| {
            let told = told.clone();
            Worker::builder(stream.clone(), name, move |shard| Teller { told: told.clone(), shard })
                .with_initial_position(initial)
        };
        let first = make(&lazy).start().await.unwrap();
        until(&[&clock], async || {
            first.leases().await.unwrap().iter().filter(|lease| lease.owner.is_some()).count() == 2
        })
        .await;
        drop(first);
        if name == "latest" {
            put(&stream, 40..60).await;
        }
        let second = make(&told).start().await.unwrap();
        until(&[&clock], async || told.numbers().len() as u64 >= expected.end - expected.start).await;
        let mut numbers = told.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, expected.collect::<Vec<_>>(), "{name}");
        second.shutdown().await;
    }
    kinesis.close().await.unwrap();
}

/// Checkpoints in the middle of what it is given, and tries what it may not.
struct Picky {
    seen: Arc<Mutex<Vec<String>>>,
    stop_at: usize,
}

impl RecordProcessor for Picky {
    async fn process_records(
        &mut self,
        input: ProcessRecords<'_>,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        for user in input.records {
            self.seen.lock().unwrap().push(String::from_utf8(user.record.data.to_vec()).unwrap());
        }
        if input.records.len() > self.stop_at {
            checkpointer.checkpoint_at(&input.records[self.stop_at]).await?;
            let error = checkpointer.checkpoint_at(&input.records[0]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_checkpoint_within_an_aggregate_goes_on_within_it() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    let mut aggregator = Aggregator::new(&stream).unwrap();
    for number in 0..10 {
        aggregator.add(PutRecord::new(format!("{number}"), "k")).unwrap();
    }
    stream.put_record(aggregator.flush().remove(0)).await.unwrap();
    stream.put_record(PutRecord::new("last", "k")).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let start = |stop_at: usize| {
        let seen = seen.clone();
        Worker::builder(stream.clone(), "app", move |_| Picky { seen: seen.clone(), stop_at })
            .with_initial_position(InitialPosition::TrimHorizon)
            .start()
    };
    let first = start(3).await.unwrap();
    until(&[&clock], async || {
        matches!(first.leases().await.unwrap()[..], [ref lease] if matches!(lease.checkpoint, Checkpoint::After { sub_sequence_number: 3, .. }))
    })
    .await;
    first.shutdown().await;
    seen.lock().unwrap().clear();
    let second = start(usize::MAX).await.unwrap();
    until(&[&clock], async || seen.lock().unwrap().len() >= 7).await;
    assert_eq!(*seen.lock().unwrap(), ["4", "5", "6", "7", "8", "9", "last"]);
    second.shutdown().await;
    kinesis.close().await.unwrap();
}

/// Keeps its checkpointer and what it was given, for the test to use.
struct Keeper(Arc<Mutex<Vec<(Checkpointer, kinesis_core::UserRecord)>>>);

impl RecordProcessor for Keeper {
    async fn process_records(
        &mut self,
        input: ProcessRecords<'_>,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.0.lock().unwrap().extend(input.records.iter().map(|user| (checkpointer.clone(), user.clone())));
        Ok(())
    }
}

#[tokio::test]
async fn a_checkpoint_never_passes_what_was_given() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..5).await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let kept_by = kept.clone();
    let worker = Worker::builder(stream.clone(), "app", move |_| Keeper(kept_by.clone()))
        .with_initial_position(InitialPosition::TrimHorizon)
        .with_records_max(2)
        .start()
        .await
        .unwrap();
    until(&[&clock], async || kept.lock().unwrap().len() == 5).await;
    let (checkpointer, given) = kept.lock().unwrap()[4].clone();
    // A record that is in the shard and was not given yet.
    put(&stream, 5..6).await;
    let iterator = stream
        .shard_iterator(ShardId::new(0), IteratorType::AfterSequenceNumber(given.record.sequence_number))
        .await
        .unwrap();
    let next = stream.get_records(&iterator, 1).await.unwrap().records[0].user_records().remove(0);
    let error = checkpointer.checkpoint_at(&next).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("was not given to this processor yet"), "{error}");
    checkpointer.checkpoint_at(&given).await.unwrap();
    worker.shutdown().await;
    let error = checkpointer.checkpoint_at(&given).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    for (application, id) in [("", "w"), ("a/b", "w"), ("a", ""), ("a", &"x".repeat(257))] {
        let told = Arc::new(Told::default());
        let builder = Worker::builder(stream.clone(), application, move |shard| Teller { told: told.clone(), shard });
        assert_eq!(builder.with_worker_id(id).start().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    kinesis.close().await.unwrap();
    let told = Arc::new(Told::default());
    assert_eq!(builder(&stream, &told, "w").start().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// Workers come, crash and stop at random while records come and shards are split: all is processed, in order by key.
#[tokio::test]
async fn whatever_happens_to_workers_every_record_is_processed() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    for seed in testkit::seeds::seeds(1..13) {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = ManualClock::default();
        let (kinesis, stream) = opened(&clock, 3).await;
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let told = Arc::new(Told::default());
        let start = |id: u32| {
            builder(&stream, &told, &format!("w{id}")).with_lease_store(store.clone(), Path::from("leases")).start()
        };
        let mut workers = BTreeMap::from([(0, start(0).await.unwrap())]);
        let (mut next_id, mut next_number) = (1, 0);
        for _ in 0..40 {
            match random.random_range(0..8) {
                0 if workers.len() < 5 => {
                    workers.insert(next_id, start(next_id).await.unwrap());
                    next_id += 1;
                }
                1 if workers.len() > 1 => drop(workers.pop_first()),
                2 if workers.len() > 1 => {
                    if let Some((_, worker)) = workers.pop_last() {
                        worker.shutdown().await;
                    }
                }
                3 => {
                    let open = stream.list_shards_with(kinesis_core::ShardFilter::AtLatest).unwrap();
                    if open.len() < 8 {
                        let shard = &open[random.random_range(0..open.len())];
                        let range = shard.hash_key_range;
                        let middle = range.starting.0 + (range.ending.0 - range.starting.0) / 2;
                        stream.split_shard(shard.id, HashKey(middle)).await.unwrap();
                    }
                }
                4 => *told.failures.lock().unwrap() = 2,
                _ => {
                    put(&stream, next_number..next_number + 20).await;
                    next_number += 20;
                }
            }
            let clocks = [&clock];
            let turns = std::cell::Cell::new(random.random_range(0..20));
            until(&clocks, async || turns.replace(turns.get() - 1) <= 0).await;
        }
        let all: BTreeSet<u64> = (0..next_number).collect();
        until(&[&clock], async || told.numbers().into_iter().collect::<BTreeSet<_>>() == all).await;
        // The first time that each record of a key came, it came in the key's order.
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for number in told.numbers() {
            if seen.insert(number) {
                let before = last.insert(record(number).partition_key, number);
                assert!(before.is_none_or(|before| before < number), "seed {seed}: {before:?} and then {number}");
            }
        }
        for worker in workers.into_values() {
            worker.shutdown().await;
        }
        kinesis.close().await.unwrap();
    }
}
