//! The thin driver: one thread that writes, one that allocates ahead.
//!
//! Everything that arrives while one group is being made durable forms the next: group commit without a timer, the sync
//! itself is the window. Invariant: the hook has seen a frame before its append is acknowledged, and a frame is durable
//! before the hook sees it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::runtime::Handle;

use super::dir::{DirAllocator, DirWriter};
use super::frame::{Frame, Position};
use super::group::{self, Group};
use super::object::ObjectWriter;
use super::queue::{Barrier, Ending, Queue, Room, State, Submitted};
use crate::{Error, ErrorKind, Result};

/// The most bytes of frames in one group, a single larger frame aside: bounds how long an append waits for others.
pub const GROUP_BYTES_MAX: u64 = 4 << 20;
/// How many positions are reserved ahead, so that memory-only appends need not wait.
const MARK_STRIDE: u64 = 1 << 20;

/// Called with each stretch of durable frames, in order.
pub(crate) type Hook = Box<dyn FnMut(&[Frame]) + Send>;

/// Where groups go.
#[derive(Debug)]
pub(crate) enum Writer {
    /// Nowhere: durable means in memory.
    Memory { group: u64, next: Position },
    /// A local directory.
    Dir(DirWriter),
    /// An object store, driven on a runtime.
    Object(ObjectWriter, Handle),
}

impl Writer {
    fn next_group(&self) -> u64 {
        match self {
            Self::Memory { group, .. } => *group,
            Self::Dir(writer) => writer.next_group(),
            Self::Object(writer, _) => writer.next_group(),
        }
    }

    pub(crate) fn next_position(&self) -> Position {
        match self {
            Self::Memory { next, .. } => *next,
            Self::Dir(writer) => writer.next_position(),
            Self::Object(writer, _) => writer.next_position(),
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        match self {
            Self::Memory { .. } => 1,
            Self::Dir(writer) => writer.epoch(),
            Self::Object(writer, _) => writer.epoch(),
        }
    }

    pub(crate) fn room(&self) -> Room {
        match self {
            Self::Dir(writer) => Room::Bytes(writer.room()),
            Self::Memory { .. } | Self::Object(..) => Room::Unbounded,
        }
    }

    /// How many bytes the next group may have.
    fn group_bytes_max(&self) -> u64 {
        match self {
            Self::Dir(writer) => writer.left().min(GROUP_BYTES_MAX),
            Self::Memory { .. } | Self::Object(..) => GROUP_BYTES_MAX,
        }
    }

    fn commit(&mut self, group: &Group) -> Result<()> {
        match self {
            Self::Memory { group: next_group, next } => {
                *next_group = group.number + 1;
                *next = group.end();
                Ok(())
            }
            Self::Dir(writer) => writer.commit(group),
            Self::Object(writer, runtime) => runtime.block_on(writer.commit(group)),
        }
    }

    fn seal(&mut self) -> Result<()> {
        match self {
            Self::Dir(writer) => writer.seal(),
            Self::Memory { .. } | Self::Object(..) => Ok(()),
        }
    }
}

/// Poisons the journal if its thread ends in any way but the intended one.
struct Guard {
    queue: Arc<Queue>,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.queue.poison(Error::new(ErrorKind::Internal, "the journal's thread panicked; open the journal anew"));
        }
    }
}

/// Writes until the journal ends; answers how that went.
pub(crate) fn write(queue: &Arc<Queue>, mut writer: Writer, mut hook: Hook) -> Result<()> {
    let mut guard = Guard { queue: queue.clone(), armed: true };
    let (mut batch, mut barriers) = (VecDeque::new(), Vec::new());
    let ended = loop {
        let ending = gather(queue, &mut batch, &mut barriers);
        if !batch.is_empty() || barriers.iter().any(|barrier| barrier.prove) {
            if let Err(error) = commit(queue, &mut writer, &mut hook, &mut batch) {
                queue.lock().barriers.append(&mut barriers);
                queue.poison(error.duplicate());
                break Err(error);
            }
            // That commit began after each of them was asked for.
            barriers.iter_mut().for_each(|barrier| barrier.prove = false);
        }
        let durable = queue.lock().durable;
        for barrier in barriers.extract_if(.., |barrier| barrier.upto <= durable) {
            // Whoever asked may be gone.
            let _ = barrier.answer.send(Ok(()));
        }
        let done = {
            let state = queue.lock();
            let idle = batch.is_empty() && barriers.is_empty();
            idle && ending != Ending::Open && state.pending.is_empty() && state.barriers.is_empty()
        };
        if done {
            await_allocator(queue);
            break if ending == Ending::Seal { writer.seal() } else { Ok(()) };
        }
    };
    guard.armed = false;
    queue.shut();
    // The allocator ends too.
    queue.lock().ending = if ended.is_ok() { Ending::Seal } else { Ending::Drain };
    queue.allocate.notify_all();
    ended
}

/// Waits until the allocator has ended what it was at: nothing may follow a seal.
fn await_allocator(queue: &Queue) {
    let mut state = queue.lock();
    while state.allocating {
        state = queue.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits for something to do and adds it to `batch` and `barriers`.
fn gather(queue: &Queue, batch: &mut VecDeque<Submitted>, barriers: &mut Vec<Barrier>) -> Ending {
    let mut state = queue.lock();
    while batch.is_empty() && state.pending.is_empty() && state.barriers.is_empty() && state.ending == Ending::Open {
        state = queue.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    batch.extend(state.pending.drain(..));
    barriers.append(&mut state.barriers);
    state.ending
}

/// Makes the next group of `batch` durable, shows it to the hook and acknowledges it.
fn commit(queue: &Queue, writer: &mut Writer, hook: &mut Hook, batch: &mut VecDeque<Submitted>) -> Result<()> {
    let (frames, acks, charge) = take_group(writer.group_bytes_max(), batch);
    let first = frames.first().map_or(writer.next_position(), |frame| frame.position);
    let end = frames.last().map_or(first, Frame::end);
    let mark = Position(end.0 + MARK_STRIDE);
    let group = Group::new(writer.next_group(), writer.epoch(), first, mark, frames);
    if let Err(error) = writer.commit(&group) {
        // First of all, so that whoever hears of the failure finds the journal poisoned.
        queue.poison(error.duplicate());
        for ack in acks.into_iter().flatten() {
            let _ = ack.send(Err(error.duplicate()));
        }
        for submitted in batch.drain(..) {
            if let Some(ack) = submitted.ack {
                let _ = ack.send(Err(error.duplicate()));
            }
        }
        return Err(error);
    }
    if !group.frames.is_empty() {
        hook(&group.frames);
    }
    {
        let mut state = queue.lock();
        state.durable = end;
        state.mark = mark;
        state.written(writer.room(), charge);
        ask_for_segment(queue, writer, &mut state);
    }
    for (ack, frame) in acks.into_iter().zip(&group.frames) {
        if let Some(ack) = ack {
            // A waiter that is gone needs no answer; the append stands.
            let _ = ack.send(Ok(frame.position));
        }
    }
    Ok(())
}

fn ask_for_segment(queue: &Queue, writer: &Writer, state: &mut State) {
    if let Writer::Dir(writer) = writer
        && writer.wants_segment()
        && !state.wants_segment
    {
        state.wants_segment = true;
        queue.allocate.notify_one();
    }
}

type Ack = Option<tokio::sync::oneshot::Sender<Result<Position>>>;

/// Takes as many frames as one group holds, at least one if there is one.
fn take_group(bytes_max: u64, batch: &mut VecDeque<Submitted>) -> (Vec<Frame>, Vec<Ack>, u64) {
    let mut frames = Vec::with_capacity(batch.len());
    let mut acks = Vec::with_capacity(batch.len());
    let mut charge = 0;
    let mut bytes = group::GROUP_HEADER_BYTES as u64;
    // The first frame begins a new segment if this one has no room for it, and then others may join it there.
    let first = batch.front().map_or(0, |submitted| submitted.charge);
    let bytes_max = if first > bytes_max { GROUP_BYTES_MAX.min(4 * first).max(first) } else { bytes_max };
    let bytes_max = bytes_max - bytes_max % group::BLOCK_BYTES;
    while let Some(submitted) = batch.front() {
        bytes += (group::FRAME_HEADER_BYTES + submitted.frame.body.len()) as u64;
        if bytes > bytes_max && !frames.is_empty() {
            break;
        }
        let Some(submitted) = batch.pop_front() else { break };
        charge += submitted.charge;
        frames.push(submitted.frame);
        acks.push(submitted.ack);
    }
    (frames, acks, charge)
}

/// Allocates segments whenever the writer or a reservation wants one, until the journal ends.
pub(crate) fn allocate(queue: &Queue, allocator: &DirAllocator) {
    let mut filling = Filling::default();
    loop {
        {
            let mut state = queue.lock();
            while !state.wants_segment && state.ending == Ending::Open && state.poison.is_none() {
                state = queue.allocate.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.ending != Ending::Open || state.poison.is_some() {
                return;
            }
            state.allocating = true;
        }
        let allocated = filling.allocate(queue, allocator);
        {
            let mut state = queue.lock();
            state.allocating = false;
            queue.work.notify_one();
            state.wants_segment = false;
            if allocated.is_ok() {
                state.allocated(Room::Bytes(allocator.room()));
            }
        }
        queue.allocations.send_modify(|allocation| {
            allocation.attempts += 1;
            allocation.failure = allocated.err().map(Arc::new);
        });
    }
}

/// Whether segments are filled with zeros before they are used: not while appends wait for them, since the zeros take
/// their share of the disk. The first one is, although the first append waits for it: a journal may never fill it.
#[derive(Debug, Default)]
struct Filling {
    begun: bool,
    /// How many segments are still to be allocated without.
    skip: u32,
    /// How many were to be, when an append had to wait last.
    skipped: u32,
}

impl Filling {
    /// The most segments that are allocated without zeros before they are tried again.
    const SKIP_MAX: u32 = 15;

    fn allocate(&mut self, queue: &Queue, allocator: &DirAllocator) -> Result<()> {
        if !self.begun {
            allocator.allocate()?;
            self.begun = true;
            return Ok(());
        }
        if let Some(left) = self.skip.checked_sub(1) {
            self.skip = left;
            return allocator.allocate_unless(&|| true);
        }
        let was_hurried = Cell::new(false);
        let allocated = allocator.allocate_unless(&|| {
            // Whoever waits for room watches the allocations.
            was_hurried.set(was_hurried.get() || queue.allocations.receiver_count() > 0);
            was_hurried.get()
        });
        self.skipped = if was_hurried.get() { (self.skipped * 2 + 1).min(Self::SKIP_MAX) } else { 0 };
        self.skip = self.skipped;
        allocated
    }
}
