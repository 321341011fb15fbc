//! What is remembered of queries: one JSON object each.
//!
//! | object | written by | holds |
//! |---|---|---|
//! | `<prefix>/<id>.json` | the process that runs the query, when it starts, every few seconds, and at the end | [`QueryExecution`] |
//!
//! Invariant: a record that is not final and was not rewritten for [`ABANDONED_AFTER`] belongs to a process that is
//! gone; whoever reads it reports it as failed, and says so in the record.

use std::sync::Arc;
use std::time::Duration;

use durable_core::Clock;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::execution::{QueryExecution, QueryExecutionId, QueryState};
use crate::error::{AthenaError, Error, ErrorCategory, ErrorKind, Result, Stage};

/// A record that lives is rewritten this often.
pub(crate) const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// One that was not for so long is abandoned.
pub(crate) const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// Records read at a time.
const READS_AT_A_TIME: usize = 16;

/// The records under one prefix.
#[derive(Clone, Debug)]
pub(crate) struct History {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
}

impl History {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: Path, clock: Arc<dyn Clock>) -> Self {
        Self { store, prefix, clock }
    }

    fn path(&self, id: QueryExecutionId) -> Path {
        self.prefix.clone().join(format!("{id}.json"))
    }

    /// Where the result of a query lies.
    pub(crate) fn result_path(&self, id: QueryExecutionId, extension: &str) -> Path {
        self.prefix.clone().join(format!("{id}.{extension}"))
    }

    pub(crate) async fn write(&self, execution: &mut QueryExecution) -> Result<()> {
        execution.heartbeat_at = self.clock.now();
        let body = serde_json::to_vec_pretty(execution)
            .map_err(|error| Error::internal("a query's record does not serialise").with_source(error))?;
        self.store
            .put(&self.path(execution.id), body.into())
            .await
            .map_err(|error| Error::from(error).at(Stage::Result))?;
        Ok(())
    }

    /// The record of a query.
    pub(crate) async fn read(&self, id: QueryExecutionId) -> Result<QueryExecution> {
        let path = self.path(id);
        let bytes = match self.store.get(&path).await {
            Ok(result) => result.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => {
                let message = format!("query {id} was not found under \"{}\"", self.prefix);
                return Err(Error::new(ErrorKind::NotFound, Stage::Request, message));
            }
            Err(error) => return Err(error.into()),
        };
        let mut execution: QueryExecution = serde_json::from_slice(&bytes).map_err(|error| {
            Error::new(ErrorKind::Corrupt, Stage::Result, format!("the record \"{path}\" is damaged"))
                .with_source(error)
        })?;
        if self.is_abandoned(&execution) {
            abandon(&mut execution);
            self.write(&mut execution).await?;
        }
        Ok(execution)
    }

    fn is_abandoned(&self, execution: &QueryExecution) -> bool {
        let silent = self.clock.now() - execution.heartbeat_at;
        !execution.state.is_final() && silent.to_std().is_ok_and(|silent| silent >= ABANDONED_AFTER)
    }

    /// All records, newest first, at most `max`.
    pub(crate) async fn list(&self, max: usize) -> Result<Vec<QueryExecution>> {
        let mut objects: Vec<_> = self.store.list(Some(&self.prefix)).try_collect().await?;
        objects.sort_by(|a, b| b.last_modified.cmp(&a.last_modified).then_with(|| a.location.cmp(&b.location)));
        let ids = objects.iter().filter_map(|object| object.location.filename()?.strip_suffix(".json")?.parse().ok());
        let reads = ids.take(max).map(|id| self.read(id)).collect::<Vec<_>>();
        let mut records: Vec<QueryExecution> =
            futures::stream::iter(reads).buffered(READS_AT_A_TIME).try_collect().await?;
        records.sort_by(|a, b| b.submitted_at.cmp(&a.submitted_at).then(a.id.cmp(&b.id)));
        Ok(records)
    }
}

fn abandon(execution: &mut QueryExecution) {
    let message = "the process that ran the query ended before the query did; run it again".to_owned();
    execution.state = QueryState::Failed;
    execution.completed_at = Some(execution.heartbeat_at);
    execution.state_change_reason = Some(message.clone());
    execution.error = Some(AthenaError { category: ErrorCategory::System, error_type: 100, retryable: true, message });
}
