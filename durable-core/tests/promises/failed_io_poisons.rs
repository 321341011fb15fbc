//! After a failed write or sync the journal acknowledges nothing more, and what it acknowledged before is there.

use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::{Frame, Journal, Recovery};
use durable_core::{Disk, ErrorKind};
use rand::SeedableRng;
use rand::rngs::StdRng;
use testkit::disk::{Sabotage, Sabotaged, SimDisk};
use testkit::seeds::{self, Violation};

use crate::simulated::random_bytes;

/// Until this many errors were injected, over all seeds and calls.
const INJECTED: u64 = 10_000;

struct Run {
    /// Frames that were acknowledged, in order.
    acked: Vec<Frame>,
    /// Whether every call succeeded.
    untouched: bool,
}

fn builder(disk: &Arc<dyn Disk>) -> durable_core::journal::JournalBuilder {
    Journal::dir("/journal").segment_bytes(8 << 10).disk(disk.clone())
}

/// A short life of a journal, in which one call fails; answers what was acknowledged.
async fn live(disk: &Arc<dyn Disk>, rng: &mut StdRng) -> Result<Run, Violation> {
    let mut run = Run { acked: Vec::new(), untouched: false };
    let Ok(recovery) = builder(disk).open().await else { return Ok(run) };
    let Ok(journal) = recovery.start(|_| {}).await else { return Ok(run) };
    let (mut failed, mut checkpointed) = (false, true);
    for step in 0..12 {
        if step == 7 {
            checkpointed =
                journal.checkpoint(journal.durable(), vec![("part".into(), Some("state".into()))]).await.is_ok();
        }
        let poisoned = journal.is_poisoned();
        let body = random_bytes(rng, 1000);
        match journal.append(body.clone(), 1).await {
            Ok(_) if poisoned => return Err("an append was acknowledged after the journal was poisoned".to_owned()),
            Ok(position) => run.acked.push(Frame::new(position, 1, body)),
            Err(error) if error.kind() == ErrorKind::Unavailable => failed = true,
            Err(error) => return Err(format!("the error is of the wrong kind: {error:?}")),
        }
    }
    let was_poisoned = journal.is_poisoned();
    let closed = journal.close().await;
    if was_poisoned && closed.is_ok() {
        return Err("a poisoned journal was closed as if all were well".to_owned());
    }
    run.untouched = !failed && checkpointed && closed.is_ok();
    Ok(run)
}

/// Every frame that was acknowledged is found, unless the checkpoint covers it.
async fn verify(mut recovery: Recovery, acked: &[Frame]) -> Result<(), Violation> {
    let at = recovery.checkpoint().map_or(0, |checkpoint| checkpoint.at.0);
    let mut found: Vec<Frame> = Vec::new();
    while let Some(frame) = recovery.next().await.map_err(|error| format!("reading fails: {error:?}"))? {
        found.push(frame);
    }
    match acked.iter().find(|frame| frame.position.0 >= at && !found.contains(frame)) {
        Some(lost) => Err(format!("the frame at {} was acknowledged and is gone", lost.position)),
        None => Ok(()),
    }
}

/// Fails the first call, then the second, and so on, until a run meets none that fails; answers how many did.
fn check(seed: u64, sabotage: Option<Sabotage>) -> Result<u64, Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for call in 0.. {
            let simulated = SimDisk::new(seed);
            let disk: Arc<dyn Disk> = match sabotage {
                Some(sabotage) => Arc::new(Sabotaged::new(simulated.clone(), sabotage)),
                None => Arc::new(simulated.clone()),
            };
            simulated.fail_call(call);
            let named = |what: Violation| format!("call {call}: {what}");
            let run = live(&disk, &mut StdRng::seed_from_u64(seed)).await.map_err(named)?;
            let injected = simulated.counts().injected;
            // The threads of the journal may still hold it open.
            simulated.crash();
            let recovery = builder(&disk).open().await.map_err(|error| named(format!("{error:?}")))?;
            verify(recovery, &run.acked).await.map_err(named)?;
            if injected == 0 {
                return if run.untouched { Ok(call) } else { Err("a call failed by itself".to_owned()) };
            }
        }
        Ok(0)
    })
}

#[test]
fn nothing_is_acknowledged_after_a_failed_call() {
    let first = check(0, None).unwrap();
    let more = seeds::check_all(1..INJECTED / first + 5, |seed| check(seed, None));
    assert!(std::env::var_os("SEEDS").is_some() || first + more.iter().sum::<u64>() >= INJECTED);
}

#[test]
fn a_disk_that_hides_its_errors_is_caught() {
    let caught = seeds::share_caught(1..20, |seed| check(seed, Some(Sabotage::HiddenErrors)));
    assert!(caught >= 0.99, "{caught} of the seeds were caught");
}

#[tokio::test]
async fn waiting_appends_fail_with_the_poison() {
    let simulated = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(simulated.clone());
    let journal = builder(&disk).open().await.unwrap().start(|_| {}).await.unwrap();
    journal.append("before".into(), 1).await.unwrap();
    simulated.fail_calls_from(0, std::io::ErrorKind::Other);
    let append = |number: u32| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.append(Bytes::from(number.to_string()), 1).await })
    };
    let appends: Vec<_> = (0..100).map(append).collect();
    for append in appends {
        assert_eq!(append.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(journal.is_poisoned());
    simulated.heal();
    assert_eq!(journal.append("after".into(), 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(journal.flush().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
