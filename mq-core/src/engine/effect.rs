//! What the engine wants to be told to others, once the records it follows from are durable.

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
    /// To the log: a dead letter would not fit a journal frame, and did not get to so many queues.
    LeftOut { queue: QueueName, queues: usize },
    /// To who asked: the consumer's number.
    Consuming(ConsumerId),
    /// To who asked: the same command has more to do.
    Unfinished,
    /// To who asked: how many messages were removed.
    Removed { messages: usize },
}
