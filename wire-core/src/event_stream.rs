//! Answers that come as a stream of events: `application/vnd.amazon.eventstream`.
//!
//! Invariant: frames are AWS's own code (aws-smithy-eventstream); one event is one frame is one chunk of the body. After an
//! exception nothing follows.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use futures::future::ready;
use futures::stream::{BoxStream, once};
use futures::{Stream, StreamExt};
use serde::Serialize;

use crate::{Encoding, WireError};

pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// What an event stream carries.
///
/// A service with one kind of event implements it for the event's shape; one with several for an enum with
/// `#[serde(untagged)]`.
pub trait Event: Serialize + Send + 'static {
    /// The event's name in the service's model, `SubscribeToShardEvent`.
    fn event_type(&self) -> &'static str;
}

/// The answer of an operation added with [`Service::event_stream`](crate::Service::event_stream).
///
/// The client gets an empty `initial-response` at once, then the events as they come. An error is sent as an exception and
/// ends the stream. When the client goes away, or the server closes, the stream is dropped.
pub struct EventStream<T> {
    events: BoxStream<'static, Result<T, WireError>>,
}

impl<T: Event> EventStream<T> {
    /// An answer of these events.
    pub fn new<E: Into<WireError>>(events: impl Stream<Item = Result<T, E>> + Send + 'static) -> Self {
        Self { events: events.map(|event| event.map_err(Into::into)).boxed() }
    }

    pub(crate) fn into_frames(self, encoding: Encoding) -> BoxStream<'static, Bytes> {
        let mut failed = false;
        // What the stream holds is dropped with it: nothing half done is seen again.
        let frames = AssertUnwindSafe(self.events).catch_unwind().map(move |event| frame(event, encoding));
        let frames = frames.take_while(move |frame| ready(!std::mem::replace(&mut failed, frame.is_err())));
        let initial = once(ready(event_frame("initial-response", &Empty {}, encoding)));
        // Both kinds are bytes by now.
        initial.chain(frames).map(|frame| frame.unwrap_or_else(|exception| exception)).boxed()
    }
}

impl<T> fmt::Debug for EventStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Empty {}

/// An event's frame, or that of an exception as the error.
type Framed = Result<Bytes, Bytes>;

fn frame<T: Event>(event: Result<Result<T, WireError>, Box<dyn Any + Send>>, encoding: Encoding) -> Framed {
    match event {
        Ok(Ok(event)) => event_frame(event.event_type(), &event, encoding),
        Ok(Err(error)) => Err(exception_frame(&error, encoding)),
        Err(_) => {
            tracing::error!("an event stream panicked");
            Err(exception_frame(&WireError::internal("the stream of events failed"), encoding))
        }
    }
}

fn event_frame<T: Serialize>(event_type: &'static str, event: &T, encoding: Encoding) -> Framed {
    let event_type = HeaderValue::String(event_type.into());
    encoding
        .encode(event)
        .and_then(|payload| message("event", ":event-type", event_type, encoding, payload))
        .map_err(|error| exception_frame(&error, encoding))
}

fn exception_frame(error: &WireError, encoding: Encoding) -> Bytes {
    let exception_type = HeaderValue::String(error.code().to_owned().into());
    encoding
        .encode(&error.members())
        .and_then(|payload| message("exception", ":exception-type", exception_type, encoding, payload))
        // The stream ends without a word if not even its exception can be written.
        .unwrap_or_default()
}

fn message(
    message_type: &'static str,
    type_header: &'static str,
    type_name: HeaderValue,
    encoding: Encoding,
    payload: Bytes,
) -> Result<Bytes, WireError> {
    let mut frame = Vec::with_capacity(payload.len() + FRAME_OVERHEAD_BYTES);
    let message = Message::new(payload)
        .add_header(Header::new(type_header, type_name))
        .add_header(Header::new(":content-type", HeaderValue::String(encoding.content_type().into())))
        .add_header(Header::new(":message-type", HeaderValue::String(message_type.into())));
    write_message_to(&message, &mut frame).map_err(|error| WireError::internal(error.to_string()))?;
    Ok(frame.into())
}

/// Room for lengths, checksums and headers.
const FRAME_OVERHEAD_BYTES: usize = 192;
