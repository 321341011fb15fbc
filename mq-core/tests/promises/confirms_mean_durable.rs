//! Nothing is confirmed, delivered or taken as acknowledged before the disk has synced it.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use durable_core::disk::{DiskFile, DiskLock, OpenMode};
use durable_core::{Disk, SystemDisk};
use futures::{FutureExt, StreamExt};
use mq_core::{Broker, ErrorKind, Message, Routing};

use super::{consume, counts, next, queue, send, text};

/// What stands in the way of a sync.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Open,
    /// Syncs wait.
    Shut,
    /// Syncs fail.
    Broken,
}

/// A disk whose syncs can be held up. It sees when the marked bytes come to one.
#[derive(Clone, Debug)]
struct GatedDisk {
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Debug)]
struct GateState {
    gate: Gate,
    /// A sync of the mark waits.
    arrived: bool,
}

const MARK: &[u8] = b"the marked message";

impl GatedDisk {
    fn new() -> Self {
        Self { state: Arc::new((Mutex::new(GateState { gate: Gate::Open, arrived: false }), Condvar::new())) }
    }

    fn set(&self, gate: Gate) {
        self.state.0.lock().unwrap().gate = gate;
        self.state.1.notify_all();
    }

    /// Blocks until the marked bytes were written and their sync is held up.
    fn wait_for_mark(&self) {
        let state = self.state.0.lock().unwrap();
        drop(self.state.1.wait_while(state, |state| !state.arrived).unwrap());
    }
}

#[derive(Debug)]
struct GatedFile {
    inner: Box<dyn DiskFile>,
    disk: GatedDisk,
    marked: bool,
}

impl Disk for GatedDisk {
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
        Ok(Box::new(GatedFile { inner: SystemDisk.open(path, mode)?, disk: self.clone(), marked: false }))
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

impl DiskFile for GatedFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.marked |= slices.iter().any(|slice| slice.windows(MARK.len()).any(|window| window == MARK));
        self.inner.write_at(offset, slices)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let (state, changed) = &*self.disk.state;
        let mut state = state.lock().unwrap();
        if self.marked {
            state.arrived = true;
            changed.notify_all();
        }
        let state = changed.wait_while(state, |state| state.gate == Gate::Shut).unwrap();
        if state.gate == Gate::Broken {
            return Err(io::Error::other("the sync failed"));
        }
        drop(state);
        self.inner.sync_data()
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }
}

async fn open(disk: &GatedDisk, dir: &Path) -> Broker {
    super::at(dir).disk(Arc::new(disk.clone())).open().await.unwrap()
}

fn marked() -> Message {
    Message::new(MARK)
}

#[tokio::test]
async fn a_confirm_and_a_delivery_wait_for_the_sync() {
    let (disk, dir) = (GatedDisk::new(), tempfile::tempdir().unwrap());
    let broker = open(&disk, dir.path()).await;
    broker.declare_queue(queue("q")).await.unwrap();
    let mut consumer = consume(&broker, "q", 9).await;
    disk.set(Gate::Shut);
    let mut confirm = broker.publish_later("", "q", marked(), Routing::Optional).await.unwrap();
    // A transient message behind it may not overtake it on its way to the consumer.
    let transient = broker.publish_later("", "q", Message::new("second").transient(), Routing::Optional);
    transient.await.unwrap().await.unwrap();
    disk.wait_for_mark();
    assert!((&mut confirm).now_or_never().is_none(), "confirmed before the sync");
    assert!(consumer.next().now_or_never().is_none(), "delivered before the sync");
    disk.set(Gate::Open);
    assert_eq!(confirm.await.unwrap().queues(), 1);
    let first = next(&mut consumer).await;
    assert_eq!(&first.body()[..], MARK);
    assert_eq!(text(&next(&mut consumer).await), "second");
    first.ack().await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_delivery_without_a_record_waits_for_what_was_published_before_it() {
    let (disk, dir) = (GatedDisk::new(), tempfile::tempdir().unwrap());
    let broker = open(&disk, dir.path()).await;
    for name in ["unread", "q"] {
        broker.declare_queue(queue(name)).await.unwrap();
    }
    let mut consumer = consume(&broker, "q", 9).await;
    disk.set(Gate::Shut);
    let confirm = broker.publish_later("", "unread", marked(), Routing::Optional).await.unwrap();
    disk.wait_for_mark();
    broker.publish("", "q", Message::new("transient").transient()).await.unwrap();
    assert!(consumer.next().now_or_never().is_none(), "delivered before the sync of an earlier message");
    disk.set(Gate::Open);
    assert_eq!(text(&next(&mut consumer).await), "transient");
    confirm.await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
async fn an_equal_declaration_is_not_answered_before_the_first_one_is_durable() {
    let (disk, dir) = (GatedDisk::new(), tempfile::tempdir().unwrap());
    let broker = open(&disk, dir.path()).await;
    broker.declare_queue(queue("early")).await.unwrap();
    disk.set(Gate::Shut);
    let confirm = broker.publish_later("", "early", marked(), Routing::Optional).await.unwrap();
    let mut first = Box::pin(broker.declare_queue(queue("q")));
    assert!(first.as_mut().now_or_never().is_none());
    let mut second = Box::pin(broker.declare_queue(queue("q")));
    disk.wait_for_mark();
    assert!(second.as_mut().now_or_never().is_none(), "answered before the queue is durable");
    disk.set(Gate::Open);
    first.await.unwrap();
    second.await.unwrap();
    confirm.await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_confirmed_and_the_next_opening_knows() {
    let (disk, dir) = (GatedDisk::new(), tempfile::tempdir().unwrap());
    let broker = open(&disk, dir.path()).await;
    broker.declare_queue(queue("q")).await.unwrap();
    send(&broker, "q", "confirmed").await;
    let mut consumer = consume(&broker, "q", 9).await;
    let held = next(&mut consumer).await;
    disk.set(Gate::Broken);
    let error = broker.publish("", "q", marked()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, Some("CONNECTION_FORCED")), "{error:?}");
    disk.set(Gate::Open);
    assert_eq!(broker.publish("", "q", Message::new("later")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(held.ack().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let notice = consumer.next().await.unwrap().unwrap_err();
    assert_eq!(notice.kind(), ErrorKind::Unavailable);
    assert!(consumer.next().await.is_none());
    assert_eq!(broker.close().await.unwrap_err().kind(), ErrorKind::Unavailable);

    let broker = open(&disk, dir.path()).await;
    let (ready, unacked) = counts(&broker, "q");
    assert!((1..=2).contains(&ready) && unacked == 0, "the unconfirmed message may or may not be there: {ready}");
    let mut consumer = consume(&broker, "q", 9).await;
    let again = next(&mut consumer).await;
    assert_eq!((text(&again), again.redelivered()), ("confirmed".into(), true));
    broker.close().await.unwrap();
}
