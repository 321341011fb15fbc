//! A result as record batches.
//!
//! Invariant: a stream holds back its query: it never runs more than a few batches ahead of its reader, and dropping
//! the stream cancels it.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};

use super::execution::{QueryExecution, QueryExecutionId};
use crate::error::{Error, Result};

/// The rows of a running query, as they come.
#[derive(Debug)]
pub struct QueryStream {
    pub(crate) id: QueryExecutionId,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: mpsc::Receiver<Result<RecordBatch>>,
    pub(crate) execution: watch::Receiver<QueryExecution>,
}

impl QueryStream {
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
        self.batches.poll_recv(cx)
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
    Err(Error::new(crate::ErrorKind::LimitExceeded, crate::error::Stage::Resources, message))
}
