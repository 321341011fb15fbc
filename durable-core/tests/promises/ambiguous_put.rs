//! A put that failed but was applied is recognised as one's own: nothing is lost and nothing is there twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::Journal;
use durable_core::{ErrorKind, VersionedCommit};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use testkit::clock::SkippingClock;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};
use testkit::seeds::Violation;

/// Puts that are applied and then fail, in each of the two tests.
const INJECTED: u64 = 10_000;

fn ambiguous(seed: u64) -> FaultStore {
    let rule = Rule::on(&[Operation::Put], Effect::ApplyThenFail(Failure::Reset)).with_probability(0.5);
    FaultStore::with_rules(Arc::new(InMemory::new()), seed, SkippingClock::shared(), vec![rule])
}

/// Each of `expected` is there exactly once, and nothing else is.
fn check_once(expected: Vec<Bytes>, found: Vec<Bytes>) -> Result<(), Violation> {
    let mut counts: BTreeMap<Bytes, i64> = BTreeMap::new();
    found.into_iter().for_each(|body| *counts.entry(body).or_default() += 1);
    expected.into_iter().for_each(|body| *counts.entry(body).or_default() -= 1);
    match counts.into_iter().find(|(_, count)| *count != 0) {
        Some((body, count)) if count > 0 => Err(format!("{body:?} is there {} times", count + 1)),
        Some((body, _)) => Err(format!("{body:?} was acknowledged and is gone")),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_is_lost_or_doubled() {
    let store = ambiguous(1);
    let value = VersionedCommit::new(Arc::new(store.clone()), Path::from("v")).with_clock(SkippingClock::shared());
    let commit = |writer: u64| {
        let (value, store) = (value.clone(), store.clone());
        tokio::spawn(async move {
            let (mut committed, mut newest) = (Vec::new(), 0);
            for number in 0.. {
                if store.fired()[0] >= INJECTED {
                    break;
                }
                let body = Bytes::from(format!("{writer} {number}"));
                loop {
                    match value.commit(newest, body.clone()).await {
                        Ok(version) => break newest = version,
                        Err(error) if error.kind() == ErrorKind::Conflict => {
                            newest = value.latest().await.unwrap().map_or(0, |version| version.number);
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
                committed.push(body);
            }
            committed
        })
    };
    let mut committed = Vec::new();
    for writer in (0..3).map(commit).collect::<Vec<_>>() {
        committed.extend(writer.await.unwrap());
    }
    let mut found = Vec::new();
    let newest = value.latest().await.unwrap().unwrap().number;
    for number in 1..=newest {
        found.push(value.read(number).await.unwrap().unwrap().body);
    }
    check_once(committed, found).unwrap();
    assert!(store.fired()[0] >= INJECTED, "{:?}", store.fired());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_frame_is_lost_or_doubled() {
    let store = ambiguous(2);
    let builder = || Journal::store(Arc::new(store.clone()), Path::from("j")).clock(SkippingClock::shared());
    let (mut appended, mut seen) = (Vec::new(), Vec::new());
    while store.fired()[0] < INJECTED {
        let mut recovery = builder().open().await.unwrap();
        while recovery.next().await.unwrap().is_some() {}
        let (hook, shown) = std::sync::mpsc::channel();
        let show = move |frames: &[durable_core::journal::Frame]| {
            frames.iter().for_each(|frame| hook.send(frame.body.clone()).unwrap());
        };
        let journal = recovery.start(show).await.unwrap();
        for number in 0..2_000 {
            let body = Bytes::from(format!("{} {number}", journal.epoch()));
            journal.append(body.clone(), 1).await.unwrap();
            appended.push(body);
        }
        journal.checkpoint(journal.durable(), Vec::new()).await.unwrap();
        journal.append("after the checkpoint".into(), 1).await.unwrap();
        journal.close().await.unwrap();
        seen.extend(shown.into_iter().filter(|body| body != "after the checkpoint"));
    }
    check_once(appended, seen).unwrap();
    let mut recovery = builder().open().await.unwrap();
    let mut left = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        left.push(frame.body);
    }
    assert_eq!(left, ["after the checkpoint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_on_the_store_are_those_appended() {
    let store = ambiguous(3);
    let builder = || Journal::store(Arc::new(store.clone()), Path::from("j")).clock(SkippingClock::shared());
    let mut appended = Vec::new();
    for _ in 0..5 {
        let journal = builder().open().await.unwrap().start(|_| {}).await.unwrap();
        for number in 0..200 {
            let body = Bytes::from(format!("{} {number}", journal.epoch()));
            journal.append(body.clone(), 1).await.unwrap();
            appended.push(body);
        }
        journal.close().await.unwrap();
    }
    let mut recovery = builder().open().await.unwrap();
    let mut found = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        found.push(frame.body);
    }
    check_once(appended, found).unwrap();
    store.assert_all_fired();
}

/// A commit that believes every error: what failed is tried again under the next free number.
async fn naive_commit(store: &FaultStore, body: &Bytes) {
    for number in 0.. {
        let path = Path::from(format!("v/{number:020}"));
        if store.put_opts(&path, body.clone().into(), PutMode::Create.into()).await.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn a_commit_that_believes_errors_is_caught() {
    let store = ambiguous(4);
    let bodies: Vec<Bytes> = (0..20).map(|number| Bytes::from(number.to_string())).collect();
    for body in &bodies {
        naive_commit(&store, body).await;
    }
    let mut found = Vec::new();
    for number in 0.. {
        let Ok(object) = store.inner().get(&Path::from(format!("v/{number:020}"))).await else { break };
        found.push(object.bytes().await.unwrap());
    }
    let violation = check_once(bodies, found).unwrap_err();
    assert!(violation.contains("is there"), "{violation}");
}
