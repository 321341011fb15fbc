//! What can be asked of the engine.

use crate::message::Message;
use crate::name::{ExchangeName, QueueName, RoutingKey};
use crate::queue::QueueSpec;
use crate::topology::ExchangeSpec;
use crate::value::Table;

/// A consumer's number, given by the engine; not reused while the engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerId(pub(crate) u64);

/// A delivery: the consumer, and its number among all that this consumer ever got. Numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeliveryTag {
    pub(crate) consumer: ConsumerId,
    pub(crate) number: u64,
}

/// Which deliveries a settlement means.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// This one. Unknown is an error.
    One(DeliveryTag),
    /// This one and every earlier one of the same consumer that is not settled yet. Unknown is an error.
    Through(DeliveryTag),
    /// Those of these that are not settled yet.
    AnyOf(Vec<DeliveryTag>),
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done: it leaves the queue.
    Ack,
    /// Back to its place; it counts towards the delivery limit.
    Requeue,
    /// Out of the queue, to the dead letter exchange if there is one.
    Reject,
}

/// Whether a deletion has a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeleteIf {
    /// Delete it whatever is in it or uses it.
    #[default]
    Always,
    /// Only if nothing uses it: no consumer of a queue, no binding of an exchange.
    Unused,
    /// Only if the queue is empty.
    Empty,
}

/// The end of a binding, by name.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Queue(QueueName),
    Exchange(ExchangeName),
}

/// A binding, by names.
#[derive(Clone, Debug)]
pub(crate) struct BindingSpec {
    pub(crate) source: ExchangeName,
    pub(crate) target: Target,
    pub(crate) routing_key: RoutingKey,
    pub(crate) arguments: Table,
}

/// One thing to do. What the engine makes of it depends on nothing else but its state and the time.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    DeclareExchange(ExchangeSpec),
    DeleteExchange {
        name: ExchangeName,
        condition: DeleteIf,
    },
    DeclareQueue {
        spec: QueueSpec,
        server_named: bool,
    },
    DeleteQueue {
        name: QueueName,
        condition: DeleteIf,
    },
    PurgeQueue(QueueName),
    Bind(BindingSpec),
    Unbind(BindingSpec),
    Publish {
        exchange: ExchangeName,
        routing_key: RoutingKey,
        message: Message,
        mandatory: bool,
    },
    Consume {
        queue: QueueName,
        prefetch: u16,
    },
    /// Deliveries after the one numbered `last_seen` were never seen by the app: they go back uncounted.
    Cancel {
        consumer: ConsumerId,
        last_seen: u64,
    },
    /// These consumers get nothing more, since the broker ends: their queues stay, whatever was declared.
    Dismiss(Vec<ConsumerId>),
    Settle {
        which: Which,
        verdict: Verdict,
    },
    /// Time has passed.
    Tick,
    /// The state was recovered: who held messages is gone.
    Recover,
}
