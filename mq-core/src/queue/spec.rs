//! What to declare about a queue, with RabbitMQ's arguments under their own names.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::name::{ExchangeName, QueueName, RoutingKey};

/// How often a message may come back before it is dead-lettered, unless the queue says otherwise: RabbitMQ 4's number.
pub const DELIVERY_LIMIT_DEFAULT: u32 = 20;

/// What happens when a queue is at its maximum length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest ready message leaves; it is dead-lettered if the queue has a dead letter exchange.
    #[default]
    DropHead,
    /// The new message is refused: its publisher gets a `LimitExceeded`.
    RejectPublish,
}

/// What to declare about a queue. Durable unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    name: QueueName,
    durable: bool,
    auto_delete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_ttl_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_length: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_length_bytes: Option<u64>,
    #[serde(default)]
    overflow: Overflow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead_letter_exchange: Option<ExchangeName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead_letter_routing_key: Option<RoutingKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivery_limit: Option<u32>,
}

impl QueueSpec {
    /// A durable queue without limits, with the default delivery limit.
    ///
    /// # Errors
    /// `InvalidInput` if the name is longer than 255 bytes.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self {
            name: QueueName::new(name)?,
            durable: true,
            auto_delete: false,
            message_ttl_ms: None,
            max_length: None,
            max_length_bytes: None,
            overflow: Overflow::default(),
            dead_letter_exchange: None,
            dead_letter_routing_key: None,
            delivery_limit: Some(DELIVERY_LIMIT_DEFAULT),
        })
    }

    /// The same under another name.
    pub(crate) fn named(mut self, name: &str) -> Result<Self> {
        self.name = QueueName::new(name)?;
        Ok(self)
    }

    /// Gone after a restart, with all that is in it.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Deleted with its last consumer.
    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// How long a message may wait (`x-message-ttl`); parts of a millisecond are cut off. Nothing means that it is
    /// delivered at once, or expires.
    #[must_use]
    pub fn with_message_ttl(mut self, ttl: Duration) -> Self {
        self.message_ttl_ms = Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Most ready messages (`x-max-length`).
    #[must_use]
    pub fn with_max_length(mut self, messages: u64) -> Self {
        self.max_length = Some(messages);
        self
    }

    /// Most bytes in the bodies of ready messages (`x-max-length-bytes`).
    #[must_use]
    pub fn with_max_length_bytes(mut self, bytes: u64) -> Self {
        self.max_length_bytes = Some(bytes);
        self
    }

    /// What happens at the maximum length (`x-overflow`).
    #[must_use]
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Where messages go that are rejected, expire, overflow or come back too often (`x-dead-letter-exchange`). The
    /// move is one atomic record.
    ///
    /// # Errors
    /// `InvalidInput` if the name is longer than 255 bytes.
    pub fn with_dead_letter_exchange(mut self, exchange: &str) -> Result<Self> {
        self.dead_letter_exchange = Some(ExchangeName::new(exchange)?);
        Ok(self)
    }

    /// The routing key of dead letters, instead of the message's own (`x-dead-letter-routing-key`).
    ///
    /// # Errors
    /// `InvalidInput` if the key is longer than 255 bytes.
    pub fn with_dead_letter_routing_key(mut self, key: &str) -> Result<Self> {
        self.dead_letter_routing_key = Some(RoutingKey::new(key)?);
        Ok(self)
    }

    /// How often a message may come back before it is dead-lettered (`x-delivery-limit`); `None` is for ever.
    #[must_use]
    pub fn with_delivery_limit(mut self, limit: Option<u32>) -> Self {
        self.delivery_limit = limit;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    pub(crate) fn message_ttl_ms(&self) -> Option<u64> {
        self.message_ttl_ms
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) fn delivery_limit(&self) -> Option<u32> {
        self.delivery_limit
    }

    pub(crate) fn dead_letter_exchange(&self) -> Option<&ExchangeName> {
        self.dead_letter_exchange.as_ref()
    }

    pub(crate) fn dead_letter_routing_key(&self) -> Option<&RoutingKey> {
        self.dead_letter_routing_key.as_ref()
    }

    /// Whether so many ready messages and body bytes are more than the queue may hold.
    pub(crate) fn is_exceeded_by(&self, messages: u64, bytes: u64) -> bool {
        self.max_length.is_some_and(|most| messages > most) || self.max_length_bytes.is_some_and(|most| bytes > most)
    }

    /// The first argument in which the two differ, as RabbitMQ names it.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differences = [
            ("durable", self.durable != other.durable),
            ("auto_delete", self.auto_delete != other.auto_delete),
            ("x-message-ttl", self.message_ttl_ms != other.message_ttl_ms),
            ("x-max-length", self.max_length != other.max_length),
            ("x-max-length-bytes", self.max_length_bytes != other.max_length_bytes),
            ("x-overflow", self.overflow != other.overflow),
            ("x-dead-letter-exchange", self.dead_letter_exchange != other.dead_letter_exchange),
            ("x-dead-letter-routing-key", self.dead_letter_routing_key != other.dead_letter_routing_key),
            ("x-delivery-limit", self.delivery_limit != other.delivery_limit),
        ];
        differences.into_iter().find(|(_, differs)| *differs).map(|(argument, _)| argument)
    }
}
