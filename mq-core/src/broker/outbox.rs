//! What waits to be told until the records it follows from are durable.
//!
//! Invariant: parcels leave in the order in which the engine made them, each after every record made before it is
//! durable; a parcel without records of its own overtakes none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use durable_core::journal::{Frame, Position};
use tokio::sync::mpsc;

use crate::engine::Handover;
use crate::error::Error;

/// What a consumer finds in its mailbox.
pub(crate) type Mail = Result<Handover, Error>;

/// Something for a consumer.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) to: mpsc::Sender<Mail>,
    pub(crate) mail: Mail,
}

/// Parcels, and the end of the records that they follow from.
type Waiting = VecDeque<(Position, Vec<Parcel>)>;

/// Shared by the broker, which puts parcels in, and the journal's thread, which lets them go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    waiting: Arc<Mutex<Waiting>>,
}

impl Outbox {
    /// Called by the journal with what has become durable.
    pub(crate) fn release(&self, frames: &[Frame]) {
        let Some(durable) = frames.last().map(Frame::end) else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, parcels)) = waiting.pop_front_if(|(end, _)| *end <= durable) {
            parcels.into_iter().for_each(Parcel::hand_over);
        }
    }

    /// Puts parcels in while `write` gives their records a place; `None` means that they follow from no record.
    pub(crate) fn put<E>(
        &self,
        parcels: Vec<Parcel>,
        write: impl FnOnce() -> Result<Option<Position>, E>,
    ) -> Result<(), E> {
        // The journal may commit the records before this returns: it then waits for the lock, and finds the parcels.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let end = write()?;
        match (end, waiting.back_mut()) {
            _ if parcels.is_empty() => {}
            (Some(end), _) => waiting.push_back((end, parcels)),
            (None, Some((_, last))) => last.extend(parcels),
            (None, None) => parcels.into_iter().for_each(Parcel::hand_over),
        }
        Ok(())
    }

    /// Forgets what waits: the journal has failed, so none of it ever becomes durable.
    pub(crate) fn clear(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Parcel {
    fn hand_over(self) {
        // There is always room, since a consumer's mailbox holds as many as it may hold unsettled, and one notice. If
        // the consumer is gone, its cancellation gives the message back.
        let _ = self.to.try_send(self.mail);
    }
}
