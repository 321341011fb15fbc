//! What the engine wants to be told to others, once the records it follows from are durable.

use std::fmt;
use std::sync::Arc;

use super::command::{ConsumerId, DeliveryTag};
use crate::message::Message;
use crate::name::QueueName;
use crate::queue::Stored;

/// A message on its way to a consumer.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    pub(crate) tag: DeliveryTag,
    pub(crate) stored: Arc<Stored>,
    pub(crate) redelivered: bool,
    pub(crate) returns: u32,
}

/// One thing to tell.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// To the publisher: so many queues took the message.
    Confirm { queues: usize },
    /// To the publisher: this queue is full and refused the message; others may have taken it.
    Refuse { queue: QueueName },
    /// To the publisher, before its confirm: the mandatory message reached no queue.
    Return { message: Message },
    /// To a consumer.
    Deliver(Handover),
    /// To a consumer: its queue is gone.
    Cancelled(ConsumerId),
    /// To the log: so many dead letters of this queue did not get where they should have.
    Lost { queue: QueueName, cause: Loss, messages: usize },
    /// To who asked: the consumer's number.
    Consuming(ConsumerId),
    /// To who asked: the same command has more to do.
    Unfinished,
    /// To who asked: how many messages were removed.
    Removed { messages: usize },
}

/// Why a dead letter did not get where it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The dead letter exchange does not exist.
    NoExchange,
    /// The exchange leads to no queue.
    NoQueue,
    /// It would go round in a ring in which nobody rejects it.
    Ring,
    /// A journal frame does not hold it, or not all the queues that it reaches.
    FrameFull,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoExchange => "its dead letter exchange does not exist: declare it",
            Self::NoQueue => "its dead letter exchange leads to no queue: bind one",
            Self::Ring => "it would go round for ever: bind the dead letter exchange to another queue",
            Self::FrameFull => "it does not fit a journal frame: open the broker with larger segments",
        })
    }
}
