//! A message in an app's hands, to be acknowledged, given back or rejected.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Handle;
use super::receipt::PendingSettlement;
use crate::engine::{Command, Handover, Verdict, Which};
use crate::error::Result;
use crate::message::Message;
use crate::queue::Stored;

/// A message in an app's hands. Dropping it gives it back to its place in the queue, and that counts as a return.
#[derive(Debug)]
pub struct Delivery {
    handle: Arc<Handle>,
    handover: Handover,
    settled: bool,
}

impl Delivery {
    pub(super) fn new(handle: Arc<Handle>, handover: Handover) -> Self {
        Self { handle, handover, settled: false }
    }

    fn stored(&self) -> &Stored {
        &self.handover.stored
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.stored().message
    }

    /// The message's body, shared with the queue.
    #[must_use]
    pub fn body(&self) -> &bytes::Bytes {
        self.message().body()
    }

    /// The body read as JSON.
    ///
    /// # Errors
    /// `InvalidInput` if it is not the JSON of a `T`; [`reject`](Self::reject) it then.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        self.message().parse_json()
    }

    /// The exchange it was published to; empty for the default exchange.
    #[must_use]
    pub fn exchange(&self) -> &str {
        self.stored().exchange.as_str()
    }

    /// The routing key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> &str {
        self.stored().routing_key.as_str()
    }

    /// Its number among the deliveries of its consumer, from 1.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.handover.tag.number
    }

    /// Whether it was handed out before, to anyone.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.handover.redelivered
    }

    /// How often it came back after an app had it (`x-delivery-count`).
    #[must_use]
    pub fn returns(&self) -> u32 {
        self.handover.returns
    }

    /// Removes the message from its queue: once this has returned, it is never delivered again, also not after a crash.
    ///
    /// Dropping the future before its first wait is over gives the message back; later, it may or may not be removed.
    ///
    /// # Errors
    /// `Expired` with code `PRECONDITION_FAILED` if it was settled before, by [`ack_multiple`](Self::ack_multiple);
    /// `Unavailable` if the journal failed: it will be delivered again.
    pub async fn ack(self) -> Result<()> {
        self.settle(Verdict::Ack).await?.await
    }

    /// The same without waiting until it is durable: several may be on their way. Waits only for room in the journal.
    ///
    /// Dropping the future gives the message back.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn ack_later(self) -> Result<PendingSettlement> {
        self.settle(Verdict::Ack).await
    }

    /// Acknowledges this delivery and every earlier one of the same consumer that is not settled yet, as one atomic step.
    ///
    /// Dropping the future: as for [`ack`](Self::ack).
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn ack_multiple(mut self) -> Result<()> {
        let which = Which::Through(self.handover.tag);
        self.take(which, Verdict::Ack).await?.await
    }

    /// Gives the message back to its place in the queue. After too many returns it is dead-lettered.
    ///
    /// Dropping the future gives the message back all the same.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn nack(self) -> Result<()> {
        self.settle(Verdict::Requeue).await?.await
    }

    /// Takes the message out of its queue for good; it goes to the queue's dead letter exchange, if there is one.
    ///
    /// Dropping the future: as for [`ack`](Self::ack).
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn reject(self) -> Result<()> {
        self.settle(Verdict::Reject).await?.await
    }

    /// Leaves the rejection to the broker, without waiting for it.
    pub(crate) fn reject_later(mut self) {
        self.settled = true;
        let tag = self.handover.tag;
        self.handle.core.leave(|errands| errands.settle.push((tag, Verdict::Reject)));
    }

    async fn settle(mut self, verdict: Verdict) -> Result<PendingSettlement> {
        let which = Which::One(self.handover.tag);
        self.take(which, verdict).await
    }

    async fn take(&mut self, which: Which, verdict: Verdict) -> Result<PendingSettlement> {
        let core = &self.handle.core;
        let taken = core.take(Command::Settle { which, verdict }, None, None).await?;
        self.settled = true;
        Ok(PendingSettlement::new(Arc::clone(core), taken))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled {
            let tag = self.handover.tag;
            self.handle.core.leave(|errands| errands.settle.push((tag, Verdict::Requeue)));
        }
    }
}
