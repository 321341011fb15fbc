//! Reading a journal at its opening, and starting it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::checkpoint::Checkpoint;
use super::dir::{DirAllocator, DirRecovery};
use super::driver::{self, Hook, Writer};
use super::frame::{Frame, Position};
use super::object::{OBJECT_FRAME_BYTES_MAX, ObjectRecovery};
use super::queue::{self, Queue};
use super::{Checkpoints, Inner, Journal, Level};
use crate::{Error, ErrorKind, Result};

/// How many bytes of frames are read ahead in one hop to a blocking thread.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// A journal at its opening: the newest checkpoint, then the frames after it, then [`start`](Self::start).
#[derive(Debug)]
pub struct Recovery {
    from: From,
    ahead: VecDeque<Frame>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug)]
enum From {
    Memory,
    Dir(Option<Box<DirRecovery>>),
    Object(Box<ObjectRecovery>),
}

impl Recovery {
    pub(super) fn memory() -> Self {
        Self { from: From::Memory, ahead: VecDeque::new(), checkpoint: None }
    }

    pub(super) fn dir(dir: DirRecovery) -> Self {
        let checkpoint = dir.checkpoint().cloned();
        Self { from: From::Dir(Some(Box::new(dir))), ahead: VecDeque::new(), checkpoint }
    }

    pub(super) fn object(object: ObjectRecovery) -> Self {
        let checkpoint = object.checkpoint().cloned();
        Self { from: From::Object(Box::new(object)), ahead: VecDeque::new(), checkpoint }
    }

    /// The newest checkpoint: the state of everything below its position.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The next frame at or after the checkpoint, in order; `None` at the end.
    ///
    /// Dropping the future ends the recovery: open the journal anew.
    ///
    /// # Errors
    /// `Corrupt` where the journal is damaged, with file and offset: nothing damaged is ever served. `Unavailable` as
    /// disk or store report it.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        if self.ahead.is_empty() {
            match &mut self.from {
                From::Memory => {}
                From::Dir(dir) => {
                    let recovery = dir.take().ok_or_else(interrupted)?;
                    let (recovery, frames) = blocking(move || read_ahead(recovery)).await??;
                    *dir = Some(recovery);
                    self.ahead = frames;
                }
                From::Object(object) => self.ahead.extend(object.next_frames().await?.unwrap_or_default()),
            }
        }
        Ok(self.ahead.pop_front())
    }

    /// Starts the journal; frames that were not read are skipped.
    ///
    /// `on_commit` sees every new frame exactly once, in order, when it is durable and before its append is
    /// acknowledged. It runs on the journal's thread: it must be quick, and never wait for the journal.
    ///
    /// Dropping the future leaves the journal unstarted.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn start(self, on_commit: impl FnMut(&[Frame]) + Send + 'static) -> Result<Journal> {
        let runtime = runtime()?;
        let hook: Hook = Box::new(on_commit);
        match self.from {
            From::Memory => {
                let writer = Writer::Memory { group: 1, next: Position::ZERO };
                run(writer, None, Checkpoints::Memory, Level::Memory, queue::FRAME_BYTES_MAX, hook)
            }
            From::Dir(recovery) => {
                let recovery = recovery.ok_or_else(interrupted)?;
                let (writer, allocator, checkpoints) = blocking(move || recovery.start()).await??;
                let bytes_max = writer.frame_bytes_max();
                let checkpoints = Checkpoints::Dir(Mutex::new(Some(checkpoints)));
                run(Writer::Dir(writer), Some(allocator), checkpoints, Level::Disk, bytes_max, hook)
            }
            From::Object(recovery) => {
                let (writer, checkpoints) = recovery.start().await?;
                let checkpoints = Checkpoints::Object(tokio::sync::Mutex::new(Some(checkpoints)));
                let writer = Writer::Object(writer, runtime);
                run(writer, None, checkpoints, Level::Store, OBJECT_FRAME_BYTES_MAX, hook)
            }
        }
    }
}

fn read_ahead(mut recovery: Box<DirRecovery>) -> Result<(Box<DirRecovery>, VecDeque<Frame>)> {
    let mut frames = VecDeque::new();
    let mut bytes = 0;
    while bytes < READ_AHEAD_BYTES {
        let Some(group) = recovery.next_frames()? else { break };
        bytes += group.iter().map(|frame| frame.body.len()).sum::<usize>();
        frames.extend(group);
    }
    Ok((recovery, frames))
}

/// Starts the journal's threads.
fn run(
    writer: Writer,
    allocator: Option<DirAllocator>,
    checkpoints: Checkpoints,
    level: Level,
    frame_bytes_max: u64,
    hook: Hook,
) -> Result<Journal> {
    let epoch = writer.epoch();
    let frame_bytes_max = frame_bytes_max.min(queue::FRAME_BYTES_MAX);
    let queue = Arc::new(Queue::new(writer.next_position(), writer.room(), frame_bytes_max));
    let allocating = match allocator {
        Some(allocator) => {
            // The first append finds its segment, or waits for it less.
            queue.lock().wants_segment = true;
            let queue = queue.clone();
            Some(thread("journal-allocate", move || driver::allocate(&queue, &allocator))?)
        }
        None => None,
    };
    let (end, ended) = watch::channel(None);
    let writing = queue.clone();
    thread("journal-write", move || {
        let allocating = Joined(allocating);
        let result = driver::write(&writing, writer, hook);
        drop(allocating);
        end.send_replace(Some(Arc::new(result)));
    })?;
    Ok(Journal { inner: Arc::new(Inner { queue, checkpoints: Arc::new(checkpoints), ended, level, epoch }) })
}

/// A thread that has ended once this is dropped, also when the hook panics: whoever hears that the journal ended finds
/// its directory free.
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // Its panic would be a bug of ours that the writer met as a missing segment.
            let _ = thread.join();
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error| Error::new(ErrorKind::Unavailable, format!("no thread {name}")).with_source(error))
}

/// The runtime that the caller runs on.
pub(super) fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        let message = "a journal is opened inside a tokio runtime; call it from an async fn of one";
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    runtime()?
        .spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "a blocking thread did not finish").with_source(error))
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Closed, "this recovery was interrupted; open the journal anew")
}
