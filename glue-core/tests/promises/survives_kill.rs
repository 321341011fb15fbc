//! No acknowledged commit is lost when the process is killed, at any moment, again and again.

use std::collections::BTreeSet;
use std::path::Path as FilePath;

use glue_core::{Change, Glue, PartitionDef};
use testkit::crash::{Child, Crash, KILLS, Tally};

use crate::lake::with_table;

/// Sabotage: acknowledges a commit before it is made.
const EARLY: &str = "early";

async fn open(dir: &FilePath) -> Glue {
    Glue::at(dir).with_checkpoint_every(20).open().await.unwrap()
}

async fn commit_forever(child: &Child) {
    child.ready();
    let glue = open(child.dir()).await;
    for n in 0.. {
        let (round, n) = (child.round().to_string(), n.to_string());
        if child.mode() == EARLY {
            child.ack(format!("{round} {n}"));
        }
        let change = Change::new().add_partitions("db", "t", vec![PartitionDef::of([round.clone(), n.clone()])]);
        glue.catalog().commit(change).await.unwrap();
        if child.mode() != EARLY {
            child.ack(format!("{round} {n}"));
        }
    }
}

/// What was acknowledged over all rounds and is missing in the end, counted after every kill.
fn missing_after_kills(name: &str, mode: &str, kills: u32) -> (usize, Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async { with_table(&open(dir.path()).await).await });
    let (mut acked, mut missing) = (BTreeSet::new(), 0);
    let tally = Crash::test(name).with_kills(kills).with_mode(mode).run(dir.path(), |run| {
        acked.extend(run.acks.iter().cloned());
        let state = runtime.block_on(async { open(dir.path()).await.catalog().table_state("db", "t").await.unwrap() });
        for ack in &acked {
            let values: Vec<_> = ack.split(' ').map(|value| Some(value.to_owned())).collect();
            missing += usize::from(state.partitions().find(&values).unwrap().is_none());
        }
    });
    (missing, tally)
}

#[test]
fn every_acknowledged_commit_is_there() {
    const NAME: &str = "survives_kill::every_acknowledged_commit_is_there";
    if let Some(child) = Child::current() {
        return tokio::runtime::Runtime::new().unwrap().block_on(commit_forever(&child));
    }
    let (missing, tally) = missing_after_kills(NAME, "", KILLS);
    println!("{tally:?}");
    assert_eq!(missing, 0);
    assert_eq!(tally.kills, KILLS);
    // In every second round the delay to the kill begins with the first acknowledgement.
    assert!(tally.acks >= KILLS as usize / 2, "the kills came before anything was acknowledged: {tally:?}");
}

#[test]
fn a_commit_acknowledged_too_early_is_caught() {
    const NAME: &str = "survives_kill::a_commit_acknowledged_too_early_is_caught";
    if let Some(child) = Child::current() {
        return tokio::runtime::Runtime::new().unwrap().block_on(commit_forever(&child));
    }
    let (missing, _) = missing_after_kills(NAME, EARLY, 20);
    assert!(missing > 0, "the sabotaged run lost nothing");
}
