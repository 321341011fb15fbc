//! What is called with batches of records.

use std::error::Error as StdError;
use std::future::Future;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::read::Record;
use crate::stream::{SequenceNumber, ShardId, StreamName};

/// Why a function failed.
pub type FunctionError = Box<dyn StdError + Send + Sync>;

/// A function that an event source mapping calls; any `async Fn(KinesisEvent) -> Result<Response, FunctionError>` is one.
pub trait Function: Send + Sync + 'static {
    /// Processes a batch. A panic counts as an error.
    ///
    /// # Errors
    /// The batch failed: what follows is the mapping's to decide.
    fn invoke(&self, event: KinesisEvent) -> impl Future<Output = Result<Response, FunctionError>> + Send;
}

impl<F, R> Function for F
where
    F: Fn(KinesisEvent) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Response, FunctionError>> + Send,
{
    fn invoke(&self, event: KinesisEvent) -> impl Future<Output = Result<Response, FunctionError>> + Send {
        self(event)
    }
}

/// One call's input.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KinesisEvent {
    /// The stream.
    pub stream: StreamName,
    /// The shard that all records are of.
    pub shard: ShardId,
    /// In order. None in the last call of a window.
    pub records: Vec<Record>,
    /// The tumbling window that they belong to.
    pub window: Option<TumblingWindow>,
}

/// A window and what the calls before made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TumblingWindow {
    /// Where it begins.
    pub start: DateTime<Utc>,
    /// Where the next one begins.
    pub end: DateTime<Utc>,
    /// What the last call of this window in this shard returned; empty in the first.
    pub state: Bytes,
    /// Whether this is the window's last call.
    pub is_final_invoke: bool,
    /// Whether it ends before its time, since the state grew past 1 MiB.
    pub is_terminated_early: bool,
}

/// One call's output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    batch_item_failures: Vec<String>,
    state: Bytes,
}

impl Response {
    /// All records were processed.
    #[must_use]
    pub fn success() -> Self {
        Self::default()
    }

    /// This record was not processed; those before it were, unless they are named too. It and all behind it come again. Counts
    /// only with [`report_batch_item_failures`](super::MappingBuilder::report_batch_item_failures).
    #[must_use]
    pub fn with_failure(mut self, record: SequenceNumber) -> Self {
        self.batch_item_failures.push(record.to_string());
        self
    }

    /// What the next call of the same window gets.
    #[must_use]
    pub fn with_state(mut self, state: impl Into<Bytes>) -> Self {
        self.state = state.into();
        self
    }

    pub(super) fn into_parts(self) -> (Vec<String>, Bytes) {
        (self.batch_item_failures, self.state)
    }
}
