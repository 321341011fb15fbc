//! A service: its names and its table of operations.
//!
//! Invariant: an operation is one row (name, function); its input and output types are the function's. How they are encoded,
//! signed and carried is not the service's business.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event_stream::{Event, EventStream};
use crate::response::{Answer, AwsResponse};
use crate::{Context, Encoding, WireError};

/// The operations of one AWS API, of the protocols whose requests name their operation in `X-Amz-Target`.
///
/// See the [crate's example](crate#example).
pub struct Service<S> {
    name: &'static str,
    target_prefix: &'static str,
    state: S,
    pub(crate) operations: HashMap<&'static str, Operation>,
    body_limit: Option<BodyLimit>,
}

/// An operation with its types erased: one boxed future a call.
pub(crate) type Operation = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<AwsResponse, WireError>> + Send + Sync>;

/// A request that has come through dispatch.
pub(crate) struct Call {
    pub(crate) context: Context,
    pub(crate) encoding: Encoding,
    pub(crate) body: Bytes,
}

/// A service's own bound on bodies, and what it answers past it.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimit {
    pub(crate) bytes_max: usize,
    pub(crate) error: WireError,
}

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// A service without operations yet.
    ///
    /// `name` is what clients sign for and what the health path lists (`kinesis`); `target_prefix` is what stands before the
    /// operation in `X-Amz-Target` (`Kinesis_20131202`); `state` is handed to every operation, as a cheap clone.
    pub fn new(name: &'static str, target_prefix: &'static str, state: S) -> Self {
        Self { name, target_prefix, state, operations: HashMap::new(), body_limit: None }
    }

    /// Adds an operation. Its future is dropped when the client goes away before it is answered.
    ///
    /// One that panics answers `InternalFailure`; the connection lives on.
    #[must_use]
    pub fn operation<F, Fut, I, O, E>(mut self, name: &'static str, function: F) -> Self
    where
        F: Fn(S, Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        E: Into<WireError>,
    {
        self.add(name, function, |output: O, encoding| {
            let body = encoding.encode(&output)?;
            Ok(AwsResponse { content_type: encoding.content_type(), answer: Answer::Whole(body) })
        });
        self
    }

    /// Adds an operation that answers with an event stream.
    ///
    /// An error of the function is an ordinary error response; an error in the stream is its last event. The stream is dropped
    /// when the client goes away.
    #[must_use]
    pub fn event_stream<F, Fut, I, T, E>(mut self, name: &'static str, function: F) -> Self
    where
        F: Fn(S, Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<EventStream<T>, E>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        T: Event,
        E: Into<WireError>,
    {
        self.add(name, function, |stream: EventStream<T>, encoding| {
            let answer = Answer::Events(stream.into_frames(encoding));
            Ok(AwsResponse { content_type: crate::event_stream::CONTENT_TYPE, answer })
        });
        self
    }

    /// The longest body that this service takes, if that is less than the port's, and what it answers to a longer one.
    #[must_use]
    pub fn with_body_limit(mut self, bytes_max: usize, error: WireError) -> Self {
        self.body_limit = Some(BodyLimit { bytes_max, error });
        self
    }

    fn add<F, Fut, I, O, E>(
        &mut self,
        name: &'static str,
        function: F,
        respond: fn(O, Encoding) -> Result<AwsResponse, WireError>,
    ) where
        F: Fn(S, Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        I: DeserializeOwned + Send + 'static,
        O: Send + 'static,
        E: Into<WireError>,
    {
        let state = self.state.clone();
        let function = Arc::new(function);
        let operation = move |call: Call| {
            let (state, function) = (state.clone(), Arc::clone(&function));
            let answer = async move {
                let input = call.encoding.decode::<I>(&call.body)?;
                // Blobs hold the body on their own.
                drop(call.body);
                let output = function(state, call.context, input).await.map_err(Into::into)?;
                respond(output, call.encoding)
            };
            // What the function holds is dropped with it: nothing half done is seen again.
            let answer = AssertUnwindSafe(answer).catch_unwind();
            answer.map(move |answer| answer.unwrap_or_else(|_| Err(panicked(name)))).boxed()
        };
        self.operations.insert(name, Arc::new(operation));
    }

    pub(crate) fn into_table(self) -> Table {
        Table {
            name: self.name,
            target_prefix: self.target_prefix,
            operations: self.operations,
            body_limit: self.body_limit,
        }
    }
}

fn panicked(operation: &str) -> WireError {
    tracing::error!(operation, "an operation panicked");
    WireError::internal(format!("{operation} failed; its panic message is on the server's standard error"))
}

/// A service as dispatch sees it.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) target_prefix: &'static str,
    pub(crate) operations: HashMap<&'static str, Operation>,
    pub(crate) body_limit: Option<BodyLimit>,
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(self.name, &self.operations, f)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug(self.name, &self.operations, f)
    }
}

fn debug(name: &str, operations: &HashMap<&str, Operation>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut names: Vec<_> = operations.keys().collect();
    names.sort_unstable();
    f.debug_struct("Service").field("name", &name).field("operations", &names).finish_non_exhaustive()
}
