//! The crash driver kills children in mid-work, counts what they acknowledged and nothing else, and its check sees a
//! child that acknowledges too early.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use testkit::crash::{Child, Crash, Tally};
use testkit::seeds::describe;

/// Appends bytes one by one; the sabotaged mode acknowledges ten in advance, the broken one fails.
fn append_forever(child: &Child) -> ! {
    assert_ne!(child.mode(), "broken", "this child fails by itself");
    let path = child.dir().join("log");
    let mut log = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut length = log.metadata().unwrap().len();
    child.ready();
    loop {
        child.ack(if child.mode() == "early" { length + 10 } else { length });
        log.write_all(b"x").unwrap();
        length += 1;
    }
}

fn kill_repeatedly(test: &str, mode: &str) -> Tally {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = 0;
    Crash::test(test).with_kills(10).with_mode(mode).run(dir.path(), |run| {
        acked = run.acks.last().map_or(acked, |line| line.parse().unwrap());
        let found = dir.path().join("log").metadata().map_or(0, |log| log.len());
        assert!(found >= acked, "{run}: {acked} were acknowledged, {found} are left");
    })
}

#[test]
fn children_are_killed_and_their_acks_counted() {
    if let Some(child) = Child::current() {
        append_forever(&child);
    }
    let tally = kill_repeatedly("crash_driver::children_are_killed_and_their_acks_counted", "");
    assert_eq!((tally.kills, tally.finished), (10, 0));
    assert!(tally.acks > 100, "{tally:?}");
}

#[test]
fn early_acks_and_failing_children_are_caught() {
    if let Some(child) = Child::current() {
        append_forever(&child);
    }
    for (mode, verdict) in [("early", "were acknowledged"), ("broken", "before it said that it was ready")] {
        let run = || kill_repeatedly("crash_driver::early_acks_and_failing_children_are_caught", mode);
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        let text = describe(&*panic);
        assert!(text.contains(verdict), "{mode}: {text}");
    }
}
