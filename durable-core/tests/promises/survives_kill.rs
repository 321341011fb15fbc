//! Nothing acknowledged is lost when the process is killed, at any moment, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use durable_core::DurableLocal;
use durable_core::journal::{Durability, Frame, Journal, JournalBuilder, Recovery};
use object_store::path::Path;
use testkit::crash::{Child, Crash, Tally};
use testkit::seeds::describe;

const WRITERS: u64 = 4;
/// After how many appends of the first writer it checkpoints: few, since a child lives only some milliseconds.
const CHECKPOINT_EVERY: usize = 4;
/// What a child prints for each checkpoint it made.
const CHECKPOINTED: &str = "checkpointed";

/// Everything that was ever appended, as the next opening finds it: `position body`, one a line.
type Lines = BTreeSet<String>;

fn builder(dir: &FilePath, mode: &str) -> JournalBuilder {
    if mode == "objects" {
        let store = DurableLocal::new(dir.join("store")).unwrap();
        Journal::store(Arc::new(store), Path::from("journal"))
    } else {
        Journal::dir(dir.join("journal")).segment_bytes(64 << 10)
    }
}

fn line(frame: &Frame) -> String {
    format!("{:020} {}", frame.position.0, String::from_utf8_lossy(&frame.body))
}

async fn recover(recovery: &mut Recovery) -> Lines {
    let parts = recovery.checkpoint().map_or_else(BTreeMap::new, |checkpoint| checkpoint.parts.clone());
    let mut lines: Lines = parts
        .values()
        .flat_map(|part| String::from_utf8(part.to_vec()).unwrap().lines().map(str::to_owned).collect::<Lines>())
        .collect();
    while let Some(frame) = recovery.next().await.unwrap() {
        lines.insert(line(&frame));
    }
    lines
}

/// Appends from several tasks and acknowledges each; checkpoints now and then. Never ends by itself.
async fn append_forever(child: &Child) {
    child.ready();
    let mut recovery = builder(child.dir(), child.mode()).open().await.unwrap();
    let lines = Arc::new(Mutex::new(recover(&mut recovery).await));
    let hook = Arc::clone(&lines);
    let journal = recovery.start(move |frames| hook.lock().unwrap().extend(frames.iter().map(line))).await.unwrap();
    let durability = if child.mode() == "memory" { Durability::Memory } else { Durability::Journal };
    let child = Arc::new((child.seed(), child.round()));
    let write = |writer: u64| {
        let (journal, lines, child) = (journal.clone(), Arc::clone(&lines), Arc::clone(&child));
        tokio::spawn(async move {
            for number in 0_usize.. {
                let body = Bytes::from(format!("{} {writer} {number} {}", child.1, "x".repeat(number * 37 % 400)));
                let pending = journal.reserve(body.len()).await.unwrap().submit(body.clone(), 1, durability).unwrap();
                let position = pending.await.unwrap();
                testkit::crash::acknowledge(line(&Frame::new(position, 1, body)));
                if writer == 0 && number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
                    let at = journal.durable();
                    let below = format!("{:020}", at.0);
                    let state: Vec<String> = lines.lock().unwrap().range(..below).cloned().collect();
                    journal.checkpoint(at, vec![("lines".into(), Some(state.join("\n").into()))]).await.unwrap();
                    testkit::crash::acknowledge(CHECKPOINTED);
                }
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// As [`kill_after`], with longer lives until some children came to their checkpoints: disks differ.
fn kill(test: &str, mode: &str, kills: u32, (acks_min, checkpoints_min): (usize, usize)) {
    // To take objects over needs some ten syncs, to checkpoint some more.
    let (mut least, mut most) = if mode == "objects" { (20, 120) } else { (5, 40) };
    loop {
        let (tally, checkpoints) =
            kill_after(test, mode, kills, Duration::from_millis(least)..=Duration::from_millis(most));
        if tally.acks > acks_min && checkpoints > checkpoints_min {
            return;
        }
        (least, most) = (least * 2, most * 2);
        assert!(most < 5_000, "{tally:?}, {checkpoints} checkpoints");
    }
}

/// Kills children in one directory, each after so long; after each, everything acknowledged so far is there, and nothing
/// is there twice.
fn kill_after(test: &str, mode: &str, kills: u32, life: RangeInclusive<Duration>) -> (Tally, usize) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut acked = Lines::new();
    let mut checkpoints = 0;
    let tally = Crash::test(test).with_kills(kills).with_mode(mode).with_delay(life).run(dir.path(), |run| {
        checkpoints += run.acks.iter().filter(|ack| *ack == CHECKPOINTED).count();
        acked.extend(run.acks.iter().filter(|ack| *ack != CHECKPOINTED).cloned());
        let found = runtime.block_on(async { recover(&mut builder(dir.path(), mode).open().await.unwrap()).await });
        if let Some(lost) = acked.difference(&found).next() {
            panic!("{run}: it was acknowledged and is gone: {lost}");
        }
        let bodies: BTreeSet<&str> = found.iter().map(|line| &line[21..]).collect();
        assert_eq!(bodies.len(), found.len(), "{run}: something is there twice");
    });
    assert_eq!(tally.kills, kills, "{tally:?}");
    eprintln!("{tally:?}, {checkpoints} checkpoints");
    (tally, checkpoints)
}

#[test]
fn of_a_directory_200_times() {
    if let Some(child) = Child::current() {
        return runtime().block_on(append_forever(&child));
    }
    kill("survives_kill::of_a_directory_200_times", "directory", 200, (200, 20));
}

#[test]
fn of_objects_in_a_durable_directory() {
    if let Some(child) = Child::current() {
        return runtime().block_on(append_forever(&child));
    }
    kill("survives_kill::of_objects_in_a_durable_directory", "objects", 50, (10, 5));
}

#[test]
fn acknowledging_before_the_disk_has_it_is_caught() {
    if let Some(child) = Child::current() {
        return runtime().block_on(append_forever(&child));
    }
    let name = "survives_kill::acknowledging_before_the_disk_has_it_is_caught";
    let panic = catch_unwind(AssertUnwindSafe(|| kill(name, "memory", 50, (0, 0)))).unwrap_err();
    let text = describe(&*panic);
    assert!(text.contains("it was acknowledged and is gone"), "{text}");
}
