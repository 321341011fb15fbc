//! What waits to be told until the records it follows from are durable.
//!
//! Invariant: parcels leave in the order in which the engine made them, each after every record made before it is
//! durable; a parcel without records of its own overtakes none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable_core::journal::{Frame, Position};
use tokio::sync::mpsc;

use super::mailbox::Mail;

/// Something for a consumer.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) to: mpsc::Sender<Mail>,
    pub(crate) mail: Mail,
}

/// Parcels, and how far the records that they follow from have come.
#[derive(Debug, Default)]
struct Waiting {
    /// By the end of the records that must be durable first.
    parcels: VecDeque<(Position, Vec<Parcel>)>,
    /// The end of the last records that were written.
    written: Position,
    /// Everything below it is durable.
    durable: Position,
}

/// Shared by the broker, which puts parcels in, and the journal's thread, which lets them go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    waiting: Arc<Mutex<Waiting>>,
}

impl Outbox {
    /// Called by the journal with what has become durable.
    pub(crate) fn release(&self, frames: &[Frame]) {
        let Some(durable) = frames.last().map(Frame::end) else { return };
        let mut waiting = self.lock();
        waiting.durable = durable;
        while let Some((_, parcels)) = waiting.parcels.pop_front_if(|(end, _)| *end <= durable) {
            parcels.into_iter().for_each(Parcel::hand_over);
        }
    }

    /// Puts parcels in while `write` gives their records a place; `None` means that they follow from no record of their
    /// own.
    pub(crate) fn put<E>(
        &self,
        parcels: Vec<Parcel>,
        write: impl FnOnce() -> Result<Option<Position>, E>,
    ) -> Result<(), E> {
        // The journal may commit the records before this returns: it then waits for the lock, and finds the parcels.
        let mut waiting = self.lock();
        if let Some(end) = write()? {
            waiting.written = end;
        }
        let end = waiting.written;
        if end <= waiting.durable {
            parcels.into_iter().for_each(Parcel::hand_over);
        } else if !parcels.is_empty() {
            waiting.parcels.push_back((end, parcels));
        }
        Ok(())
    }

    /// Forgets what waits: the journal has failed, so none of it ever becomes durable.
    pub(crate) fn clear(&self) {
        self.lock().parcels.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parcel {
    fn hand_over(self) {
        // There is always room, since a consumer's mailbox holds as many as it may hold unsettled, and one notice. If
        // the consumer is gone, its cancellation gives the message back.
        let _ = self.to.try_send(self.mail);
    }
}
