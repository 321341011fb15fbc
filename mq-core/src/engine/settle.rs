//! Settling deliveries: ack, requeue, reject; and at recovery, those whose holders are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bound::{PLACE_BYTES, RECORD_BYTES, message_bound};
use super::command::{Verdict, Which};
use super::consumers::Held;
use super::effect::{Effect, Loss};
use super::record::{Place, Record};
use super::{Engine, Step};
use crate::error::Result;
use crate::queue::{DeathReason, Millis, QueueId, Stored, closes_a_cycle, stamp};

impl Engine {
    pub(super) fn settle(&mut self, now: Millis, which: &Which, verdict: Verdict, step: &mut Step) -> Result<()> {
        let held = self.consumers.find(which)?;
        if verdict == Verdict::Requeue {
            return self.give_back(held, true, step);
        }
        for (queue, seqs) in self.release(held) {
            if verdict == Verdict::Ack {
                self.emit(&Record::Removed { queue, seqs }, step)?;
                continue;
            }
            for seq in seqs {
                let burial = self.burial(now, Place { queue, seq }, DeathReason::Rejected)?;
                self.bury(burial, step)?;
            }
        }
        Ok(())
    }

    /// Puts deliveries back to their places.
    pub(super) fn give_back(&mut self, held: Vec<Held>, counted: bool, step: &mut Step) -> Result<()> {
        for (queue, seqs) in self.release(held) {
            self.emit(&Record::Returned { queue, counted, seqs: seqs.clone() }, step)?;
            if counted {
                self.find_poison(queue, seqs)?;
            }
        }
        Ok(())
    }

    /// Takes deliveries from their consumers, and answers the places of the messages.
    fn release(&mut self, held: Vec<Held>) -> BTreeMap<QueueId, Vec<u64>> {
        let mut by_queue: BTreeMap<QueueId, Vec<u64>> = BTreeMap::new();
        for held in held {
            self.consumers.release(&held);
            // A queue that was deleted took its messages along: their settlement means nothing any more.
            if self.state.queues.contains_key(&held.queue) {
                by_queue.entry(held.queue).or_default().push(held.seq);
            }
        }
        self.touched.extend(by_queue.keys());
        by_queue
    }

    /// Notes those of the ready messages that came back too often.
    fn find_poison(&mut self, id: QueueId, seqs: impl IntoIterator<Item = u64>) -> Result<()> {
        let queue = self.state.queue(id)?;
        let Some(limit) = queue.spec().delivery_limit() else { return Ok(()) };
        let is_poison = |seq: &u64| queue.entry(*seq).is_some_and(|entry| entry.returns > limit);
        let poison: Vec<u64> = seqs.into_iter().filter(is_poison).collect();
        if !poison.is_empty() {
            self.poison.entry(id).or_default().extend(poison);
        }
        Ok(())
    }

    /// Decides where a message goes that leaves its queue unconsumed.
    pub(super) fn burial(&self, now: Millis, from: Place, reason: DeathReason) -> Result<Burial> {
        let queue = self.state.queue(from.queue)?;
        let mut burial = Burial { from, reason, at: now, dead: None, whole_bytes: 0, reached: Vec::new(), loss: None };
        let (Some(exchange), Some(entry)) = (queue.spec().dead_letter_exchange(), queue.entry(from.seq)) else {
            return Ok(burial);
        };
        let dead = stamp(&entry.stored, queue.spec(), exchange, reason, now);
        let headers = &dead.message.properties().headers;
        // A dead letter exchange that does not exist leads nowhere, as in RabbitMQ.
        let Ok(mut reached) = self.state.topology.route(exchange, dead.routing_key.as_str(), headers) else {
            burial.loss = Some(Loss::NoExchange);
            return Ok(burial);
        };
        let routed = reached.len();
        let circles = |target: &QueueId| {
            let target = self.state.queues.get(target).map(|queue| queue.spec().name());
            target.is_some_and(|name| closes_a_cycle(&entry.stored.message, queue.spec().name(), name, reason))
        };
        reached.retain(|target| !circles(target));
        if reached.is_empty() {
            burial.loss = Some(if routed == 0 { Loss::NoQueue } else { Loss::Ring });
            return Ok(burial);
        }
        let keeps = |id: &QueueId| self.state.queues.get(id).is_some_and(|queue| queue.spec().is_durable());
        // The journal cannot move a message that it does not know: it is given the whole of it.
        let whole = !entry.journaled && dead.message.is_persistent() && reached.iter().any(keeps);
        let whole_bytes = if whole { message_bound(&dead) } else { 0 };
        let dead = (!entry.journaled).then_some(dead);
        burial = Burial { dead, whole_bytes, reached, ..burial };
        burial.fit(self.burial_room());
        Ok(burial)
    }

    /// Takes a message out of its queue and, in the same frame, puts it where the dead letter exchange leads.
    pub(super) fn bury(&mut self, burial: Burial, step: &mut Step) -> Result<()> {
        let Burial { from, reason, at, dead, reached, loss, .. } = burial;
        if let Some(cause) = loss {
            self.tell_loss(from.queue, cause, step)?;
        }
        let gone = Record::Removed { queue: from.queue, seqs: vec![from.seq] };
        if reached.is_empty() {
            return self.emit(&gone, step);
        }
        let places = self.places(&reached)?;
        self.touched.extend(reached);
        match dead {
            None => self.emit(&Record::Moved { from, reason, at, places }, step),
            Some(dead) => {
                self.emit(&gone, step)?;
                self.emit(&Record::Enqueued { stored: Arc::new(dead), places }, step)
            }
        }
    }

    /// Tells of a dead letter that is lost, together with those before it.
    fn tell_loss(&self, queue: QueueId, cause: Loss, step: &mut Step) -> Result<()> {
        let name = self.state.queue(queue)?.spec().name();
        match step.effects.last_mut() {
            Some(Effect::Lost { queue, cause: told, messages }) if queue == name && *told == cause => *messages += 1,
            _ => step.effects.push(Effect::Lost { queue: name.clone(), cause, messages: 1 }),
        }
        Ok(())
    }

    /// Takes back everything that was held when the broker went down: nobody knows how far its holders got.
    pub(super) fn recover(&mut self, step: &mut Step) -> Result<()> {
        if self.state.queues.values().any(|queue| queue.unacked_len() > 0) {
            self.emit(&Record::Recovered, step)?;
        }
        let queues: Vec<QueueId> = self.state.queues.keys().copied().collect();
        for id in queues {
            let ready: Vec<u64> = self.state.queue(id)?.ready().map(|entry| entry.seq).collect();
            self.find_poison(id, ready)?;
            self.touched.insert(id);
        }
        Ok(())
    }
}

/// Where a message goes that leaves its queue unconsumed.
#[derive(Debug)]
pub(super) struct Burial {
    from: Place,
    reason: DeathReason,
    at: Millis,
    /// The message as it arrives, where the journal does not know it yet.
    dead: Option<Stored>,
    /// What that takes in the journal.
    whole_bytes: usize,
    reached: Vec<QueueId>,
    /// Why it does not get where it should.
    loss: Option<Loss>,
}

impl Burial {
    /// Most bytes that its records take.
    pub(super) fn bound(&self) -> usize {
        let whole_bytes = if self.reached.is_empty() { 0 } else { self.whole_bytes };
        2 * RECORD_BYTES + whole_bytes + self.reached.len() * PLACE_BYTES
    }

    /// Leaves out queues until its records fit `room`: a message that cannot move must not stay for ever.
    fn fit(&mut self, room: usize) {
        let most = room.saturating_sub(2 * RECORD_BYTES + self.whole_bytes) / PLACE_BYTES;
        self.loss = (self.reached.len() > most).then_some(Loss::FrameFull);
        self.reached.truncate(most);
    }
}
