//! A message as a queue holds it: the shared content, and what this queue knows about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::messages::MessageId;
use crate::message::Message;
use crate::name::{ExchangeName, RoutingKey};
use crate::queue::QueueSpec;

/// Milliseconds since 1970 on the broker's clock, which never goes back while the broker is open.
pub(crate) type Millis = i64;

/// Memory that one entry of a queue takes beside the message's own bytes, roughly.
pub(crate) const ENTRY_BYTES: usize = 96;

/// Memory that one message takes beside its body and texts, roughly.
const STORED_BYTES: usize = 416;

/// A published message, shared by all the queues it reached.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) exchange: ExchangeName,
    pub(crate) routing_key: RoutingKey,
    pub(crate) message: Message,
    pub(crate) at: Millis,
    /// In how many queues it is. Only the engine changes it, so that memory is accounted for deterministically.
    copies: AtomicU32,
}

impl Stored {
    pub(crate) fn new(exchange: ExchangeName, routing_key: RoutingKey, message: Message, at: Millis) -> Self {
        Self { exchange, routing_key, message, at, copies: AtomicU32::new(0) }
    }

    /// Bytes in memory, roughly, however many queues share it.
    pub(crate) fn weight(&self) -> usize {
        weight(&self.message)
    }

    /// Counts one more queue, and answers the bytes that this takes.
    pub(crate) fn enter(&self) -> usize {
        let before = self.copies.fetch_add(1, Ordering::Relaxed);
        ENTRY_BYTES + if before == 0 { self.weight() } else { 0 }
    }

    /// Counts one queue less, and answers the bytes that this frees.
    pub(crate) fn leave(&self) -> usize {
        let before = self.copies.fetch_sub(1, Ordering::Relaxed);
        ENTRY_BYTES + if before == 1 { self.weight() } else { 0 }
    }
}

/// What a message will take in memory, apart from its entries.
pub(crate) fn weight(message: &Message) -> usize {
    STORED_BYTES + message.weight()
}

/// One message in one queue.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its place: numbers rise in the order of arrival and are never reused within a queue.
    pub(crate) seq: u64,
    /// Means something only where the journal knows the message.
    pub(crate) id: MessageId,
    pub(crate) stored: Arc<Stored>,
    /// Whether the journal knows it: a persistent message in a durable queue.
    pub(crate) journaled: bool,
    /// Whether it was handed to a consumer before.
    pub(crate) redelivered: bool,
    /// How often it came back after an app had seen it, or may have seen it.
    pub(crate) returns: u32,
    pub(crate) expires_at: Option<Millis>,
}

impl Entry {
    /// An entry that arrives at `at`.
    pub(crate) fn new(seq: u64, id: MessageId, stored: Arc<Stored>, spec: &QueueSpec, at: Millis) -> Self {
        let own = stored.message.properties().expiration;
        let own = own.map(|expiration| u64::try_from(expiration.as_millis()).unwrap_or(u64::MAX));
        let ttl = own.into_iter().chain(spec.message_ttl_ms()).min();
        let expires_at = ttl.map(|ttl| at.saturating_add_unsigned(ttl));
        let journaled = spec.is_durable() && stored.message.is_persistent();
        Self { seq, id, stored, journaled, redelivered: false, returns: 0, expires_at }
    }

    pub(crate) fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether a consumer that waits may not have it any more. What may not wait at all can be had as it arrives.
    pub(crate) fn is_too_late(&self, now: Millis) -> bool {
        let arrives = !self.redelivered && self.stored.at == now;
        self.is_expired(now) && !(arrives && self.expires_at == Some(now))
    }

    pub(crate) fn body_bytes(&self) -> u64 {
        self.stored.message.body().len() as u64
    }
}
