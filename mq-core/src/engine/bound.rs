//! How many bytes a command's records can take, so that room is reserved in the journal before the state changes.
//!
//! Invariant: `encode_frame` of a step is at most `bound(command) + spare` bytes long.

use super::Engine;
use super::command::{Command, Verdict, Which};
use super::consumers::Held;
use crate::message::Message;
use crate::name::{ExchangeName, NAME_BYTES_MAX, RoutingKey};
use crate::queue::Stored;
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
                Command::PurgeQueue(_) | Command::Consume { .. } | Command::Recover => 0,
                Command::Publish { exchange, routing_key, message, .. } => {
                    self.publish_bound(exchange, routing_key, message)
                }
                Command::Cancel { consumer, last_seen } => {
                    let queue = self.consumers.queue_of(*consumer).and_then(|id| self.state.queues.get(&id));
                    let goes = queue.is_some_and(|queue| queue.spec().is_auto_delete());
                    let cascade = if goes { self.cascade_bound() } else { 0 };
                    runs_bound(&self.consumers.unseen(*consumer, *last_seen)) + cascade
                }
                Command::Settle { which, verdict: Verdict::Reject } => {
                    self.consumers.count(which) * (self.burial_bound() + self.state.unjournaled_weight_max())
                }
                Command::Settle { which: Which::One(_), .. } => RECORD_BYTES + PLACE_BYTES,
                // An unknown delivery changes nothing.
                Command::Settle { which, .. } => self.consumers.find(which).map_or(0, |held| runs_bound(&held)),
                Command::Tick => 0,
            }
    }

    /// What to allow a command for what it did not ask for. A tick can always bury one message, wherever that goes.
    pub(crate) fn spare(&self, command: &Command) -> usize {
        match command {
            Command::Tick => SPARE_BYTES_TICK + self.burial_bound() + self.state.unjournaled_weight_max(),
            _ => SPARE_BYTES,
        }
    }

    /// Most bytes of taking one message that the journal knows out of its queue.
    fn burial_bound(&self) -> usize {
        2 * RECORD_BYTES + self.state.queues.len() * PLACE_BYTES
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

/// Most bytes of records that name these deliveries, given in order: neighbours share a run.
fn runs_bound(held: &[Held]) -> usize {
    let runs = held.chunk_by(|a, b| a.queue == b.queue && a.seq + 1 == b.seq).count();
    runs * (RECORD_BYTES + PLACE_BYTES)
}

pub(super) fn message_bound(stored: &Stored) -> usize {
    ENVELOPE_BYTES + stored.message.weight()
}
