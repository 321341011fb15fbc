//! The fault store is the store it wraps without rules, does what its rules say with them, and counts both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::{Clock, ManualClock};
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};
use testkit::clock::SkippingClock;
use testkit::conformance;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};
use testkit::seeds::describe;

fn with(rules: Vec<Rule>) -> FaultStore {
    FaultStore::with_rules(Arc::new(InMemory::new()), 1, SkippingClock::shared(), rules)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_it_conforms_and_counts() {
    let store = FaultStore::new(Arc::new(InMemory::new()));
    conformance::store::run(&store, true).await;
    for operation in [Operation::Put, Operation::Get, Operation::Head, Operation::Delete, Operation::List] {
        assert!(store.calls(operation) > 5, "{operation:?}");
    }
    assert!(store.calls(Operation::Multipart) > 0 && store.calls(Operation::Copy) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_zero_percent_it_conforms() {
    let all =
        [Operation::Put, Operation::Get, Operation::List, Operation::Delete, Operation::Multipart, Operation::Copy];
    let effects = [Effect::Fail(Failure::Reset), Effect::ApplyThenFail(Failure::Reset), Effect::Truncate, Effect::Flip];
    let rules: Vec<Rule> = effects.into_iter().map(|effect| Rule::on(&all, effect).with_probability(0.0)).collect();
    let store = with(rules);
    conformance::store::run(&store, true).await;
    assert_eq!(store.fired(), [0; 4]);
    let panic = catch_unwind(AssertUnwindSafe(|| store.assert_all_fired())).unwrap_err();
    assert!(describe(&*panic).contains("never fired"));
}

#[tokio::test]
async fn failures_come_before_or_after_the_put() {
    let (path, body) = (Path::from("a/b"), Bytes::from_static(b"body"));
    for failure in
        [Failure::Unavailable, Failure::Throttled, Failure::Reset, Failure::DiskFull, Failure::PermissionDenied]
    {
        let store = with(vec![Rule::on(&[Operation::Put], Effect::Fail(failure)).at_call(0)]);
        store.put(&path, body.clone().into()).await.unwrap_err();
        assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })), "{failure:?}: it has not happened");
        store.put(&path, body.clone().into()).await.unwrap();

        let store = with(vec![Rule::on(&[Operation::Put], Effect::ApplyThenFail(failure))]);
        store.put(&path, body.clone().into()).await.unwrap_err();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), body, "{failure:?}: it has happened");
        store.assert_all_fired();
        store.heal();
        store.put(&path, body.clone().into()).await.unwrap();
    }
}

#[tokio::test]
async fn rules_are_narrowed_by_prefix_and_probability() {
    let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::Reset)).under("bad").with_probability(0.3);
    let store = with(vec![rule]);
    let mut failed = 0;
    for number in 0..1000 {
        store.put(&Path::from(format!("good/{number}")), "x".into()).await.unwrap();
        failed += u64::from(store.put(&Path::from(format!("bad/{number}")), "x".into()).await.is_err());
    }
    assert!((250..350).contains(&failed), "{failed}");
    assert_eq!(store.fired(), [failed]);
}

#[tokio::test]
async fn bodies_are_cut_and_flipped() {
    let (path, body) = (Path::from("x"), Bytes::from(vec![0_u8; 1000]));
    for (effect, differs) in [(Effect::Truncate, "length"), (Effect::Flip, "one bit")] {
        let store = with(vec![Rule::on(&[Operation::Get], effect)]);
        store.put(&path, body.clone().into()).await.unwrap();
        let found = store.get(&path).await.unwrap().bytes().await.unwrap();
        let ranges = store.get_ranges(&path, &[0..500, 500..1000]).await.unwrap();
        for (found, length) in [(&found, 1000), (&ranges[0], 500), (&ranges[1], 500)] {
            let bits: u32 = found.iter().map(|byte| byte.count_ones()).sum();
            assert_eq!((found.len() < length, bits), if differs == "length" { (true, 0) } else { (false, 1) });
        }
        assert_eq!(store.head(&path).await.unwrap().size, 1000);
        assert_eq!(store.fired(), [3]);
    }
}

#[tokio::test]
async fn lists_are_stale_and_races_are_lost() {
    let store = with(vec![Rule::on(&[Operation::List], Effect::StaleList)]);
    store.inner().put(&Path::from("old"), "x".into()).await.unwrap();
    store.put(&Path::from("new"), "x".into()).await.unwrap();
    let listed: Vec<Path> = store.list(None).map_ok(|object| object.location).try_collect().await.unwrap();
    assert_eq!(listed, [Path::from("old")]);
    assert_eq!(store.list_with_delimiter(None).await.unwrap().objects.len(), 1);
    store.assert_all_fired();

    let store = with(vec![Rule::on(&[Operation::Put], Effect::LostRace { rival: "rival".into() })]);
    let error = store.put_opts(&Path::from("x"), "mine".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }));
    assert_eq!(store.get(&Path::from("x")).await.unwrap().bytes().await.unwrap(), "rival");
    store.assert_all_fired();
}

#[tokio::test]
async fn latency_passes_on_the_clock_and_hanging_never_ends() {
    let clock = ManualClock::default();
    let second = Duration::from_secs(1);
    let rules = vec![
        Rule::on(&[Operation::Get], Effect::Latency { min: second, max: second }),
        Rule::on(&[Operation::Delete], Effect::Hang),
    ];
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, Arc::new(clock.clone()) as Arc<dyn Clock>, rules);
    let path = Path::from("x");
    store.put(&path, "x".into()).await.unwrap();
    let mut get = store.get(&path).boxed();
    assert!(get.as_mut().now_or_never().is_none());
    clock.advance(second);
    get.await.unwrap();
    let mut delete = store.delete(&path).boxed();
    assert!(delete.as_mut().now_or_never().is_none());
    clock.advance(second * 1000);
    assert!(delete.as_mut().now_or_never().is_none());
    store.assert_all_fired();
}

#[tokio::test]
async fn the_same_seed_fails_the_same_calls() {
    let run = |seed| async move {
        let rule = Rule::on(&[Operation::Put], Effect::Fail(Failure::Reset)).with_probability(0.5);
        let store = FaultStore::with_rules(Arc::new(InMemory::new()), seed, SkippingClock::shared(), vec![rule]);
        let mut failed = Vec::new();
        for number in 0..64 {
            failed.push(store.put(&Path::from(format!("{number}")), "x".into()).await.is_err());
        }
        failed
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}
