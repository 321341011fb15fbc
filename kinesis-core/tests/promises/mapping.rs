//! A function is called with every record, in order, until it is done or handed to who looks after failures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_core::ManualClock;
use futures::TryStreamExt;
use kinesis_core::mapping::{
    Condition, EventSourceMapping, FailedBatch, Filter, Function, KinesisEvent, MappingBuilder, OnFailure, Response,
    StartingPosition, TumblingWindow,
};
use kinesis_core::object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use kinesis_core::{DataStream, ErrorKind, HashKey, IteratorType, Kinesis, PutRecord, Record, ShardId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{number_of, put, record};

async fn opened(clock: &ManualClock, shards: u32) -> (Kinesis, DataStream) {
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let stream = kinesis.create_stream("s", shards).await.unwrap();
    (kinesis, stream)
}

/// Lets time pass until `done`.
async fn until(clock: &ManualClock, done: impl AsyncFn() -> bool) {
    while !done().await {
        clock.advance(Duration::from_millis(200));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

type Calls = Arc<Mutex<Vec<KinesisEvent>>>;

/// A function that notes its calls and answers as it is told.
fn noting(
    calls: &Calls,
    answer: impl Fn(&KinesisEvent) -> Result<Response, String> + Send + Sync + 'static,
) -> impl Function {
    let calls = calls.clone();
    move |event: KinesisEvent| {
        let answered = answer(&event);
        calls.lock().unwrap().push(event);
        async move { Ok(answered?) }
    }
}

fn from_oldest<F: Function>(stream: &DataStream, function: F) -> MappingBuilder<F> {
    EventSourceMapping::builder(stream.clone(), "app", function).with_starting_position(StartingPosition::TrimHorizon)
}

fn numbers(calls: &Calls) -> Vec<Vec<u64>> {
    calls.lock().unwrap().iter().map(|event| event.records.iter().map(number_of).collect()).collect()
}

/// The position that is committed for a shard.
fn position(stream: &DataStream, shard: u32) -> Option<kinesis_core::SequenceNumber> {
    stream.consumer("app").unwrap()?.positions.get(&ShardId::new(shard)).copied()
}

#[tokio::test]
async fn batches_have_the_size_and_the_time_they_are_given() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..25).await;
    let calls = Calls::default();
    let mapping =
        from_oldest(&stream, noting(&calls, |_| Ok(Response::success()))).with_batch_size(10).start().await.unwrap();
    until(&clock, async || numbers(&calls).concat().len() == 25).await;
    assert_eq!(numbers(&calls), [(0..10).collect::<Vec<_>>(), (10..20).collect(), (20..25).collect()]);
    mapping.shutdown().await;

    // With a window a batch that is not full waits for it, and goes on behind what was committed.
    calls.lock().unwrap().clear();
    let mapping = from_oldest(&stream, noting(&calls, |_| Ok(Response::success())))
        .with_batch_size(10)
        .with_batching_window(Duration::from_secs(60))
        .start()
        .await
        .unwrap();
    put(&stream, 25..28).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(calls.lock().unwrap().is_empty());
    put(&stream, 28..32).await;
    until(&clock, async || numbers(&calls).concat().len() == 7).await;
    assert_eq!(numbers(&calls), [(25..32).collect::<Vec<_>>()]);
    put(&stream, 32..43).await;
    until(&clock, async || numbers(&calls).concat().len() >= 17).await;
    assert_eq!(numbers(&calls)[1], (32..42).collect::<Vec<_>>());
    mapping.shutdown().await;
    // A call's input has 6 MiB as JSON at most.
    calls.lock().unwrap().clear();
    let large = kinesis.create_stream("large", 1).await.unwrap();
    for _ in 0..12 {
        large.put_record(PutRecord::new(vec![7; (1 << 20) - 1], "k")).await.unwrap();
    }
    let mapping = from_oldest(&large, noting(&calls, |_| Ok(Response::success()))).start().await.unwrap();
    until(&clock, async || calls.lock().unwrap().iter().map(|event| event.records.len()).sum::<usize>() == 12).await;
    assert!(calls.lock().unwrap().iter().all(|event| event.records.len() <= 4));
    mapping.shutdown().await;
    kinesis.close().await.unwrap();
}

/// Fails for batches that have this record.
fn poisoned(poison: u64) -> impl Fn(&KinesisEvent) -> Result<Response, String> {
    move |event| match event.records.iter().any(|record| number_of(record) == poison) {
        true => Err(format!("{poison} is poison")),
        false => Ok(Response::success()),
    }
}

type Failed = Arc<Mutex<Vec<FailedBatch>>>;

fn catching(failed: &Failed) -> OnFailure {
    let failed = failed.clone();
    OnFailure::function(move |batch| {
        failed.lock().unwrap().push(batch);
        async { Ok(()) }
    })
}

#[tokio::test]
async fn a_batch_that_fails_comes_again_until_it_is_given_up() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..8).await;
    let (calls, failed) = (Calls::default(), Failed::default());
    let mapping = from_oldest(&stream, noting(&calls, poisoned(2)))
        .with_batch_size(4)
        .with_maximum_retries(2)
        .with_on_failure(catching(&failed))
        .start()
        .await
        .unwrap();
    until(&clock, async || numbers(&calls).len() == 4).await;
    mapping.shutdown().await;
    assert_eq!(numbers(&calls), [vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    let failed = failed.lock().unwrap().clone();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].condition, failed[0].approximate_invoke_count), (Condition::RetryAttemptsExhausted, 3));
    let json = failed[0].to_json(true);
    assert_eq!(json["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(json["KinesisBatchInfo"]["batchSize"], 4);
    assert_eq!(json["KinesisBatchInfo"]["startSequenceNumber"], failed[0].records[0].sequence_number.to_string());
    let payload: serde_json::Value = serde_json::from_str(json["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["Records"][3]["kinesis"]["partitionKey"], "key-3");
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn halving_finds_the_one_that_fails() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..16).await;
    let (calls, failed) = (Calls::default(), Failed::default());
    let mapping = from_oldest(&stream, noting(&calls, poisoned(5)))
        .with_batch_size(16)
        .with_bisect_on_error(true)
        .with_maximum_retries(1)
        .with_on_failure(catching(&failed))
        .start()
        .await
        .unwrap();
    until(&clock, async || failed.lock().unwrap().len() == 1 && position(&stream, 0).is_some()).await;
    let all = super::stage::read_shard(&stream, ShardId::new(0)).await.unwrap();
    until(&clock, async || position(&stream, 0) == Some(all[15].sequence_number)).await;
    mapping.shutdown().await;
    let lost: Vec<u64> = failed.lock().unwrap()[0].records.iter().map(number_of).collect();
    assert_eq!(lost, [5]);
    let found = numbers(&calls);
    assert_eq!(found[..4], [(0..16).collect::<Vec<_>>(), (0..8).collect(), (0..4).collect(), (4..8).collect()]);
    assert_eq!(found.iter().filter(|batch| **batch == [5]).count(), 2, "the first call and one retry: {found:?}");
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_function_says_from_which_record_on_it_failed() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..10).await;
    let calls = Calls::default();
    // Takes three records of each call.
    let three = |event: &KinesisEvent| {
        Ok(event.records.get(3).map_or_else(Response::success, |record| {
            let last = event.records.last().unwrap();
            Response::success().with_failure(last.sequence_number).with_failure(record.sequence_number)
        }))
    };
    let mapping = from_oldest(&stream, noting(&calls, three)).report_batch_item_failures().start().await.unwrap();
    let all = super::stage::read_shard(&stream, ShardId::new(0)).await.unwrap();
    until(&clock, async || position(&stream, 0) == Some(all[2].sequence_number) || numbers(&calls).len() > 1).await;
    until(&clock, async || position(&stream, 0) == Some(all[9].sequence_number)).await;
    mapping.shutdown().await;
    assert_eq!(numbers(&calls), [(0..10).collect::<Vec<_>>(), (3..10).collect(), (6..10).collect(), vec![9]]);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn records_that_are_too_old_are_given_up_uncalled() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..5).await;
    clock.advance(Duration::from_secs(120));
    put(&stream, 5..9).await;
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let dead = kinesis.create_stream("dead-letters", 1).await.unwrap();
    for (name, destination) in [
        ("to-store", OnFailure::store(store.clone(), Path::from("failed"))),
        ("to-stream", OnFailure::stream(dead.clone())),
    ] {
        let calls = Calls::default();
        let mapping = EventSourceMapping::builder(stream.clone(), name, noting(&calls, |_| Ok(Response::success())))
            .with_starting_position(StartingPosition::TrimHorizon)
            .with_maximum_record_age(Duration::from_secs(60))
            .with_on_failure(destination)
            .start()
            .await
            .unwrap();
        until(&clock, async || !numbers(&calls).is_empty()).await;
        mapping.shutdown().await;
        assert_eq!(numbers(&calls), [vec![5, 6, 7, 8]]);
    }
    let objects: Vec<_> = store.list(Some(&Path::from("failed/aws/lambda/to-store"))).try_collect().await.unwrap();
    assert_eq!(objects.len(), 1);
    let object = store.get(&objects[0].location).await.unwrap().bytes().await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&object).unwrap();
    assert_eq!(json["requestContext"]["condition"], "RecordAgeExceeded");
    assert!(json["payload"].as_str().unwrap().contains("key-4"));
    let letters = super::stage::read_shard(&dead, ShardId::new(0)).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&letters[0].data).unwrap();
    assert_eq!(json["KinesisBatchInfo"]["batchSize"], 5);
    assert!(json.get("payload").is_none());
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn what_filters_leave_out_counts_as_done() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    for number in 0..20 {
        stream.put_record(PutRecord::new(format!(r#"{{"n": {number}}}"#), "k")).await.unwrap();
    }
    let last = stream.put_record(PutRecord::new("no JSON", "k")).await.unwrap().sequence_number;
    let calls = Calls::default();
    let filters = [r#"{"data": {"n": [{"numeric": [">=", 5, "<", 8]}]}}"#, r#"{"data": {"n": [12]}}"#];
    let mapping = from_oldest(&stream, noting(&calls, |_| Ok(Response::success())))
        .with_filters(filters.map(|filter| Filter::new(filter).unwrap()))
        .start()
        .await
        .unwrap();
    until(&clock, async || position(&stream, 0) == Some(last)).await;
    mapping.shutdown().await;
    let found: Vec<_> =
        calls.lock().unwrap().iter().flat_map(|event| event.records.clone()).map(|record| record.data).collect();
    assert_eq!(found, [r#"{"n": 5}"#, r#"{"n": 6}"#, r#"{"n": 7}"#, r#"{"n": 12}"#]);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn windows_tumble_and_carry_their_state() {
    let clock = ManualClock::default();
    clock.set_wall("2026-01-01T00:00:05Z".parse().unwrap());
    let (kinesis, stream) = opened(&clock, 1).await;
    let calls = Calls::default();
    // Sums what it saw in the window; the state is the sum so far.
    let summing = |event: &KinesisEvent| {
        let window = event.window.clone().unwrap();
        let before: u64 = std::str::from_utf8(&window.state).unwrap().parse().unwrap_or(0);
        let sum = before + event.records.iter().map(number_of).sum::<u64>();
        Ok(Response::success().with_state(sum.to_string()))
    };
    let start = || {
        from_oldest(&stream, noting(&calls, summing))
            .with_batch_size(3)
            .with_tumbling_window(Duration::from_secs(60))
            .start()
    };
    let mapping = start().await.unwrap();
    put(&stream, 1..8).await;
    until(&clock, async || calls.lock().unwrap().len() == 3).await;
    // Behind a restart the window goes on with its state.
    mapping.shutdown().await;
    let mapping = start().await.unwrap();
    put(&stream, 8..11).await;
    until(&clock, async || calls.lock().unwrap().len() == 4).await;
    // A record of a later window ends it; the time alone ends the next.
    clock.set_wall("2026-01-01T00:03:10Z".parse().unwrap());
    put(&stream, 100..102).await;
    until(&clock, async || calls.lock().unwrap().iter().filter(|event| window(event).is_final_invoke).count() == 2)
        .await;
    mapping.shutdown().await;
    let told: Vec<_> = calls
        .lock()
        .unwrap()
        .iter()
        .map(|event| {
            let window = window(event);
            let state = String::from_utf8(window.state.to_vec()).unwrap();
            (window.start.to_rfc3339(), event.records.len(), state, window.is_final_invoke)
        })
        .collect();
    let first = "2026-01-01T00:00:00+00:00".to_owned();
    let later = "2026-01-01T00:03:00+00:00".to_owned();
    let row =
        |start: &String, count: usize, state: &str, is_final: bool| (start.clone(), count, state.to_owned(), is_final);
    assert_eq!(
        told,
        [
            row(&first, 3, "", false),
            row(&first, 3, "6", false),
            row(&first, 1, "21", false),
            row(&first, 3, "28", false),
            row(&first, 0, "55", true),
            row(&later, 2, "", false),
            row(&later, 0, "201", true),
        ]
    );
    kinesis.close().await.unwrap();
}

fn window(event: &KinesisEvent) -> TumblingWindow {
    event.window.clone().unwrap()
}

#[tokio::test]
async fn a_state_that_grows_too_large_ends_its_window_early() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 1).await;
    put(&stream, 0..4).await;
    let calls = Calls::default();
    let growing = |event: &KinesisEvent| {
        let window = event.window.clone().unwrap();
        Ok(Response::success().with_state([window.state.to_vec(), vec![7; 600_000]].concat()))
    };
    let mapping = from_oldest(&stream, noting(&calls, growing))
        .with_batch_size(1)
        .with_tumbling_window(Duration::from_secs(900))
        .start()
        .await
        .unwrap();
    until(&clock, async || numbers(&calls).concat().len() == 4 && numbers(&calls).len() == 6).await;
    mapping.shutdown().await;
    let early: Vec<bool> = calls.lock().unwrap().iter().map(|event| window(event).is_terminated_early).collect();
    assert_eq!(early, [false, false, true, false, false, true]);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_mapping_begins_where_it_is_told_and_refuses_what_it_cannot_be() {
    let clock = ManualClock::default();
    let (kinesis, stream) = opened(&clock, 2).await;
    put(&stream, 0..10).await;
    let calls = Calls::default();
    let latest = || EventSourceMapping::builder(stream.clone(), "late", noting(&calls, |_| Err("not yet".to_owned())));
    // It stops before any batch is done: what came since it was first started is not lost.
    let mapping = latest().start().await.unwrap();
    put(&stream, 10..20).await;
    until(&clock, async || !numbers(&calls).is_empty()).await;
    drop(mapping);
    put(&stream, 20..30).await;
    calls.lock().unwrap().clear();
    let mapping = EventSourceMapping::builder(stream.clone(), "late", noting(&calls, |_| Ok(Response::success())))
        .start()
        .await
        .unwrap();
    until(&clock, async || numbers(&calls).concat().len() >= 20).await;
    mapping.shutdown().await;
    let mut found = numbers(&calls).concat();
    found.sort_unstable();
    assert_eq!(found, (10..30).collect::<Vec<_>>());

    let none = || from_oldest(&stream, noting(&calls, |_| Ok(Response::success())));
    let secs = Duration::from_secs;
    for (builder, told) in [
        (none().with_batch_size(0), "batch size"),
        (none().with_batch_size(10_001), "1 to 10,000"),
        (none().with_batching_window(secs(301)), "5 minutes"),
        (none().with_parallelization_factor(11), "1 to 10"),
        (none().with_maximum_retries(10_001), "10,000"),
        (none().with_maximum_record_age(secs(59)), "a minute to 7 days"),
        (none().with_tumbling_window(secs(901)), "15 minutes"),
        (none().with_tumbling_window(secs(10)).with_parallelization_factor(2), "one state"),
        (none().with_filters(vec![Filter::new(r#"{"data": ["x"]}"#).unwrap(); 11]), "at most 10"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(told), "{error}");
    }
    kinesis.close().await.unwrap();
    assert_eq!(none().start().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// Whatever fails, panics, stops or is split: every record was processed or handed over, each key's in order, and what is
/// committed was.
#[tokio::test]
async fn no_record_is_passed_over_whatever_happens() {
    for seed in testkit::seeds::seeds(1..13) {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = ManualClock::default();
        let (kinesis, stream) = opened(&clock, 2).await;
        let done: Arc<Mutex<Vec<Record>>> = Arc::default();
        let failed = Failed::default();
        // What was processed or given up, in the order in which that was.
        let order: Arc<Mutex<Vec<u64>>> = Arc::default();
        let mut next_number = 0;
        for life in 0..4 {
            let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(seed * 100 + life)));
            let (processed, ordered) = (done.clone(), order.clone());
            let function = move |event: KinesisEvent| {
                let roll = dice.lock().unwrap().random_range(0..20);
                let (processed, ordered) = (processed.clone(), ordered.clone());
                async move {
                    let poison = |record: &Record| number_of(record) % 37 == 5;
                    match roll {
                        0 => panic!("a function's own fault"),
                        1..=3 => Err("not now".into()),
                        _ => {
                            let good = event.records.iter().take_while(|record| !poison(record));
                            let good: Vec<Record> = good.cloned().collect();
                            let bad = event.records.get(good.len()).map(|record| record.sequence_number);
                            ordered.lock().unwrap().extend(good.iter().map(number_of));
                            processed.lock().unwrap().extend(good);
                            Ok(bad.map_or_else(Response::success, |bad| Response::success().with_failure(bad)))
                        }
                    }
                }
            };
            let mapping = from_oldest(&stream, function)
                .with_batch_size(random.random_range(1..20))
                .with_parallelization_factor(random.random_range(1..5))
                .with_bisect_on_error(random.random_range(0..2) == 0)
                .with_maximum_retries(3)
                .report_batch_item_failures()
                .with_on_failure({
                    let (failed, ordered) = (failed.clone(), order.clone());
                    OnFailure::function(move |batch: FailedBatch| {
                        ordered.lock().unwrap().extend(batch.records.iter().map(number_of));
                        failed.lock().unwrap().push(batch);
                        async { Ok(()) }
                    })
                })
                .start()
                .await
                .unwrap();
            for _ in 0..6 {
                put(&stream, next_number..next_number + 25).await;
                next_number += 25;
                if random.random_range(0..4) == 0 {
                    let open = stream.list_shards_with(kinesis_core::ShardFilter::AtLatest).unwrap();
                    let range = open[0].hash_key_range;
                    let middle = range.starting.0 + (range.ending.0 - range.starting.0) / 2;
                    stream.split_shard(open[0].id, HashKey(middle)).await.unwrap();
                }
                let turns = std::cell::Cell::new(random.random_range(0..10));
                until(&clock, async || turns.replace(turns.get() - 1) <= 0).await;
            }
            match life {
                0 | 2 => mapping.shutdown().await,
                1 => drop(mapping),
                _ => {
                    let accounted = || {
                        let mut all: BTreeSet<u64> = done.lock().unwrap().iter().map(number_of).collect();
                        all.extend(failed.lock().unwrap().iter().flat_map(|batch| &batch.records).map(number_of));
                        all
                    };
                    let all: BTreeSet<u64> = (0..next_number).collect();
                    until(&clock, async || accounted() == all).await;
                    mapping.shutdown().await;
                }
            }
            // What is committed was processed or handed over.
            let mut accounted: BTreeSet<_> = done.lock().unwrap().iter().map(|record| record.sequence_number).collect();
            accounted.extend(
                failed.lock().unwrap().iter().flat_map(|batch| &batch.records).map(|record| record.sequence_number),
            );
            for (shard, position) in stream.consumer("app").unwrap().unwrap_or_default().positions {
                let mut iterator = Some(stream.shard_iterator(shard, IteratorType::TrimHorizon).await.unwrap());
                while let Some(from) = iterator {
                    let output = stream.get_records(&from, 1000).await.unwrap();
                    let committed = output.records.iter().filter(|record| record.sequence_number <= position);
                    for record in committed {
                        assert!(accounted.contains(&record.sequence_number), "seed {seed}: {}", number_of(record));
                    }
                    iterator = output.next_iterator.filter(|_| !output.records.is_empty());
                }
            }
        }
        let mut seen = BTreeSet::new();
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for number in order.lock().unwrap().iter().copied() {
            if seen.insert(number) {
                let before = last.insert(record(number).partition_key, number);
                assert!(before.is_none_or(|before| before < number), "seed {seed}: {before:?} and then {number}");
            }
        }
        kinesis.close().await.unwrap();
    }
}
