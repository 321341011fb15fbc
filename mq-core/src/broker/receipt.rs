//! What a publisher gets back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use durable_core::journal::Pending;

use super::core::{Core, Outcome, Taken};
use crate::error::{Error, Result};
use crate::message::Message;

/// The broker's word for a published message: it is where it belongs, as durably as its queues and its delivery mode ask.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    queues: usize,
    returned: Option<Box<Message>>,
}

impl Receipt {
    /// How many queues took the message. 0 means that no binding matched, and the message is gone.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.queues
    }

    /// The message itself, if it was mandatory and no queue took it (312 NO_ROUTE).
    #[must_use]
    pub fn returned(&self) -> Option<&Message> {
        self.returned.as_deref()
    }
}

/// A confirm on its way: a future of the [`Receipt`]. Dropping it does not undo the publishing.
#[derive(Debug)]
pub struct PendingReceipt {
    core: Arc<Core>,
    pending: Option<Pending>,
    outcome: Outcome,
}

impl PendingReceipt {
    pub(super) fn new(core: Arc<Core>, taken: Taken) -> Self {
        Self { core, pending: taken.pending, outcome: taken.outcome }
    }
}

impl Future for PendingReceipt {
    type Output = Result<Receipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(pending) = this.pending.as_mut() {
            let written = ready!(Pin::new(pending).poll(context));
            this.pending = None;
            if let Err(error) = written {
                return Poll::Ready(Err(this.core.fail(error.into())));
            }
        }
        let outcome = std::mem::take(&mut this.outcome);
        Poll::Ready(match outcome.refused {
            Some(queue) => {
                Err(Error::limit(format!("queue {queue:?} is full and refuses messages: consume some first")))
            }
            None => Ok(Receipt { queues: outcome.queues, returned: outcome.returned }),
        })
    }
}

/// A settlement on its way. Dropping it does not undo it.
#[derive(Debug)]
pub struct PendingSettlement {
    core: Arc<Core>,
    pending: Option<Pending>,
}

impl PendingSettlement {
    pub(super) fn new(core: Arc<Core>, taken: Taken) -> Self {
        Self { core, pending: taken.pending }
    }
}

impl Future for PendingSettlement {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(pending) = this.pending.as_mut() else { return Poll::Ready(Ok(())) };
        let written = ready!(Pin::new(pending).poll(context));
        this.pending = None;
        Poll::Ready(written.map(|_| ()).map_err(|error| this.core.fail(error.into())))
    }
}
