//! Of all who commit on one version exactly one wins, on any store; a sleeper cannot win a number that was trimmed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::{Clock, DurableLocal, ErrorKind, ManualClock, VersionedCommit};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use testkit::clock::SkippingClock;
use testkit::fault_store::{Effect, FaultStore, Operation, Rule};
use testkit::seeds::Violation;

/// Adds one to a number, `times` times from each of `writers`, and checks that no addition was lost.
async fn count(store: Arc<dyn ObjectStore>, writers: u64, times: u64, trim: bool) -> Result<(), Violation> {
    let value = VersionedCommit::new(store, Path::from("count")).with_clock(SkippingClock::shared());
    let add = |_| {
        let value = value.clone();
        tokio::spawn(async move {
            let mut unknown = 0;
            for _ in 0..times {
                loop {
                    let latest = value.latest().await.unwrap();
                    let (version, sum) = latest.map_or((0, 0), |latest| {
                        (latest.number, u64::from_le_bytes(latest.body.as_ref().try_into().unwrap()))
                    });
                    // Others read the same version meanwhile.
                    tokio::task::yield_now().await;
                    match value.commit(version, Bytes::copy_from_slice(&(sum + 1).to_le_bytes())).await {
                        Ok(number) => {
                            if trim && number % 10 == 0 {
                                value.trim(number - 3).await.unwrap();
                            }
                            break;
                        }
                        // So late that the others were far ahead: it may count, and is repeated all the same.
                        Err(error) if error.kind() == ErrorKind::Unavailable => unknown += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                    }
                }
            }
            unknown
        })
    };
    let mut unknown = 0;
    for writer in (0..writers).map(add).collect::<Vec<_>>() {
        unknown += writer.await.map_err(|error| error.to_string())?;
    }
    let latest = value.latest().await.unwrap().unwrap();
    let sum = u64::from_le_bytes(latest.body.as_ref().try_into().unwrap());
    let expected = writers * times;
    if latest.number == sum && (expected..=expected + unknown).contains(&sum) {
        Ok(())
    } else {
        Err(format!("{expected} additions made {} versions and the sum {sum}", latest.number))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_is_lost_in_memory() {
    count(Arc::new(InMemory::new()), 16, 200, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_is_lost_while_versions_are_trimmed() {
    count(Arc::new(InMemory::new()), 8, 100, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_is_lost_in_a_durable_directory() {
    let dir = tempfile::tempdir().unwrap();
    count(Arc::new(DurableLocal::new(dir.path()).unwrap()), 4, 10, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_put_if_absent_is_caught() {
    let rules = vec![Rule::on(&[Operation::Put], Effect::Overwrite)];
    let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, SkippingClock::shared(), rules);
    assert!(count(Arc::new(store.clone()), 16, 50, false).await.is_err());
    store.assert_all_fired();
}

#[tokio::test]
async fn a_sleeper_past_a_trim_wins_nothing() {
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::default());
    let value = VersionedCommit::new(inner.clone(), Path::from("v"));
    let one = value.commit(0, "one".into()).await.unwrap();

    // The sleeper has seen version 1 and is about to create version 2 when it falls asleep.
    let hour = Duration::from_secs(3600);
    let rules = vec![Rule::on(&[Operation::Put], Effect::Latency { min: hour, max: hour }).at_call(0)];
    let slow = FaultStore::with_rules(inner, 1, Arc::new(clock.clone()) as Arc<dyn Clock>, rules);
    let sleeper = VersionedCommit::new(Arc::new(slow.clone()), Path::from("v"));
    let asleep = tokio::spawn(async move { sleeper.commit(one, "from the past".into()).await });
    while slow.fired()[0] == 0 {
        tokio::task::yield_now().await;
    }
    let mut newest = one;
    for _ in 0..5 {
        newest = value.commit(newest, "on time".into()).await.unwrap();
    }
    value.trim(newest).await.unwrap();
    assert!(value.read(2).await.unwrap().is_none(), "the sleeper's number is free again");

    clock.advance(hour);
    assert_eq!(asleep.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(value.latest().await.unwrap().unwrap().number, newest);
    assert!(value.read(2).await.unwrap().is_none());
}

/// Who waited before telling would be overtaken by a trim, and then try again under a name that is free.
#[tokio::test]
async fn a_loser_hears_of_it_without_waiting() {
    let (store, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::default());
    let value = VersionedCommit::new(store, Path::from("v")).with_clock(Arc::new(clock));
    for number in 0..2 {
        value.commit(number, "first".into()).await.unwrap();
    }
    // The clock stands still, so that a wait would be for ever.
    assert_eq!(value.commit(1, "second".into()).await.unwrap_err().kind(), ErrorKind::Conflict);
}

/// The name that the store refused is free again by the time it is read.
#[tokio::test]
async fn a_loser_whose_name_is_trimmed_meanwhile_conflicts() {
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::default());
    let value = VersionedCommit::new(inner.clone(), Path::from("v"));
    for number in 0..5 {
        value.commit(number, "on time".into()).await.unwrap();
    }
    let hour = Duration::from_secs(3600);
    let late = Rule::on(&[Operation::Get], Effect::Latency { min: hour, max: hour })
        .under(format!("v/version/{:020}", 2))
        .at_call(0);
    let slow = FaultStore::with_rules(inner, 1, Arc::new(clock.clone()) as Arc<dyn Clock>, vec![late]);
    let loser = VersionedCommit::new(Arc::new(slow.clone()), Path::from("v")).with_clock(SkippingClock::shared());
    let lost = tokio::spawn(async move { loser.commit(1, "too late".into()).await });
    while slow.fired()[0] == 0 {
        tokio::task::yield_now().await;
    }
    value.trim(5).await.unwrap();
    clock.advance(hour);
    assert_eq!(lost.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(value.latest().await.unwrap().unwrap().number, 5);
    assert!(value.read(2).await.unwrap().is_none());
}

/// A commit that others build on and trim before its author hears of it has happened all the same.
#[tokio::test]
async fn a_commit_that_is_trimmed_before_it_is_answered_counts() {
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(InMemory::new()), ManualClock::default());
    let value = VersionedCommit::new(inner.clone(), Path::from("v"));
    let one = value.commit(0, "one".into()).await.unwrap();
    for (others, known) in [(5, true), (40, false)] {
        let hour = Duration::from_secs(3600);
        // What it lists after its put is the floor.
        let late = Rule::on(&[Operation::List], Effect::Latency { min: hour, max: hour }).under("v/floor").at_call(0);
        let slow = FaultStore::with_rules(inner.clone(), 1, Arc::new(clock.clone()) as Arc<dyn Clock>, vec![late]);
        let author = VersionedCommit::new(Arc::new(slow.clone()), Path::from("v"));
        let newest = value.latest().await.unwrap().unwrap().number.max(one);
        let commit = tokio::spawn(async move { author.commit(newest, "late to hear".into()).await });
        while slow.fired()[0] == 0 {
            tokio::task::yield_now().await;
        }
        let mut last = newest + 1;
        for _ in 0..others {
            last = value.commit(last, "on top".into()).await.unwrap();
        }
        value.trim(last).await.unwrap();
        clock.advance(hour);
        match commit.await.unwrap() {
            Ok(number) => assert!(known && number == newest + 1),
            Err(error) => assert!(!known && error.kind() == ErrorKind::Unavailable, "{error:?}"),
        }
    }
}

#[tokio::test]
async fn damage_is_named_and_limits_are_typed() {
    use object_store::ObjectStoreExt;
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let value = VersionedCommit::new(store.clone(), Path::from("v"));
    value.commit(0, "body".into()).await.unwrap();
    let too_large = Bytes::from(vec![0; durable_core::VERSION_BYTES_MAX + 1]);
    assert_eq!(value.commit(1, too_large).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    let path = Path::from(format!("v/version/{:020}", 1));
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 4;
        store.put(&path, damaged.into()).await.unwrap();
        assert_eq!(value.latest().await.unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
    }
}
