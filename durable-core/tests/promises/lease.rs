//! A lease changes hands only when its owner showed no life for its whole duration under the other's own eyes, or gave
//! it back; its epoch rises with every change of hands. No clock of another machine is believed.

use std::sync::Arc;
use std::time::Duration;

use durable_core::{ErrorKind, Heartbeat, Lease, ManualClock, OWNER_BYTES_MAX};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use testkit::fault_store::{Effect, FaultStore, Operation, Rule};

const DURATION: Duration = Duration::from_secs(10);

/// A process with a clock of its own.
struct Process {
    clock: ManualClock,
    heartbeat: Heartbeat,
    lease: Lease,
}

fn process(store: &Arc<dyn ObjectStore>, owner: &str) -> Process {
    let (clock, beats) = (ManualClock::default(), Path::from("beats"));
    let heartbeat = Heartbeat::new(store.clone(), &beats, Arc::new(clock.clone()), owner).unwrap();
    let lease = Lease::new(Path::from("lease"), beats, heartbeat.clone(), DURATION);
    Process { clock, heartbeat, lease }
}

#[tokio::test]
async fn a_living_owner_keeps_it_and_a_dead_one_loses_it() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (mut a, mut b) = (process(&store, "a"), process(&store, "b"));
    let first = a.lease.try_acquire().await.unwrap().unwrap();
    assert_eq!((first.owner.as_str(), b.lease.held().await.unwrap().unwrap().epoch), ("a", first.epoch));
    for _ in 0..10 {
        a.heartbeat.beat().await.unwrap();
        b.clock.advance(DURATION - Duration::from_secs(1));
        assert_eq!(b.lease.try_acquire().await.unwrap(), None);
    }
    b.clock.advance(DURATION);
    let second = b.lease.try_acquire().await.unwrap().unwrap();
    assert!(second.owner == "b" && second.epoch > first.epoch);
    assert_eq!(a.lease.try_acquire().await.unwrap(), None, "the old owner sees that it is another's");
}

#[tokio::test]
async fn the_first_question_only_begins_the_watch() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (mut a, mut b) = (process(&store, "a"), process(&store, "b"));
    a.lease.try_acquire().await.unwrap().unwrap();
    b.clock.advance(DURATION * 100);
    assert_eq!(b.lease.try_acquire().await.unwrap(), None);
    b.clock.set_wall(chrono::DateTime::from_timestamp(4_000_000_000, 0).unwrap());
    assert_eq!(b.lease.try_acquire().await.unwrap(), None, "wall time plays no part");
    b.clock.advance(DURATION);
    assert!(b.lease.try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn an_answer_that_comes_late_is_no_proof_of_silence() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut a = process(&store, "a");
    a.lease.try_acquire().await.unwrap().unwrap();
    // The second look at the sign of `a` is answered after more than the lease's duration.
    let clock = ManualClock::default();
    let late = Effect::Latency { min: DURATION * 2, max: DURATION * 2 };
    let rule = Rule::on(&[Operation::Get], late).under("beats").at_call(1);
    let slow = FaultStore::with_rules(store.clone(), 1, Arc::new(clock.clone()), vec![rule]);
    let slow_store: Arc<dyn ObjectStore> = Arc::new(slow.clone());
    let mut b = process(&slow_store, "b");
    b.clock.advance(Duration::from_secs(1));
    assert_eq!(b.lease.try_acquire().await.unwrap(), None);
    let b_clock = b.clock.clone();
    let second = tokio::spawn(async move { b.lease.try_acquire().await.unwrap() });
    while slow.fired() == [0] {
        tokio::task::yield_now().await;
    }
    b_clock.advance(DURATION * 2);
    clock.advance(DURATION * 2);
    assert_eq!(second.await.unwrap(), None, "it was asked for at once, however late the answer came");
}

#[tokio::test]
async fn what_is_given_back_is_free_at_once() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (mut a, mut b) = (process(&store, "a"), process(&store, "b"));
    let first = a.lease.try_acquire().await.unwrap().unwrap();
    b.lease.release().await.unwrap();
    assert_eq!(a.lease.held().await.unwrap(), Some(first.clone()), "only its owner gives it back");
    a.lease.release().await.unwrap();
    assert_eq!(b.lease.held().await.unwrap(), None);
    let second = b.lease.try_acquire().await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
}

#[tokio::test]
async fn of_many_who_ask_one_gets_it() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let ask = |number: usize| {
        let mut process = process(&store, &format!("owner {number}"));
        tokio::spawn(async move { process.lease.try_acquire().await.unwrap() })
    };
    let mut owners = Vec::new();
    for asked in (0..20).map(ask).collect::<Vec<_>>() {
        owners.extend(asked.await.unwrap());
    }
    assert_eq!(owners.len(), 1, "{owners:?}");
}

#[tokio::test]
async fn an_owner_has_a_name_of_bounded_length() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clock = Arc::new(ManualClock::default());
    for name in [String::new(), "x".repeat(OWNER_BYTES_MAX + 1)] {
        let error = Heartbeat::new(store.clone(), &Path::from("beats"), clock.clone(), &name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
