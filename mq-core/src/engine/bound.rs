//! How many bytes a command's records can take, so that room is reserved in the journal before the state changes.
//!
//! Invariant: `encode_frame` of a step is at most `bound(command) + spare` bytes long, and what nobody asked for (a
//! tick, what a dropped handle left to do) always fits a frame.

use super::Engine;
use super::command::{Command, Verdict, Which};
use super::consumers::Held;
use super::record::Place;
use crate::message::Message;
use crate::name::{ExchangeName, NAME_BYTES_MAX, RoutingKey};
use crate::queue::{DeathReason, Stored};
use crate::topology::ExchangeSpec;
use crate::value;

/// For what follows from a command without being asked for: deliveries, a few expiries.
const SPARE_BYTES: usize = 2048;
/// The same for a tick, which has nothing else to do.
const SPARE_BYTES_TICK: usize = 256 << 10;

/// Most bytes of a record without its lists: a kind and four numbers.
pub(super) const RECORD_BYTES: usize = 48;
/// Most bytes of a place, and of a run of numbers: two varints.
pub(super) const PLACE_BYTES: usize = 20;
/// Most bytes of a declaration as JSON, whatever has to be escaped in its names.
const SPEC_BYTES: usize = 1024 + 6 * 4 * NAME_BYTES_MAX;
/// What the history of one death adds to a message at most, and the record around it: room for three names and more.
pub(super) const DEAD_BYTES: usize = 4096;
/// Most bytes of what every message has: flags, time, names, lengths.
const ENVELOPE_BYTES: usize = 256 + 2 * NAME_BYTES_MAX;

impl Engine {
    /// Most bytes of the records that `command` itself asks for.
    pub(crate) fn bound(&self, command: &Command) -> usize {
        RECORD_BYTES
            + match command {
                Command::DeclareExchange(_) | Command::DeclareQueue { .. } => SPEC_BYTES,
                Command::DeleteExchange { .. } | Command::DeleteQueue { .. } => self.cascade_bound(),
                Command::Bind(spec) | Command::Unbind(spec) => {
                    4 * NAME_BYTES_MAX + value::weight(&spec.arguments) + self.cascade_bound()
                }
                Command::PurgeQueue(_) | Command::Consume { .. } | Command::Dismiss(_) | Command::Recover => 0,
                Command::Publish { exchange, routing_key, message, .. } => {
                    self.publish_bound(exchange, routing_key, message)
                }
                Command::Cancel { consumer, last_seen } => {
                    let queue = self.consumers.queue_of(*consumer).and_then(|id| self.state.queues.get(&id));
                    let goes = queue.is_some_and(|queue| queue.spec().is_auto_delete());
                    let cascade = if goes { self.cascade_bound() } else { 0 };
                    runs_bound(&self.consumers.unseen(*consumer, *last_seen)) + cascade
                }
                Command::Settle { which: Which::One(_), verdict: Verdict::Ack | Verdict::Requeue } => {
                    RECORD_BYTES + PLACE_BYTES
                }
                // An unknown delivery changes nothing.
                Command::Settle { which, verdict } => self.consumers.find(which).map_or(0, |held| match verdict {
                    Verdict::Reject => held.iter().map(|held| self.rejection_bound(held)).sum(),
                    Verdict::Ack | Verdict::Requeue => runs_bound(&held),
                }),
                Command::Tick => 0,
            }
    }

    /// What to allow a command for what it did not ask for, as far as a frame has room beside its `bound`. A tick can always bury
    /// one message, wherever that goes.
    pub(crate) fn spare(&self, command: &Command, bound: usize) -> usize {
        let wanted = match command {
            Command::Tick => {
                let burial = 2 * RECORD_BYTES + self.state.queues.len() * PLACE_BYTES;
                SPARE_BYTES_TICK + burial + self.state.unjournaled_weight_max()
            }
            _ => SPARE_BYTES,
        };
        wanted.min(self.frame_bytes_max.saturating_sub(bound))
    }

    /// Most bytes that burying one message may take: a tick has them, and so has a rejection.
    pub(super) fn burial_room(&self) -> usize {
        self.frame_bytes_max.saturating_sub(RECORD_BYTES)
    }

    /// Whether a message of that weight can be buried, should its queue be one that the journal does not know.
    pub(super) fn can_bury_whole(&self, weight: usize) -> bool {
        2 * RECORD_BYTES + PLACE_BYTES + DEAD_BYTES + weight <= self.burial_room()
    }

    fn rejection_bound(&self, held: &Held) -> usize {
        let from = Place { queue: held.queue, seq: held.seq };
        // The time takes the same room whatever it is.
        self.burial(0, from, DeathReason::Rejected).map_or(0, |burial| burial.bound())
    }

    fn publish_bound(&self, exchange: &ExchangeName, routing_key: &RoutingKey, message: &Message) -> usize {
        let topology = &self.state.topology;
        let reached = if exchange.as_str().is_empty() || self.state.queues.len() <= 1 {
            1
        } else {
            topology
                .route(exchange, routing_key.as_str(), &message.properties().headers)
                .map_or(0, |queues| queues.len())
        };
        ENVELOPE_BYTES + message.weight() + reached * PLACE_BYTES
    }

    /// Most bytes of deleting whatever deletes itself.
    fn cascade_bound(&self) -> usize {
        let exchanges = self.state.topology.declared().filter(|spec| ExchangeSpec::is_auto_delete(spec)).count();
        (1 + exchanges) * (RECORD_BYTES + NAME_BYTES_MAX)
    }
}

/// Most bytes of records that name these deliveries, given in order: one a queue, and neighbours share a run.
fn runs_bound(held: &[Held]) -> usize {
    let queues = held.chunk_by(|a, b| a.queue == b.queue).count();
    let runs = held.chunk_by(|a, b| a.queue == b.queue && a.seq + 1 == b.seq).count();
    queues * RECORD_BYTES + runs * PLACE_BYTES
}

pub(super) fn message_bound(stored: &Stored) -> usize {
    ENVELOPE_BYTES + stored.message.weight()
}
