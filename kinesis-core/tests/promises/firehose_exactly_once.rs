//! Each record is in exactly one delivered object, wherever the work was cut off and whatever the store did.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use futures::FutureExt;
use kinesis_core::firehose::{
    Deaggregation, DeliveryEvent, DeliverySettings, DeliveryStream, Transform, TransformOutcome, TransformRecord,
    TransformResult,
};
use kinesis_core::{DataStream, Error, ErrorKind, Kinesis, PutRecord};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};
use testkit::seeds::{check_all, share_caught};

use super::firehose_rig::{Heard, by_day, clock, compare, delivered, flight, put_flights, rejected, until};
use super::stage::{block_on, reopen, while_time_passes};

/// What one life of a delivery stream ends with.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Puts(u64),
    Reads(u64),
    Yields(u32),
}

impl Cut {
    fn random(rng: &mut StdRng) -> Self {
        match rng.random_range(0..3) {
            0 => Self::Puts(rng.random_range(1..12)),
            1 => Self::Reads(rng.random_range(1..400)),
            _ => Self::Yields(rng.random_range(0..300)),
        }
    }

    /// Lets the delivery stream work until it is to be cut off, or has nothing left to do.
    async fn reached(self, clock: &ManualClock, delivery: &DeliveryStream, store: &FaultStore) {
        let puts = store.calls(Operation::Put);
        let reached = async {
            match self {
                Self::Puts(more) => until(|| store.calls(Operation::Put) >= puts + more).await,
                Self::Reads(records) => until(|| delivery.metrics().read_records >= records).await,
                Self::Yields(times) => {
                    for _ in 0..times {
                        tokio::task::yield_now().await;
                    }
                }
            }
        };
        let done = async {
            // A store that fails for good ends it too.
            let _ = delivery.flush().await;
        };
        while_time_passes(clock, async {
            tokio::select! {
                () = reached => {}
                () = done => {}
            }
        })
        .await;
    }
}

/// What is done to the promise on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    None,
    /// Between lives, what was committed is forgotten.
    LoseCommits,
}

/// How flights are put.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    OneARecord,
    /// Up to six in one record, of as many days, with what belongs to none of them between.
    Several,
}

impl Packing {
    fn settings(self) -> DeliverySettings {
        match self {
            Self::OneARecord => by_day(),
            Self::Several => by_day().with_deaggregation(Deaggregation::Json),
        }
    }

    async fn put(self, source: &DataStream, ids: Range<u64>, rng: &mut StdRng) {
        match self {
            Self::OneARecord => put_flights(source, ids).await,
            Self::Several => {
                let mut ids = ids.peekable();
                while ids.peek().is_some() {
                    let some: Vec<_> = ids.by_ref().take(rng.random_range(1..=6)).map(|id| flight(id).data).collect();
                    let key = format!("key-{}", rng.random_range(0..31));
                    source.put_record(PutRecord::new(some.concat(), key)).await.unwrap();
                }
            }
        }
    }
}

struct Lives {
    recovered: usize,
    existed: usize,
}

/// Cuts deliveries off at random points of many lives, over a store that fails in every way it can, while records come in.
async fn cut_off_at_random(
    seed: u64,
    sabotage: Sabotage,
    packing: Packing,
    open_source: impl AsyncFn() -> DataStream,
) -> Result<Lives, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (time, shared) = clock();
    let rules = vec![
        Rule::on(&[Operation::Put], Effect::Fail(Failure::Unavailable)).with_probability(0.2),
        Rule::on(&[Operation::Put], Effect::ApplyThenFail(Failure::Reset)).with_probability(0.2),
        Rule::on(&[Operation::Put], Effect::Hang).with_probability(0.05),
    ];
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), seed, shared.clone(), rules);
    let heard = Heard::default();
    let mut put = 0;
    for _ in 0..12 {
        let source = open_source().await;
        if sabotage == Sabotage::LoseCommits && put > 0 {
            source.delete_consumer("firehose.d").await.unwrap();
        }
        let settings = packing
            .settings()
            .with_buffer_interval(Duration::from_millis(rng.random_range(0..4_000)))
            .with_put_timeout(Duration::from_secs(5))
            .with_deliveries(rng.random_range(1..6));
        let delivery = DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()))
            .with_settings(settings)
            .with_clock(shared.clone())
            .with_listener(heard.listener())
            .open()
            .await
            .map_err(|error| format!("{error:?}"))?;
        let more = rng.random_range(0..120);
        packing.put(&source, put..put + more, &mut rng).await;
        put += more;
        Cut::random(&mut rng).reached(&time, &delivery, &store).await;
    }
    store.heal();
    let delivery = DeliveryStream::builder("d", open_source().await, Arc::new(store.clone()))
        .with_settings(packing.settings())
        .with_clock(shared)
        .with_listener(heard.listener())
        .open()
        .await
        .unwrap();
    while_time_passes(&time, delivery.flush()).await.map_err(|error| format!("{error:?}"))?;
    compare(&delivered(&*store.inner()).await, 0..put)?;
    Ok(Lives {
        recovered: heard.count(|event| matches!(event, DeliveryEvent::Recovering { .. })),
        existed: heard.count(|event| matches!(event, DeliveryEvent::Delivered(delivered) if delivered.existed)),
    })
}

fn saw_enough(lives: &[Lives]) {
    let (recovered, existed): (usize, usize) =
        (lives.iter().map(|lives| lives.recovered).sum(), lives.iter().map(|lives| lives.existed).sum());
    assert!(recovered >= lives.len(), "only {recovered} recoveries in {} runs", lives.len());
    assert!(existed >= lives.len(), "only {existed} puts found their object in {} runs", lives.len());
}

#[test]
fn a_delivery_stream_that_is_dropped_anywhere_goes_on_without_loss_or_double() {
    let lives = check_all(0..60, |seed| {
        block_on(async {
            let kinesis = Kinesis::memory().open().await.unwrap();
            let source = kinesis.create_stream("s", 3).await.unwrap();
            cut_off_at_random(seed, Sabotage::None, Packing::OneARecord, async || source.clone()).await
        })
    });
    saw_enough(&lives);
}

#[test]
fn parts_of_one_record_go_to_many_objects_without_loss_or_double() {
    let lives = check_all(0..60, |seed| {
        block_on(async {
            let kinesis = Kinesis::memory().open().await.unwrap();
            let source = kinesis.create_stream("s", 3).await.unwrap();
            cut_off_at_random(seed, Sabotage::None, Packing::Several, async || source.clone()).await
        })
    });
    saw_enough(&lives);
}

#[test]
fn without_its_commits_the_promise_breaks_and_these_tests_see_it() {
    let caught = share_caught(0..10, |seed| {
        block_on(async {
            let kinesis = Kinesis::memory().open().await.unwrap();
            let source = kinesis.create_stream("s", 3).await.unwrap();
            cut_off_at_random(seed, Sabotage::LoseCommits, Packing::OneARecord, async || source.clone()).await
        })
    });
    assert!(caught >= 0.9, "only {caught} of the sabotaged runs were caught");
}

#[test]
fn an_instance_that_is_dropped_with_it_goes_on_without_loss_or_double() {
    let lives = check_all(0..5, |seed| {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let kinesis = Kinesis::at(dir.path()).open().await.unwrap();
            kinesis.create_stream("s", 3).await.unwrap();
            kinesis.close().await.unwrap();
            cut_off_at_random(seed, Sabotage::None, Packing::Several, async || {
                reopen(dir.path()).await.stream("s").unwrap()
            })
            .await
        })
    });
    saw_enough(&lives);
}

/// Every single put of a run in turn fails before or after it was applied, and the work is cut off right there.
#[tokio::test]
async fn cut_off_at_each_put_in_turn() {
    for effect in [Effect::Hang, Effect::ApplyThenFail(Failure::Reset)] {
        let mut puts = 0;
        for call in 0.. {
            let kinesis = Kinesis::memory().open().await.unwrap();
            let source = kinesis.create_stream("s", 2).await.unwrap();
            put_flights(&source, 0..300).await;
            let (time, shared) = clock();
            let rule = Rule::on(&[Operation::Put], effect.clone()).at_call(call);
            let store = FaultStore::with_rules(Arc::new(InMemory::new()), call, shared.clone(), vec![rule]);
            let builder = || {
                DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()))
                    .with_settings(by_day())
                    .with_clock(shared.clone())
            };
            let delivery = builder().open().await.unwrap();
            // The clock stands still: what failed waits, or hangs.
            tokio::select! {
                flushed = delivery.flush() => flushed.unwrap(),
                () = until(|| store.fired()[0] > 0) => {}
            }
            let fired = store.fired()[0] > 0;
            drop(delivery);
            let delivery = builder().open().await.unwrap();
            while_time_passes(&time, delivery.flush()).await.unwrap();
            compare(&delivered(&*store.inner()).await, 0..300).unwrap_or_else(|what| panic!("put {call}: {what}"));
            delivery.close().await.unwrap();
            if !fired {
                puts = call;
                break;
            }
        }
        assert!(puts >= 12, "at least one object for each day, not {puts}");
    }
}

/// Fails half of its calls; answers alike when it answers.
#[derive(Clone)]
struct OftenOut(Arc<std::sync::Mutex<StdRng>>);

impl Transform for OftenOut {
    fn apply(
        &self,
        records: Vec<TransformRecord>,
    ) -> futures::future::BoxFuture<'static, kinesis_core::Result<Vec<TransformOutcome>>> {
        let out = self.0.lock().unwrap().random_bool(0.5);
        let outcome = |record: TransformRecord| {
            let result = match id_of(&record.data) % 7 {
                0 => TransformResult::failed("not a good flight"),
                1 => TransformResult::Dropped,
                _ => TransformResult::ok(record.data),
            };
            TransformOutcome::new(record.record_id, result)
        };
        let outcomes = if out {
            Err(Error::new(ErrorKind::Unavailable, "out of order"))
        } else {
            Ok(records.into_iter().map(outcome).collect())
        };
        Box::pin(async move { outcomes })
    }
}

fn id_of(data: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(data).unwrap()["id"].as_u64().unwrap()
}

#[test]
fn a_transform_that_is_often_out_of_order_doubles_and_loses_nothing() {
    check_all(0..30, |seed| {
        block_on(async {
            let kinesis = Kinesis::memory().open().await.unwrap();
            let source = kinesis.create_stream("s", 2).await.unwrap();
            let (time, shared) = clock();
            let rule = Rule::on(&[Operation::Put], Effect::ApplyThenFail(Failure::Reset)).with_probability(0.3);
            let store = FaultStore::with_rules(Arc::new(InMemory::new()), seed, shared.clone(), vec![rule]);
            let transform = OftenOut(Arc::new(std::sync::Mutex::new(StdRng::seed_from_u64(seed))));
            let mut rng = StdRng::seed_from_u64(seed);
            for life in 0..6 {
                let delivery = DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()))
                    .with_settings(by_day())
                    .with_clock(shared.clone())
                    .with_transform(transform.clone())
                    .open()
                    .await
                    .unwrap();
                if life == 5 {
                    while_time_passes(&time, delivery.close()).await.unwrap();
                    break;
                }
                put_flights(&source, life * 80..(life + 1) * 80).await;
                Cut::random(&mut rng).reached(&time, &delivery, &store).await;
            }
            let delivery = DeliveryStream::builder("d", source, Arc::new(store.clone()))
                .with_settings(by_day())
                .with_clock(shared)
                .with_transform(transform)
                .open()
                .await
                .unwrap();
            while_time_passes(&time, delivery.flush()).await.unwrap();
            let mut found = delivered(&*store.inner()).await;
            let failed = rejected(&*store.inner()).await.remove("processing-failed").unwrap_or_default();
            // A call that failed four times failed its records, also those it would have dropped.
            let out: BTreeSet<u64> = failed
                .iter()
                .filter(|(_, line)| line["errorCode"] == "Lambda.FunctionError")
                .map(|(raw, _)| id_of(raw.as_bytes()))
                .collect();
            found.extend(failed.iter().map(|(raw, _)| id_of(raw.as_bytes())));
            compare(&found, (0..400).filter(|id| id % 7 != 1 || out.contains(id)))
        })
    });
}

#[tokio::test]
async fn two_of_one_name_do_not_work_at_once() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let builder = || DeliveryStream::builder("d", source.clone(), store.clone()).with_settings(by_day());
    let first = builder().open().await.unwrap();
    assert_eq!(builder().open().await.unwrap_err().kind(), ErrorKind::Conflict);
    DeliveryStream::builder("other", source.clone(), store.clone()).open().await.unwrap().close().await.unwrap();
    first.close().await.unwrap();
    assert_eq!(first.flush().await.unwrap_err().kind(), ErrorKind::Closed);
    let second = builder().open().await.unwrap();
    drop(second);
    builder().open().await.unwrap().close().await.unwrap();
}

/// Two openings that read different commits could promise the same records to different objects, and both deliver.
#[tokio::test]
async fn an_opening_reads_the_commit_that_was_cut_off_before_it() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for round in 0..100 {
        let source = kinesis.create_stream(&format!("s{round}"), 1).await.unwrap();
        let later = r#"{"format":3,"version":1,"settings":0,"next_object":0,"next_schema":0,"schemas":{},"schema":null,"ahead":{},"sealed":{}}"#;
        // Dropped as soon as it is submitted, as by a delivery stream that is dropped while it commits. Unconstrained, since a
        // task whose budget is used up would be put off before that.
        let commit = source.commit("firehose.d", BTreeMap::new(), Some(later.into()));
        drop(tokio::task::unconstrained(commit).now_or_never());
        let opened = DeliveryStream::builder("d", source, store.clone()).open().await;
        assert_eq!(opened.map_err(|error| error.kind()).unwrap_err(), ErrorKind::Corrupt, "round {round}");
    }
}

#[tokio::test]
async fn a_restart_with_nothing_new_delivers_nothing() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 4).await.unwrap();
    put_flights(&source, 0..500).await;
    let store = FaultStore::new(Arc::new(InMemory::new()));
    for _ in 0..3 {
        let builder = DeliveryStream::builder("d", source.clone(), Arc::new(store.clone()));
        let delivery = builder.with_settings(by_day()).open().await.unwrap();
        delivery.flush().await.unwrap();
        delivery.close().await.unwrap();
    }
    let puts = store.calls(Operation::Put);
    assert_eq!(puts, u64::try_from(super::firehose_rig::objects(&*store.inner()).await.len()).unwrap());
    compare(&delivered(&*store.inner()).await, 0..500).unwrap();
}
