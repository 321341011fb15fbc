//! What the engine's records are written to, over durable-core: frames, checkpoints, recovery.
//!
//! A broker in memory has no journal: nothing has to wait, so nothing is encoded.

mod checkpoint;
mod recovery;

#[cfg(test)]
pub(crate) use checkpoint::restore;
pub(crate) use checkpoint::{Image, Parts};
pub(crate) use recovery::recover;

use durable_core::journal::{Durability, Journal, Pending, Position, Reservation};

use crate::engine::{Record, encode_frame};
use crate::error::Result;

/// The journal, if the broker has one.
#[derive(Debug)]
pub(crate) struct Log {
    journal: Option<Journal>,
}

/// Room for the records of one command.
#[derive(Debug)]
pub(crate) struct Slot {
    reservation: Option<Reservation>,
    pub(crate) bytes: usize,
}

/// Records on their way.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) pending: Pending,
    /// The first position after them.
    pub(crate) end: Position,
    pub(crate) bytes: usize,
}

impl Log {
    pub(crate) fn new(journal: Option<Journal>) -> Self {
        Self { journal }
    }

    pub(crate) fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Most bytes that one command's records may have.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        let bytes = self.journal.as_ref().map_or(u64::MAX, Journal::frame_bytes_max);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Waits for room; a full disk is met here, before anything has changed.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<Slot> {
        let reservation = match &self.journal {
            Some(journal) => Some(journal.reserve(bytes).await?),
            None => None,
        };
        Ok(Slot { reservation, bytes })
    }
}

impl Slot {
    /// Gives the records their place in the order; nothing to write is nothing to wait for.
    pub(crate) fn write(self, records: &[Record]) -> Result<Option<Written>> {
        let Some(reservation) = self.reservation.filter(|_| !records.is_empty()) else { return Ok(None) };
        let frame = encode_frame(records);
        let bytes = frame.len();
        let span = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let pending = reservation.submit(frame, span, Durability::Journal)?;
        let end = pending.position() + span;
        Ok(Some(Written { pending, end, bytes }))
    }
}
