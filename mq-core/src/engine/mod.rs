//! The broker as one deterministic state machine: `apply(now, command)` answers with records and effects.
//!
//! No clock, socket, task or randomness is in here, so that the same code runs in simulation, in process and behind
//! listeners. Records go to the journal as one frame, atomically; effects are released when that frame is durable.
//!
//! Invariant: a command that answers with an error has changed nothing.

mod bound;
mod command;
mod consumers;
mod declare;
mod dispatch;
mod effect;
mod publish;
mod record;
mod settle;
mod state;

use std::collections::{BTreeMap, BTreeSet};

pub use command::DeleteIf;
pub(crate) use command::{BindingSpec, Command, ConsumerId, DeliveryTag, Target, Verdict, Which};
use consumers::Consumers;
pub use consumers::PREFETCH_MAX;
#[cfg(test)]
pub(crate) use effect::Loss;
pub(crate) use effect::{Effect, Handover};
pub(crate) use record::Record;
pub(crate) use record::{
    decode_binding, decode_frame, decode_json, decode_stored, encode_binding, encode_frame, encode_json, encode_stored,
};
pub(crate) use state::State;

use crate::error::Result;
use crate::queue::{Millis, QueueId};

/// What one command leads to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// For the journal: one frame. Empty if nothing durable changed.
    pub(crate) records: Vec<Record>,
    /// To be released when the records, and all records before them, are durable.
    pub(crate) effects: Vec<Effect>,
    /// Bytes of records that may still be made without having been asked for.
    spare: usize,
}

/// A broker's whole state: what recovery brings back, and who is consuming now.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) state: State,
    consumers: Consumers,
    /// Queues in which something may have to move.
    touched: BTreeSet<QueueId>,
    /// Ready messages that came back too often, and are to be buried before anything else happens to their queue.
    poison: BTreeMap<QueueId, BTreeSet<u64>>,
    /// Most bytes that the records of one command may take.
    frame_bytes_max: usize,
}

impl Engine {
    /// An engine over a recovered state, for a journal that takes frames of so many bytes. `Command::Recover` must come
    /// first.
    pub(crate) fn new(state: State, frame_bytes_max: usize) -> Self {
        let (consumers, touched, poison) = Default::default();
        Self { state, consumers, touched, poison, frame_bytes_max }
    }

    /// Does one thing. The records take at most `bound(command) + spare` bytes; what would take more (expiry, delivery
    /// of a long backlog) is left for the next command or `Tick`.
    pub(crate) fn apply(&mut self, now: Millis, command: Command, spare: usize) -> Result<Step> {
        let mut step = Step { spare, ..Step::default() };
        match command {
            Command::DeclareExchange(spec) => self.declare_exchange(spec, &mut step)?,
            Command::DeleteExchange { name, condition } => self.delete_exchange(&name, condition, &mut step)?,
            Command::DeclareQueue { spec, server_named } => self.declare_queue(spec, server_named, &mut step)?,
            Command::DeleteQueue { name, condition } => self.delete_queue(&name, condition, &mut step)?,
            Command::PurgeQueue(name) => self.purge_queue(&name, &mut step)?,
            Command::Bind(spec) => self.bind(spec, &mut step)?,
            Command::Unbind(spec) => self.unbind(spec, &mut step)?,
            Command::Publish { exchange, routing_key, message, mandatory } => {
                self.publish(now, exchange, routing_key, message, mandatory, &mut step)?;
            }
            Command::Consume { queue, prefetch } => self.consume(&queue, prefetch, &mut step)?,
            Command::Cancel { consumer, last_seen } => self.cancel(consumer, last_seen, &mut step)?,
            Command::Dismiss(consumers) => self.consumers.dismiss(&consumers),
            Command::Settle { which, verdict } => self.settle(now, &which, verdict, &mut step)?,
            Command::Tick => {}
            Command::Recover => self.recover(&mut step)?,
        }
        self.advance(now, &mut step)?;
        Ok(step)
    }

    /// When `Command::Tick` has something to do, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        if self.touched.is_empty() { self.state.first_timer() } else { Some(Millis::MIN) }
    }

    /// How many consumers a queue has.
    pub(crate) fn consumer_count(&self, queue: QueueId) -> usize {
        self.consumers.of(queue).count()
    }

    /// Changes the state, and keeps what the journal must know of it.
    fn emit(&mut self, record: &Record, step: &mut Step) -> Result<()> {
        let durable = self.state.durable_part(record);
        self.state.apply(record)?;
        step.records.extend(durable);
        Ok(())
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
