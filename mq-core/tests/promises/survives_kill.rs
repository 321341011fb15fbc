//! However often the process is killed: a confirmed message is delivered or still queued (M1), none comes again after its
//! acknowledgement was durable (M2), and order is kept (M4).

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use durable_core::disk::{DiskFile, DiskLock, OpenMode};
use durable_core::{Disk, SystemDisk};
use futures::{FutureExt, StreamExt};
use mq_core::{Broker, Message, PendingReceipt, Routing, Settings};
use testkit::crash::{Child, Crash, Run};

use super::{consume, next, queue, text};

const QUEUE: &str = "q";
/// Numbers of one child: its round times this, and on.
const ROUND_NUMBERS: u64 = 1_000_000;
/// How many confirms are on their way.
const WINDOW: usize = 64;
/// Every so many-th message is held for ever.
const HELD_EVERY: u64 = 7;

#[test]
fn two_hundred_kills_lose_and_repeat_nothing() {
    if let Some(child) = Child::current() {
        return work(&child);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let crash = Crash::test("survives_kill::two_hundred_kills_lose_and_repeat_nothing");
    let tally = crash.run(dir.path(), |run| ledger.check(run, dir.path()));
    let Ledger { confirmed, acked, seen, .. } = &ledger;
    assert!(tally.kills >= 190, "{tally:?}");
    assert!(confirmed.len() > 2000 && acked.len() > 1000 && *seen > 500, "too little happened: {tally:?}");
}

#[test]
fn a_disk_that_acknowledges_before_it_writes_is_caught() {
    if let Some(child) = Child::current() {
        return work(&child);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let crash = Crash::test("survives_kill::a_disk_that_acknowledges_before_it_writes_is_caught").with_mode("lying");
    let run = || crash.run(dir.path(), |run| ledger.check(run, dir.path()));
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the sabotage was not caught");
    let text = testkit::seeds::describe(&*panic);
    // Either the ledger misses something, or the journal itself finds a checkpoint, or what it stands on, cut short.
    assert!(["M1", "M2", "corrupt"].iter().any(|sign| text.contains(sign)), "{text}");
}

/// The child: publishes, confirms, consumes and acknowledges until it is killed.
fn work(child: &Child) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        child.ready();
        let mut builder = super::at(child.dir()).settings(Settings::default().with_checkpoint_bytes(64 << 10));
        if child.mode() == "lying" {
            builder = builder.disk(Arc::new(LyingDisk));
        }
        let broker = builder.open().await.unwrap();
        broker.declare_queue(queue(QUEUE).with_delivery_limit(None)).await.unwrap();
        futures::future::join(publish(child, &broker), settle(child, &broker)).await;
    });
}

async fn publish(child: &Child, broker: &Broker) {
    let mut window = std::collections::VecDeque::<(u64, PendingReceipt)>::new();
    for number in u64::from(child.round()) * ROUND_NUMBERS.. {
        let message = Message::new(format!("{number} {}", "x".repeat(100)));
        window.push_back((number, broker.publish_later("", QUEUE, message, Routing::Optional).await.unwrap()));
        if window.len() == WINDOW {
            let (number, receipt) = window.pop_front().unwrap();
            assert_eq!(receipt.await.unwrap().queues(), 1);
            child.ack(format_args!("confirmed {number}"));
        }
    }
}

async fn settle(child: &Child, broker: &Broker) {
    let mut held = Vec::new();
    let mut consumer = consume(broker, QUEUE, u16::MAX).await;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery.unwrap();
        let number = number(&text(&delivery));
        if number.is_multiple_of(HELD_EVERY) {
            held.push(delivery);
            continue;
        }
        child.ack(format_args!("acking {number}"));
        delivery.ack().await.unwrap();
        child.ack(format_args!("acked {number}"));
    }
}

fn number(body: &str) -> u64 {
    body.split(' ').next().unwrap().parse().unwrap()
}

/// What all children together were promised.
#[derive(Debug, Default)]
struct Ledger {
    confirmed: BTreeSet<u64>,
    acking: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// How many queued messages were looked at.
    seen: usize,
}

impl Ledger {
    fn check(&mut self, run: &Run, dir: &Path) {
        for line in &run.acks {
            let (what, number) = line.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            match what {
                "confirmed" => self.confirmed.insert(number),
                "acking" => self.acking.insert(number),
                "acked" => self.acked.insert(number),
                other => panic!("{run}: an unknown line {other:?}"),
            };
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let queued = runtime.block_on(queued(dir, run.round % 10 == 9));
        self.seen += queued.len();
        assert!(queued.windows(2).all(|pair| pair[0] < pair[1]), "M4, {run}: out of order or twice");
        let there: BTreeSet<u64> = queued.iter().copied().collect();
        let lost = self.confirmed.iter().find(|number| !there.contains(number) && !self.acking.contains(number));
        assert_eq!(lost, None, "M1, {run}: confirmed, but neither delivered nor queued");
        let again = there.iter().find(|number| self.acked.contains(number));
        assert_eq!(again, None, "M2, {run}: acknowledged, but there again");
        if run.round % 10 == 9 {
            self.acking.extend(&there);
            self.acked.extend(there);
        }
    }
}

/// Opens what a child left behind and reads the whole queue; acknowledges it all if asked to.
async fn queued(dir: &Path, drain: bool) -> Vec<u64> {
    let broker = super::at(dir).open().await.unwrap();
    let Ok(status) = broker.queue_status(QUEUE) else {
        broker.close().await.unwrap();
        return Vec::new();
    };
    let mut consumer = consume(&broker, QUEUE, u16::MAX).await;
    let mut deliveries = Vec::new();
    for _ in 0..status.ready {
        deliveries.push(next(&mut consumer).await);
    }
    assert!(consumer.next().now_or_never().is_none());
    let numbers = deliveries.iter().map(|delivery| number(&text(delivery))).collect();
    if let (true, Some(last)) = (drain, deliveries.pop()) {
        last.ack_multiple().await.unwrap();
    }
    broker.close().await.unwrap();
    numbers
}

/// The sabotage: a disk whose syncs return before the last writes have reached the file.
#[derive(Debug)]
struct LyingDisk;

/// How many writes it is behind.
const LAG: usize = 6;

#[derive(Debug)]
struct LyingFile {
    inner: Box<dyn DiskFile>,
    late: Vec<(u64, Vec<u8>)>,
}

impl Disk for LyingDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(LyingFile { inner: SystemDisk.open(path, mode)?, late: Vec::new() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        SystemDisk.lock(path)
    }
}

impl LyingFile {
    fn write_all_but(&mut self, kept: usize) -> io::Result<()> {
        while self.late.len() > kept {
            let (offset, bytes) = self.late.remove(0);
            self.inner.write_at(offset, &mut [IoSlice::new(&bytes)])?;
        }
        Ok(())
    }
}

impl DiskFile for LyingFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.write_all_but(0)?;
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.late.push((offset, bytes));
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.write_all_but(LAG)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.write_all_but(0)?;
        self.inner.set_len(bytes)
    }
}

impl Drop for LyingFile {
    fn drop(&mut self) {
        // A file that is closed in order is written in order: only a kill meets the lie.
        let _ = self.write_all_but(0);
    }
}
