//! The body of a request, as one buffer.
//!
//! Invariant: a body that is too long is refused by its declared length where it has one, and no buffer is larger than what
//! has arrived. All bodies together stay within a named bound.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use durable_core::Clock;
use futures::FutureExt;
use http_body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the bound on all bodies counts in.
const ROOM_UNIT_BYTES: usize = 1024;

/// The memory for bodies.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    units: Arc<Semaphore>,
    units_max: u32,
}

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units_max = u32::try_from(bytes_max / ROOM_UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units_max)
    }
}

/// A body in memory; its room is free again when this is dropped.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) held: Held,
}

/// The room that a body takes.
pub(crate) struct Held {
    _units: OwnedSemaphorePermit,
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLong,
    TooSlow,
    /// The client broke off.
    Broken,
}

/// Reads a body of at most `bytes_max`.
pub(crate) async fn receive<B>(body: B, bytes_max: usize, room: &Room) -> Result<Received, Refused>
where
    B: Body<Data = Bytes>,
{
    let size = body.size_hint();
    let over = |bytes: u64| usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max);
    if over(size.lower()) {
        return Err(Refused::TooLong);
    }
    // Without a declared length, room for the longest is set aside; what was not needed goes back.
    let declared = size.upper().and_then(|bytes| usize::try_from(bytes).ok()).map_or(bytes_max, |it| it.min(bytes_max));
    let units = Arc::clone(&room.units).acquire_many_owned(room.units(declared)).await;
    let mut units = units.map_err(|_| Refused::Broken)?;

    let mut body = pin!(body);
    let mut frames = Frames::default();
    while let Some(data) = next_data(body.as_mut()).await? {
        frames.push(data);
        if frames.bytes > bytes_max {
            return Err(Refused::TooLong);
        }
    }
    let needed = room.units(frames.bytes) as usize;
    drop(units.num_permits().checked_sub(needed).and_then(|spare| units.split(spare)));
    Ok(Received { body: frames.join(), held: Held { _units: units } })
}

/// Reads a body of at most `bytes_max` and forgets it, so that a client that is still sending gets to its answer.
pub(crate) async fn discard<B: Body<Data = Bytes>>(body: B, bytes_max: usize) {
    let mut body = pin!(body);
    let mut bytes = 0;
    while let Ok(Some(data)) = next_data(body.as_mut()).await {
        bytes += data.len();
        if bytes > bytes_max {
            return;
        }
    }
}

async fn next_data<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) -> Result<Option<Bytes>, Refused> {
    loop {
        match poll_fn(|task| body.as_mut().poll_frame(task)).await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Refused::Broken),
            // Trailers say nothing here.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_) => continue,
            },
        }
    }
}

/// What has arrived, copied once at most.
#[derive(Default)]
struct Frames {
    frames: Vec<Bytes>,
    bytes: usize,
}

impl Frames {
    fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    fn join(mut self) -> Bytes {
        if self.frames.len() == 1 {
            return self.frames.pop().unwrap_or_default();
        }
        let mut body = BytesMut::with_capacity(self.bytes);
        self.frames.iter().for_each(|frame| body.extend_from_slice(frame));
        body.freeze()
    }
}

/// The future's output, or `None` once `timeout` has passed. A future that is ready at once costs no timer.
pub(crate) async fn within<F: Future>(clock: &dyn Clock, timeout: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = None;
    poll_fn(|task| match future.as_mut().poll(task) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.get_or_insert_with(|| clock.sleep(timeout)).poll_unpin(task).map(|()| None),
    })
    .await
}
