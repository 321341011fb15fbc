//! What follows from a change without being asked for: expiry, delivery, overflow.

use super::bound::{PLACE_BYTES, RECORD_BYTES};
use super::consumers::handover;
use super::record::{Place, Record};
use super::{Engine, Step};
use crate::error::Result;
use crate::queue::{DeathReason, Entry, Millis, QueueId};

/// Whether a message has waited too long.
type IsDue = fn(&Entry, Millis) -> bool;

impl Engine {
    /// Lets every touched queue come to rest: poison and what is due is buried, what consumers can take is delivered,
    /// what is too much is dropped. Dead letters touch further queues. What exceeds the step's spare room stays touched
    /// for the next command or `Tick`.
    pub(super) fn advance(&mut self, now: Millis, step: &mut Step) -> Result<()> {
        self.touched.extend(self.state.due(now));
        let mut unfinished = Vec::new();
        while let Some(id) = self.touched.pop_first() {
            if !self.state.queues.contains_key(&id) {
                self.poison.remove(&id);
            } else if !self.rest(now, id, step)? {
                unfinished.push(id);
                if step.spare < RECORD_BYTES {
                    break;
                }
            }
        }
        self.touched.extend(unfinished);
        Ok(())
    }

    /// Answers whether the queue has come to rest.
    fn rest(&mut self, now: Millis, id: QueueId, step: &mut Step) -> Result<bool> {
        loop {
            if !self.bury_poison(now, id, step)? || !self.expire(now, id, Entry::is_too_late, step)? {
                return Ok(false);
            }
            if self.dispatch(now, id, step)? == Dispatch::NoRoom || !self.drop_overflow(now, id, step)? {
                return Ok(false);
            }
            // What stood behind those that left may be due, and nobody took what may not wait at all.
            if !self.state.queue(id)?.front().is_some_and(|entry| entry.is_expired(now)) {
                break;
            }
            if !self.expire(now, id, Entry::is_expired, step)? {
                return Ok(false);
            }
        }
        self.state.set_timer(id);
        Ok(true)
    }

    /// Buries what came back too often. Answers whether all of it is gone.
    fn bury_poison(&mut self, now: Millis, id: QueueId, step: &mut Step) -> Result<bool> {
        while let Some(seq) = self.poison.get(&id).and_then(|seqs| seqs.first().copied()) {
            // Meanwhile it may have been purged.
            let waits = self.state.queue(id)?.entry(seq).is_some();
            if waits && !self.try_bury(now, Place { queue: id, seq }, DeathReason::DeliveryLimit, step)? {
                return Ok(false);
            }
            if let Some(seqs) = self.poison.get_mut(&id) {
                seqs.remove(&seq);
            }
        }
        self.poison.remove(&id);
        Ok(true)
    }

    /// Buries the oldest messages as far as they are due. Answers whether all of those are gone.
    fn expire(&mut self, now: Millis, id: QueueId, is_due: IsDue, step: &mut Step) -> Result<bool> {
        while let Some(entry) = self.state.queue(id)?.front().filter(|entry| is_due(entry, now)) {
            let from = Place { queue: id, seq: entry.seq };
            if !self.try_bury(now, from, DeathReason::Expired, step)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops the oldest ready messages of a queue that is too long. Answers whether it is short enough now.
    fn drop_overflow(&mut self, now: Millis, id: QueueId, step: &mut Step) -> Result<bool> {
        while let Some(entry) = self.state.queue(id)?.overflowing() {
            let from = Place { queue: id, seq: entry.seq };
            if !self.try_bury(now, from, DeathReason::MaxLength, step)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Buries a message if there is room for the record of it.
    fn try_bury(&mut self, now: Millis, from: Place, reason: DeathReason, step: &mut Step) -> Result<bool> {
        let burial = self.burial(now, from, reason)?;
        let Some(spare) = step.spare.checked_sub(burial.bound()) else { return Ok(false) };
        step.spare = spare;
        self.bury(burial, step)?;
        Ok(true)
    }

    /// Hands ready messages to consumers that have credit, in turn.
    fn dispatch(&mut self, now: Millis, id: QueueId, step: &mut Step) -> Result<Dispatch> {
        let mut end = Dispatch::Done;
        let mut seqs: Vec<u64> = Vec::new();
        let mut handovers = Vec::new();
        let mut room = step.spare.saturating_sub(RECORD_BYTES);
        let hungry = self.consumers.is_hungry(id);
        for entry in self.state.queue(id)?.ready().take_while(|_| hungry) {
            let bytes = if seqs.last().is_some_and(|last| last + 1 == entry.seq) { 0 } else { PLACE_BYTES };
            if !self.consumers.is_hungry(id) {
                break;
            }
            if entry.is_too_late(now) {
                break;
            }
            if bytes > room {
                end = Dispatch::NoRoom;
                break;
            }
            let Some(tag) = self.consumers.assign(id, entry.seq) else { break };
            room -= bytes;
            seqs.push(entry.seq);
            handovers.push(handover(tag, entry));
        }
        if !seqs.is_empty() {
            step.spare = room;
            self.emit(&Record::Delivered { queue: id, seqs }, step)?;
            step.effects.append(&mut handovers);
        }
        Ok(end)
    }
}

/// Why handing out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dispatch {
    /// No consumer has credit, or no message is ready that is not due to expire.
    Done,
    /// The step has no room for a longer record.
    NoRoom,
}
