//! A decoded payload in an app's hands, and the stream of them.

use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;

use super::Payload;
use crate::broker::{Consumer, Delivery};
use crate::error::Result;

/// A payload and its delivery: reads as the payload, and is settled like a [`Delivery`].
#[derive(Debug)]
pub struct Received<T> {
    payload: T,
    delivery: Delivery,
}

impl<T> Received<T> {
    /// The message that carried it.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// The payload and the delivery, to be settled later.
    #[must_use]
    pub fn into_parts(self) -> (T, Delivery) {
        (self.payload, self.delivery)
    }

    /// Removes the message from its queue; see [`Delivery::ack`], also for what dropping the future does.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn ack(self) -> Result<()> {
        self.delivery.ack().await
    }

    /// Gives the message back to its place; see [`Delivery::nack`], also for what dropping the future does.
    ///
    /// # Errors
    /// As [`Delivery::nack`].
    pub async fn nack(self) -> Result<()> {
        self.delivery.nack().await
    }

    /// Takes the message out of its queue, to the dead letter exchange if there is one; see [`Delivery::reject`], also
    /// for what dropping the future does.
    ///
    /// # Errors
    /// As [`Delivery::reject`].
    pub async fn reject(self) -> Result<()> {
        self.delivery.reject().await
    }
}

impl<T> Deref for Received<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload
    }
}

/// The payloads of a queue as a stream, in order. It ends as a [`Consumer`] does.
///
/// For what does not decode as `T` the stream yields an `InvalidInput` that says why, and goes on. The message itself is
/// there to be [taken](Self::take_undecoded) until the stream is polled again or dropped: then it is rejected, and that is
/// told to the log. Give the queue a dead letter exchange, or the rejected message is gone.
#[derive(Debug)]
pub struct TypedConsumer<T> {
    consumer: Consumer,
    undecoded: Option<Undecoded>,
    payload: PhantomData<fn() -> T>,
}

/// What did not decode, and why.
#[derive(Debug)]
struct Undecoded {
    delivery: Delivery,
    reason: String,
}

impl<T: Payload> TypedConsumer<T> {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, undecoded: None, payload: PhantomData }
    }
}

impl<T> TypedConsumer<T> {
    /// The delivery that the error yielded last is about, to be looked at and settled by the app.
    pub fn take_undecoded(&mut self) -> Option<Delivery> {
        self.undecoded.take().map(|undecoded| undecoded.delivery)
    }

    fn reject_undecoded(&mut self) {
        let Some(Undecoded { delivery, reason }) = self.undecoded.take() else { return };
        let (exchange, routing_key, bytes) = (delivery.exchange(), delivery.routing_key(), delivery.body().len());
        tracing::warn!(exchange, routing_key, bytes, reason, "a message that does not decode is rejected");
        delivery.reject_later();
    }
}

impl<T> Drop for TypedConsumer<T> {
    fn drop(&mut self) {
        self.reject_undecoded();
    }
}

impl<T: Payload> Stream for TypedConsumer<T> {
    type Item = Result<Received<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reject_undecoded();
        let next = ready!(Pin::new(&mut self.consumer).poll_next(context));
        Poll::Ready(next.map(|delivery| {
            let delivery = delivery?;
            match delivery.json() {
                Ok(payload) => Ok(Received { payload, delivery }),
                Err(error) => {
                    self.undecoded = Some(Undecoded { delivery, reason: format!("{error:?}") });
                    Err(error)
                }
            }
        }))
    }
}
