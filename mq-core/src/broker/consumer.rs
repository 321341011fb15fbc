//! A consumer: the messages of a queue as a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

use super::Handle;
use super::delivery::Delivery;
use super::mailbox::{Mail, Seen};
use crate::engine::ConsumerId;
use crate::error::Result;

/// How many unsettled deliveries a consumer may hold, unless told otherwise.
pub const PREFETCH_DEFAULT: u16 = 256;

/// How to consume a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumeSpec {
    prefetch: u16,
}

impl Default for ConsumeSpec {
    fn default() -> Self {
        Self { prefetch: PREFETCH_DEFAULT }
    }
}

impl ConsumeSpec {
    /// How many deliveries the consumer may hold unsettled: 1 to 65,535.
    #[must_use]
    pub fn with_prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = prefetch;
        self
    }

    pub(super) fn prefetch(&self) -> u16 {
        self.prefetch
    }
}

/// The messages of a queue as a stream of deliveries, in order.
///
/// It ends when the broker is closed; it yields an error and ends when the queue is deleted (`NotFound`) or the journal
/// fails (`Unavailable`). Dropping it cancels the consumer: what it had not yielded goes back uncounted, deliveries in
/// the app's hands can still be settled.
#[derive(Debug)]
pub struct Consumer {
    handle: Arc<Handle>,
    id: ConsumerId,
    mail: mpsc::Receiver<Mail>,
    seen: Arc<Seen>,
}

impl Consumer {
    pub(super) fn new(handle: Arc<Handle>, id: ConsumerId, mail: mpsc::Receiver<Mail>, seen: Arc<Seen>) -> Self {
        Self { handle, id, mail, seen }
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.mail.poll_recv(context).map(|mail| match mail? {
            // The broker is being closed, and has taken it back.
            Ok(handover) if !self.seen.show(handover.tag.number) => None,
            mail => Some(mail.map(|handover| Delivery::new(Arc::clone(&self.handle), handover))),
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(last_seen) = self.seen.shut() {
            self.handle.core.leave(|errands| errands.cancel.push((self.id, last_seen)));
        }
    }
}
