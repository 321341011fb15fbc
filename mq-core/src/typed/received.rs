//! A decoded payload in an app's hands, and the stream of them.

use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

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
/// What does not decode as `T` is rejected, which leads to the dead letter exchange if there is one; the stream yields
/// an `InvalidInput` in its place and goes on.
#[derive(Debug)]
pub struct TypedConsumer<T> {
    consumer: Consumer,
    payload: PhantomData<fn() -> T>,
}

impl<T: Payload> TypedConsumer<T> {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self { consumer, payload: PhantomData }
    }
}

impl<T: Payload> Stream for TypedConsumer<T> {
    type Item = Result<Received<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let decode = |delivery: Delivery| match delivery.json() {
            Ok(payload) => Ok(Received { payload, delivery }),
            Err(error) => {
                delivery.reject_later();
                Err(error)
            }
        };
        Pin::new(&mut self.consumer).poll_next(context).map(|next| next.map(|delivery| delivery.and_then(decode)))
    }
}
