//! What waits to be written: the one place where the order is fixed.
//!
//! Appends reserve room first, in the queue and on the disk, so that what was submitted always finds its place: a full
//! disk is met by [`reserve`](super::Journal::reserve), before a service has acted on what it appends.
//!
//! Invariant: positions are given in the order of submission, which is the order of writing and of recovery.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::frame::{Durability, Frame, Position};
use super::group;
use crate::{Error, ErrorKind, Result};

/// How many bytes of frames may wait to be written; the next append waits.
pub const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// The most bytes that one frame of any journal may have: alone, with its headers, it fits the queue.
pub(crate) const FRAME_BYTES_MAX: u64 = QUEUE_BYTES_MAX - group::BLOCK_BYTES;

/// A frame on its way.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) frame: Frame,
    pub(crate) ack: Option<oneshot::Sender<Result<Position>>>,
    pub(crate) charge: u64,
    _permit: OwnedSemaphorePermit,
}

/// Room on the disk, as the writer last saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// This many bytes are allocated and unwritten.
    Bytes(u64),
    /// The journal allocates nothing ahead.
    Unbounded,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) pending: Vec<Submitted>,
    pub(crate) next: Position,
    /// Positions below it are reserved durably: they are never given again, even if their frames are lost.
    pub(crate) mark: Position,
    pub(crate) durable: Position,
    room: Room,
    /// What was reserved but is not written yet.
    outstanding: u64,
    pub(crate) ending: Ending,
    pub(crate) poison: Option<Error>,
    /// Who waits for what was submitted to be durable, or for a proof.
    pub(crate) barriers: Vec<Barrier>,
    pub(crate) wants_segment: bool,
    /// Whether the allocator is at work; once the journal is ending it does not begin again.
    pub(crate) allocating: bool,
}

/// One who waits until what was submitted before is durable, whatever is submitted after.
#[derive(Debug)]
pub(crate) struct Barrier {
    /// Everything below it must be durable.
    pub(crate) upto: Position,
    /// Whether a group must be written even if no frame waits: it proves that no newer writer has taken over.
    pub(crate) prove: bool,
    pub(crate) answer: oneshot::Sender<Result<()>>,
}

/// How the journal is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not at all.
    Open,
    /// Write what waits, and stop.
    Drain,
    /// Write what waits, seal, and stop.
    Seal,
}

/// Shared by the handles, the writer thread and the allocator thread.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Rouses the writer.
    pub(crate) work: Condvar,
    /// Rouses the allocator.
    pub(crate) allocate: Condvar,
    blocks: Arc<Semaphore>,
    /// Counts the attempts to allocate, with the error of the last one.
    pub(crate) allocations: watch::Sender<Allocation>,
    pub(crate) frame_bytes_max: u64,
}

/// The last attempt to allocate a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allocation {
    pub(crate) attempts: u64,
    pub(crate) failure: Option<Arc<Error>>,
}

impl Queue {
    pub(crate) fn new(next: Position, room: Room, frame_bytes_max: u64) -> Self {
        let state = State {
            pending: Vec::new(),
            next,
            mark: next,
            durable: next,
            room,
            outstanding: 0,
            ending: Ending::Open,
            poison: None,
            barriers: Vec::new(),
            wants_segment: false,
            allocating: false,
        };
        let blocks = usize::try_from(QUEUE_BYTES_MAX / group::BLOCK_BYTES).unwrap_or(usize::MAX);
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            allocate: Condvar::new(),
            blocks: Arc::new(Semaphore::new(blocks)),
            allocations: watch::Sender::new(Allocation::default()),
            frame_bytes_max,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room for a frame of this many bytes.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation> {
        if bytes as u64 > self.frame_bytes_max {
            let message = format!("a frame of {bytes} bytes; this journal takes up to {}", self.frame_bytes_max);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let charge = group::charge(bytes);
        let blocks = u32::try_from(charge / group::BLOCK_BYTES).unwrap_or(u32::MAX);
        let permit = self.blocks.clone().acquire_many_owned(blocks).await;
        let permit = permit.map_err(|_| self.lock().refusal())?;
        // Who finds room need not watch for more: with many writers the watch costs more than the room.
        if !self.lock().take(charge)? {
            self.wait_for_room(charge).await?;
        }
        Ok(Reservation { queue: self.clone(), permit: Some(permit), charge, bytes })
    }

    /// Takes room on the disk once there is some.
    async fn wait_for_room(&self, charge: u64) -> Result<()> {
        let mut attempts = self.allocations.subscribe();
        loop {
            let seen = attempts.borrow_and_update().attempts;
            {
                let mut state = self.lock();
                if state.take(charge)? {
                    return Ok(());
                }
                state.wants_segment = true;
                self.allocate.notify_one();
            }
            if attempts.wait_for(|allocation| allocation.attempts > seen).await.is_err() {
                return Err(self.lock().refusal());
            }
            if let Some(failure) = &attempts.borrow().failure {
                return Err(failure.duplicate());
            }
        }
    }

    /// Ends all waiting with the journal's refusal.
    pub(crate) fn shut(&self) {
        self.blocks.close();
        self.allocations.send_modify(|allocation| allocation.attempts += 1);
    }

    /// Fails everything that waits, now and from now on.
    pub(crate) fn poison(&self, error: Error) {
        let (pending, barriers, refusal) = {
            let mut state = self.lock();
            let refusal = state.poison.get_or_insert(error).duplicate();
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.barriers), refusal)
        };
        for submitted in pending {
            if let Some(ack) = submitted.ack {
                // A waiter that is gone needs no answer.
                let _ = ack.send(Err(refusal.duplicate()));
            }
        }
        for barrier in barriers {
            let _ = barrier.answer.send(Err(refusal.duplicate()));
        }
        self.shut();
        // The allocator ends, and lets the directory go.
        self.allocate.notify_all();
    }
}

impl State {
    /// Refuses if the journal was poisoned or closed.
    pub(crate) fn check(&self) -> Result<()> {
        match (&self.poison, self.ending) {
            (None, Ending::Open) => Ok(()),
            _ => Err(self.refusal()),
        }
    }

    pub(crate) fn refusal(&self) -> Error {
        match &self.poison {
            Some(poison) => poison.duplicate(),
            None => Error::new(ErrorKind::Closed, "the journal is closed; open it anew"),
        }
    }

    /// Takes room on the disk, if there is so much.
    fn take(&mut self, charge: u64) -> Result<bool> {
        self.check()?;
        let fits = match self.room {
            Room::Unbounded => true,
            Room::Bytes(room) => self.outstanding + charge <= room,
        };
        if fits {
            self.outstanding += charge;
        }
        Ok(fits)
    }

    /// The writer's new view of the disk, after it wrote frames of this charge.
    pub(crate) fn written(&mut self, room: Room, charge: u64) {
        self.room = room;
        self.outstanding = self.outstanding.saturating_sub(charge);
    }

    /// A new segment has come.
    pub(crate) fn allocated(&mut self, room: Room) {
        self.room = room;
        self.wants_segment = false;
    }
}

/// Room for one frame. Dropping it gives the room back.
#[derive(Debug)]
pub struct Reservation {
    queue: Arc<Queue>,
    permit: Option<OwnedSemaphorePermit>,
    charge: u64,
    bytes: usize,
}

impl Reservation {
    /// Gives the frame its place in the order, at once: call it under the lock that guards the service's own order.
    ///
    /// The frame takes `span` positions (at least 1). With [`Durability::Memory`] the answer is ready at once.
    ///
    /// # Errors
    /// `InvalidInput` if the body is larger than was reserved; `Closed` or the poison if the journal ended meanwhile.
    pub fn submit(mut self, body: Bytes, span: u32, durability: Durability) -> Result<Pending> {
        if body.len() > self.bytes {
            let message = format!("a frame of {} bytes on a reservation of {}", body.len(), self.bytes);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let queue = self.queue.clone();
        let mut state = queue.lock();
        state.check()?;
        let Some(permit) = self.permit.take() else {
            return Err(Error::new(ErrorKind::Internal, "a reservation was used twice"));
        };
        let frame = Frame::new(state.next, span.max(1), body);
        let position = frame.position;
        state.next = frame.end();
        let answer = if durability == Durability::Memory && frame.end() <= state.mark {
            None
        } else {
            let (ack, answer) = oneshot::channel();
            Some((ack, answer))
        };
        let (ack, answer) = answer.map_or((None, None), |(ack, answer)| (Some(ack), Some(answer)));
        state.pending.push(Submitted { frame, ack, charge: self.charge, _permit: permit });
        if state.pending.len() == 1 {
            queue.work.notify_one();
        }
        Ok(Pending { position, answer })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.permit.is_some() {
            let mut state = self.queue.lock();
            state.outstanding = state.outstanding.saturating_sub(self.charge);
        }
    }
}

/// An append on its way: a future of its position. Dropping it does not undo the append.
#[derive(Debug)]
pub struct Pending {
    position: Position,
    answer: Option<oneshot::Receiver<Result<Position>>>,
}

impl Pending {
    /// The position it has, durable or not yet.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Future for Pending {
    type Output = Result<Position>;

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        let position = self.position;
        let Some(answer) = self.answer.as_mut() else { return std::task::Poll::Ready(Ok(position)) };
        std::pin::Pin::new(answer).poll(context).map(|answer| match answer {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "the journal's thread is gone; open the journal anew")),
        })
    }
}
