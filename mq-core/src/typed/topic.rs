//! A topic of one payload type.

use std::marker::PhantomData;

use super::{Payload, Queue};
use crate::broker::{Broker, PendingReceipt, Receipt, Routing};
use crate::error::Result;
use crate::message::Message;
use crate::name::ExchangeName;
use crate::queue::QueueSpec;
use crate::topology::{ExchangeKind, ExchangeSpec};

/// A topic exchange whose messages are `T` as JSON. Cheap to clone.
#[derive(Debug)]
pub struct Topic<T> {
    broker: Broker,
    exchange: ExchangeName,
    payload: PhantomData<fn() -> T>,
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { broker: self.broker.clone(), exchange: self.exchange.clone(), payload: PhantomData }
    }
}

impl Broker {
    /// Declares a durable topic exchange and answers with a typed handle of it.
    ///
    /// Dropping the future may leave it declared or not.
    ///
    /// # Errors
    /// As [`declare_exchange`](Self::declare_exchange).
    pub async fn topic<T: Payload>(&self, exchange: &str) -> Result<Topic<T>> {
        let spec = ExchangeSpec::new(exchange, ExchangeKind::Topic)?;
        let exchange = spec.name().clone();
        self.declare_exchange(spec).await?;
        Ok(Topic { broker: self.clone(), exchange, payload: PhantomData })
    }
}

impl<T: Payload> Topic<T> {
    /// Publishes a payload under a routing key, words parted by dots, and waits for the confirm.
    ///
    /// Dropping the future may leave it published or not.
    ///
    /// # Errors
    /// As [`Broker::publish`]; `InvalidInput` if the payload cannot be written as JSON.
    pub async fn publish(&self, routing_key: &str, payload: &T) -> Result<Receipt> {
        self.publish_later(routing_key, payload).await?.await
    }

    /// Publishes a payload without waiting for the confirm.
    ///
    /// Dropping the future publishes nothing.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_later(&self, routing_key: &str, payload: &T) -> Result<PendingReceipt> {
        let message = Message::json(payload)?;
        self.broker.publish_later(self.exchange.as_str(), routing_key, message, Routing::Optional).await
    }

    /// Declares a queue and binds it under a pattern: from then on it gets what matches.
    ///
    /// Dropping the future may leave the queue declared, and bound, or not.
    ///
    /// # Errors
    /// As [`Broker::declare_queue`] and [`Broker::bind`].
    pub async fn subscribe(&self, spec: QueueSpec, pattern: &str) -> Result<Queue<T>> {
        let name = self.broker.declare_queue(spec).await?.name;
        self.broker.bind(self.exchange.as_str(), name.as_str(), pattern).await?;
        Ok(Queue::new(self.broker.clone(), name))
    }
}
