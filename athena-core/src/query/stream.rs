//! A result as record batches.
//!
//! Invariant: a stream holds back its query: it never runs more than a few batches ahead of its reader, and dropping
//! the stream cancels it. A stream that ends without an error has given every row.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};

use super::execution::{QueryExecution, QueryExecutionId, QueryState};
use crate::error::{Error, ErrorKind, Result, Stage};

/// The rows of a running query, as they come. It does not keep its instance: once the last [`Athena`](crate::Athena)
/// handle is dropped the stream ends in an error.
#[derive(Debug)]
pub struct QueryStream {
    id: QueryExecutionId,
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    execution: watch::Receiver<QueryExecution>,
    /// Whether an error was given, after which the stream just ends.
    failed: bool,
}

impl QueryStream {
    pub(crate) fn new(
        id: QueryExecutionId,
        schema: SchemaRef,
        batches: mpsc::Receiver<Result<RecordBatch>>,
        execution: watch::Receiver<QueryExecution>,
    ) -> Self {
        Self { id, schema, batches, execution, failed: false }
    }

    /// The query's name.
    #[must_use]
    pub fn id(&self) -> QueryExecutionId {
        self.id
    }

    /// The columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// What is known of the query now; final once the stream has ended.
    #[must_use]
    pub fn execution(&self) -> QueryExecution {
        self.execution.borrow().clone()
    }

    /// The end, if the query has come to it; its task may have been dropped before.
    fn ended(&self) -> Option<Result<RecordBatch>> {
        if self.execution.borrow().state == QueryState::Succeeded {
            return None;
        }
        let message = format!(
            "query {} did not end: the last handle of its instance was dropped; keep one while the stream is read",
            self.id
        );
        Some(Err(Error::new(ErrorKind::Closed, Stage::Engine, message)))
    }

    /// The schema and the batches in the shape that all crates of the workspace exchange.
    #[must_use]
    pub fn into_arrow(self) -> (SchemaRef, BoxStream<'static, Result<RecordBatch, ArrowError>>) {
        let schema = self.schema();
        (schema, self.map(|batch| batch.map_err(|error| ArrowError::ExternalError(Box::new(error)))).boxed())
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.batches.poll_recv(cx) {
            Poll::Ready(None) if !self.failed => self.ended(),
            Poll::Ready(next) => next,
            Poll::Pending => return Poll::Pending,
        };
        self.failed |= matches!(next, Some(Err(_)));
        Poll::Ready(next)
    }
}

/// A whole result in memory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueryResult {
    /// The query, in its final state.
    pub execution: QueryExecution,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl QueryResult {
    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows in the service's text forms: one text per column, `None` for NULL.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a value that has no text form.
    pub fn text_rows(&self) -> Result<Vec<crate::Row>> {
        crate::result::text_rows(&self.batches)
    }
}

/// Refuses a result that grows past what may be held in memory.
pub(crate) fn held(bytes: usize, bytes_max: usize) -> Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format!("the result has more than {bytes_max} bytes in memory: read it with stream() or by pages");
    Err(Error::new(ErrorKind::LimitExceeded, Stage::Resources, message))
}
