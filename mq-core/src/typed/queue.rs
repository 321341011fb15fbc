//! A queue of one payload type.

use std::marker::PhantomData;

use super::{Payload, TypedConsumer};
use crate::broker::{Broker, ConsumeSpec, PendingReceipt, QueueStatus, Receipt, Routing};
use crate::error::Result;
use crate::message::Message;
use crate::name::QueueName;
use crate::queue::QueueSpec;

/// A queue whose messages are `T` as JSON. Cheap to clone.
#[derive(Debug)]
pub struct Queue<T> {
    broker: Broker,
    name: QueueName,
    payload: PhantomData<fn() -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { broker: self.broker.clone(), name: self.name.clone(), payload: PhantomData }
    }
}

impl Broker {
    /// Declares a queue and answers with a typed handle of it.
    ///
    /// Dropping the future may leave it declared or not.
    ///
    /// # Errors
    /// As [`declare_queue`](Self::declare_queue).
    pub async fn queue<T: Payload>(&self, spec: QueueSpec) -> Result<Queue<T>> {
        let name = self.declare_queue(spec).await?.name;
        Ok(Queue { broker: self.clone(), name, payload: PhantomData })
    }
}

impl<T: Payload> Queue<T> {
    pub(super) fn new(broker: Broker, name: QueueName) -> Self {
        Self { broker, name, payload: PhantomData }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// Sends a payload and waits for the confirm.
    ///
    /// Dropping the future may leave it sent or not.
    ///
    /// # Errors
    /// As [`Broker::publish`]; `InvalidInput` if the payload cannot be written as JSON.
    pub async fn send(&self, payload: &T) -> Result<Receipt> {
        self.send_later(payload).await?.await
    }

    /// Sends a payload without waiting for the confirm.
    ///
    /// Dropping the future sends nothing.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_later(&self, payload: &T) -> Result<PendingReceipt> {
        let message = Message::json(payload)?;
        self.broker.publish_later("", self.name.as_str(), message, Routing::Optional).await
    }

    /// Consumes the queue.
    ///
    /// Dropping the future leaves no consumer behind.
    ///
    /// # Errors
    /// As [`Broker::consume`].
    pub async fn consume(&self, spec: ConsumeSpec) -> Result<TypedConsumer<T>> {
        Ok(TypedConsumer::new(self.broker.consume(self.name.as_str(), spec).await?))
    }

    /// What the queue holds at the moment.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if the queue was deleted.
    pub fn status(&self) -> Result<QueueStatus> {
        self.broker.queue_status(self.name.as_str())
    }
}
