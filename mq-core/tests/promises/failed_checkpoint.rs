//! A checkpoint that fails costs nothing but disk: the broker goes on, tries again, and forgets nothing.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_core::disk::{DiskFile, DiskLock, OpenMode};
use durable_core::{Disk, ManualClock, SystemDisk};
use mq_core::{Broker, Message, Settings};

use super::{consume, counts, next, queue, send};

/// A call that a disk refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    Nothing,
    /// No file of a checkpoint can be made.
    Creating,
    /// The checkpoint before cannot be removed: the new one is in force by then.
    Removing,
}

#[derive(Clone, Debug)]
struct RefusingDisk {
    /// And how often it did.
    refused: Arc<Mutex<(Refused, usize)>>,
}

impl RefusingDisk {
    fn new() -> Self {
        Self { refused: Arc::new(Mutex::new((Refused::Nothing, 0))) }
    }

    fn set(&self, refused: Refused) {
        *self.refused.lock().unwrap() = (refused, 0);
    }

    async fn has_refused(&self) {
        while self.refused.lock().unwrap().1 == 0 {
            tokio::task::yield_now().await;
        }
    }

    fn check(&self, call: Refused, path: &Path) -> io::Result<()> {
        let mut refused = self.refused.lock().unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        if refused.0 == call && (name.starts_with("checkpoint-") || name.starts_with("parts-")) {
            refused.1 += 1;
            return Err(io::Error::other("refused"));
        }
        Ok(())
    }
}

impl Disk for RefusingDisk {
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
        if mode == OpenMode::CreateNew {
            self.check(Refused::Creating, path)?;
        }
        SystemDisk.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if path.exists() {
            self.check(Refused::Removing, path)?;
        }
        SystemDisk.remove(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        SystemDisk.lock(path)
    }
}

/// The newest checkpoint in the broker's directory.
fn newest(dir: &Path) -> Option<String> {
    let names = SystemDisk.list(&dir.join("journal")).unwrap();
    names.into_iter().filter(|name| name.starts_with("checkpoint-") && !name.ends_with(".tmp")).max()
}

/// Lets time pass until there is a newer checkpoint than `before`.
async fn next_checkpoint(clock: &ManualClock, dir: &Path, before: Option<&String>) {
    while newest(dir).as_ref() <= before {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
}

async fn open(disk: &RefusingDisk, clock: &ManualClock, dir: &Path) -> Broker {
    let settings = Settings::default().with_checkpoint_bytes(20_000);
    let builder = super::at(dir).disk(Arc::new(disk.clone())).clock(Arc::new(clock.clone()));
    builder.settings(settings).open().await.unwrap()
}

fn large() -> Message {
    Message::new(vec![7; 30_000])
}

#[tokio::test]
async fn the_broker_goes_on_and_tries_again() {
    let (disk, clock, dir) = (RefusingDisk::new(), ManualClock::default(), tempfile::tempdir().unwrap());
    let broker = open(&disk, &clock, dir.path()).await;
    broker.declare_queue(queue("q")).await.unwrap();
    disk.set(Refused::Creating);
    broker.publish("", "q", large()).await.unwrap();
    disk.has_refused().await;
    send(&broker, "q", "small").await;
    disk.set(Refused::Nothing);
    // Nothing more is journaled that would ask for it.
    next_checkpoint(&clock, dir.path(), None).await;
    broker.close().await.unwrap();
    let broker = open(&disk, &clock, dir.path()).await;
    assert_eq!(counts(&broker, "q"), (2, 0));
    broker.close().await.unwrap();
}

#[tokio::test]
async fn what_one_left_that_failed_but_is_in_force_goes_with_the_next() {
    let (disk, clock, dir) = (RefusingDisk::new(), ManualClock::default(), tempfile::tempdir().unwrap());
    let broker = open(&disk, &clock, dir.path()).await;
    for name in ["first", "q"] {
        broker.declare_queue(queue(name)).await.unwrap();
    }
    broker.publish("", "first", large()).await.unwrap();
    next_checkpoint(&clock, dir.path(), None).await;
    disk.set(Refused::Removing);
    broker.publish("", "q", large()).await.unwrap();
    disk.has_refused().await;
    let in_force = newest(dir.path());
    next(&mut consume(&broker, "q", 1).await).await.ack().await.unwrap();
    disk.set(Refused::Nothing);
    next_checkpoint(&clock, dir.path(), in_force.as_ref()).await;
    broker.close().await.unwrap();
    let broker = open(&disk, &clock, dir.path()).await;
    assert_eq!((counts(&broker, "first"), counts(&broker, "q")), ((1, 0), (0, 0)), "what was acknowledged is gone");
    broker.close().await.unwrap();
}
