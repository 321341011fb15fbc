//! One query from its turn to its end.
//!
//! Invariant: whatever happens, cancelling and panics included, the query reaches one final state, its record is
//! written after all that it promises, an incomplete result object is discarded, and its place is given back.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement as Parsed;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::admission::Place;
use super::execution::{QueryExecution, QueryState};
use super::history::HEARTBEAT_EVERY;
use crate::athena::Core;
use crate::error::{Error, ErrorKind, Result, Stage};
use crate::result::{ResultForm, ResultWriter};
use crate::scan::{Meter, Planned, plan};
use crate::sql::{CatalogStatement, Statement, explain_lines, run_catalog_statement};

/// Where the rows go.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// The result object.
    pub(crate) stored: bool,
    /// Who waits for the columns.
    pub(crate) schema: Option<oneshot::Sender<SchemaRef>>,
    /// Who reads along.
    pub(crate) batches: Option<mpsc::Sender<Result<RecordBatch>>>,
}

/// A query that was let in.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) statement: Statement,
    pub(crate) cutoff: Option<u64>,
    pub(crate) delivery: Delivery,
    pub(crate) place: Place,
    pub(crate) execution: watch::Sender<QueryExecution>,
    pub(crate) cancel: watch::Receiver<bool>,
    /// Monotonic time of the submission.
    pub(crate) submitted: Duration,
}

/// What a query has done so far; outlives the work when that is dropped.
struct Progress {
    meter: Arc<Meter>,
    planned: Option<Planned>,
    writer: Option<ResultWriter>,
    rows: u64,
    started: Duration,
    planned_at: Option<Duration>,
    computed_at: Option<Duration>,
}

/// Runs a query to its end.
pub(crate) async fn run(core: Arc<Core>, mut job: Job) {
    let mut progress = Progress {
        meter: Arc::new(Meter::new(job.cutoff)),
        planned: None,
        writer: None,
        rows: 0,
        started: job.submitted,
        planned_at: None,
        computed_at: None,
    };
    let outcome = live(&core, &mut job, &mut progress).await;
    if let Some(writer) = progress.writer.take() {
        writer.abort().await;
    }
    end(&core, job, progress, outcome).await;
}

/// Why a query ended before its result was complete.
enum Ended {
    Cancelled(&'static str),
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

async fn live(core: &Arc<Core>, job: &mut Job, progress: &mut Progress) -> Result<(), Ended> {
    let Job { statement, delivery, place, execution, cancel, .. } = job;
    let reader = delivery.batches.clone();
    let turn = tokio::select! {
        biased;
        why = stopped(cancel, reader.as_ref()) => return Err(Ended::Cancelled(why)),
        turn = place.turn() => Arc::new(turn?),
    };
    progress.started = core.clock.monotonic();
    if execution.borrow().state == QueryState::Queued {
        let mut record = execution.borrow().clone();
        record.state = QueryState::Running;
        core.history.write(&mut record).await?;
        execution.send_replace(record);
    }
    let mut alive = execution.borrow().clone();
    let stop = stopped(cancel, reader.as_ref());
    attended(core, &mut alive, stop, work(core, &turn, statement, delivery, execution, progress)).await?;
    // Whoever asks for a stop now is late: half a result is neither kept nor easily taken back.
    attended(core, &mut alive, std::future::pending(), finish(progress)).await
}

/// Does a part of the work, until it is done or to be stopped; the query's record is renewed meanwhile.
async fn attended(
    core: &Core,
    alive: &mut QueryExecution,
    stop: impl Future<Output = &'static str>,
    work: impl Future<Output = Result<()>>,
) -> Result<(), Ended> {
    let work = AssertUnwindSafe(work).catch_unwind();
    tokio::pin!(stop, work);
    loop {
        tokio::select! {
            biased;
            why = &mut stop => return Err(Ended::Cancelled(why)),
            done = &mut work => return done.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))).map_err(Ended::from),
            () = core.clock.sleep(HEARTBEAT_EVERY) => {
                // Awaited, never dropped half-way: a late heartbeat must not overwrite the final record.
                if let Err(error) = core.history.write(alive).await {
                    tracing::warn!(query = %alive.id, ?error, "the record of a running query could not be renewed");
                }
            }
        }
    }
}

/// Completes the result object.
async fn finish(progress: &mut Progress) -> Result<()> {
    if let Some(writer) = &mut progress.writer {
        writer.finish().await?;
    }
    progress.writer = None;
    Ok(())
}

/// Resolves once somebody wants the query to stop.
async fn stopped(
    cancel: &mut watch::Receiver<bool>,
    reader: Option<&mpsc::Sender<Result<RecordBatch>>>,
) -> &'static str {
    let asked = async {
        if cancel.wait_for(|asked| *asked).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    };
    match reader {
        None => {
            asked.await;
            "it was stopped"
        }
        Some(reader) => tokio::select! {
            () = asked => "it was stopped",
            () = reader.closed() => "nobody reads its result any more",
        },
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::internal(format!("the engine failed on this query: {}", text.unwrap_or("no reason given")))
}

async fn work(
    core: &Arc<Core>,
    turn: &Arc<OwnedSemaphorePermit>,
    statement: &mut Statement,
    delivery: &mut Delivery,
    execution: &watch::Sender<QueryExecution>,
    progress: &mut Progress,
) -> Result<()> {
    let database = execution.borrow().database.clone();
    match statement {
        Statement::Query(parsed) => {
            let stream = planned(core, turn, &database, parsed, progress).await?;
            deliver(core, delivery, execution, progress, stream, ResultForm::Csv).await
        }
        Statement::Explain(parsed) => {
            let stream = planned(core, turn, &database, parsed, progress).await?;
            let batches: Vec<RecordBatch> = stream.try_collect().await?;
            one_batch(core, delivery, execution, progress, explain_lines(&batches)?).await
        }
        Statement::Catalog(statement) => catalog(core, statement, delivery, execution, progress).await,
    }
}

/// Plans on a thread of its own: a plan yields only where it asks the catalog or the store, and a stop is to be heard in
/// between. The thread holds the turn too, so that what is planned for nobody any more still counts as running.
async fn planned(
    core: &Arc<Core>,
    turn: &Arc<OwnedSemaphorePermit>,
    database: &str,
    parsed: &Parsed,
    progress: &mut Progress,
) -> Result<SendableRecordBatchStream> {
    let store = core.metered(&progress.meter);
    let (wanted, unwanted) = oneshot::channel::<()>();
    let planning = {
        let (core, turn, threads) = (Arc::clone(core), Arc::clone(turn), Handle::current());
        let (database, parsed) = (database.to_owned(), parsed.clone());
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            threads.block_on(async {
                tokio::select! {
                    biased;
                    _ = unwanted => Err(Error::new(ErrorKind::Closed, Stage::Engine, "nobody waits for the plan")),
                    planned = plan(&core.engine, &core.metastore, &store, &database, parsed) => planned,
                }
            })
        })
    };
    let planned = match planning.await {
        Ok(planned) => planned?,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The instance is gone, and so will be whoever polls this: the record must stay as it is.
        Err(_) => std::future::pending().await,
    };
    drop(wanted);
    progress.planned_at = Some(core.clock.monotonic());
    let stream = execute_stream(Arc::clone(&planned.plan), planned.state.task_ctx())?;
    progress.planned = Some(planned);
    Ok(stream)
}

async fn catalog(
    core: &Core,
    statement: &CatalogStatement,
    delivery: &mut Delivery,
    execution: &watch::Sender<QueryExecution>,
    progress: &mut Progress,
) -> Result<()> {
    let batch = run_catalog_statement(core.metastore.as_ref(), statement).await?;
    progress.planned_at = Some(core.clock.monotonic());
    one_batch(core, delivery, execution, progress, batch).await
}

async fn one_batch(
    core: &Core,
    delivery: &mut Delivery,
    execution: &watch::Sender<QueryExecution>,
    progress: &mut Progress,
    batch: RecordBatch,
) -> Result<()> {
    let schema = batch.schema();
    let stream = futures::stream::iter([Ok(batch)]);
    let stream = datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(schema, stream);
    deliver(core, delivery, execution, progress, Box::pin(stream), ResultForm::Text).await
}

/// Sends each batch where it is wanted, as it comes.
async fn deliver(
    core: &Core,
    delivery: &mut Delivery,
    execution: &watch::Sender<QueryExecution>,
    progress: &mut Progress,
    mut stream: SendableRecordBatchStream,
    form: ResultForm,
) -> Result<()> {
    if delivery.stored {
        let path = core.history.result_path(execution.borrow().id, form.extension());
        execution.send_modify(|execution| execution.output_location = Some(path.to_string()));
        let store = Arc::clone(&core.store);
        progress.writer = Some(ResultWriter::new(store, path, &stream.schema(), form).await?);
    }
    if let Some(waiting) = delivery.schema.take() {
        // Who no longer waits has dropped the stream too, which cancels the query.
        let _ = waiting.send(stream.schema());
    }
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        progress.rows += batch.num_rows() as u64;
        if let Some(writer) = &mut progress.writer {
            writer.write(&batch).await?;
        }
        if let Some(reader) = &delivery.batches
            && reader.send(Ok(batch)).await.is_err()
        {
            // Its reader is gone, which whoever polls this notices too, and then drops it.
            std::future::pending::<()>().await;
        }
        // A plan that always has a batch ready must not keep its thread from hearing that it was stopped.
        tokio::task::consume_budget().await;
    }
    progress.computed_at = Some(core.clock.monotonic());
    Ok(())
}

/// Writes the final record, tells everybody, and gives the place back.
async fn end(core: &Core, job: Job, progress: Progress, outcome: Result<(), Ended>) {
    let Job { delivery, execution, place, submitted, cutoff, .. } = job;
    let mut record = execution.borrow().clone();
    record.completed_at = Some(core.clock.now());
    settle(&mut record, core.clock.monotonic(), submitted, &progress);
    let failure = match outcome {
        Ok(()) => {
            record.state = QueryState::Succeeded;
            None
        }
        Err(Ended::Cancelled(why)) => {
            record.state = QueryState::Cancelled;
            record.state_change_reason = Some(why.to_owned());
            Some(Error::new(ErrorKind::Closed, Stage::Request, format!("query {} was cancelled: {why}", record.id)))
        }
        Err(Ended::Failed(error)) => Some(fail(&mut record, explained(error, &progress, cutoff))),
    };
    let failure = match core.history.write(&mut record).await {
        Ok(()) => failure,
        Err(error) => Some(fail(&mut record, error)),
    };
    tracing::debug!(query = %record.id, state = %record.state, rows = record.statistics.rows, "query ended");
    // Before anybody hears of the end: who hears it may start another query at once.
    drop(place);
    core.forget(record.id);
    execution.send_replace(record);
    if let (Some(error), Some(reader)) = (failure, &delivery.batches) {
        let _ = reader.send(Err(error)).await;
    }
}

fn fail(record: &mut QueryExecution, error: Error) -> Error {
    record.state = QueryState::Failed;
    record.state_change_reason = Some(error.to_string());
    record.error = Some(error.to_athena());
    error
}

/// A read that was refused for the cutoff surfaces as whatever the reader made of it; this says what it was.
fn explained(error: Error, progress: &Progress, cutoff: Option<u64>) -> Error {
    let Some(cutoff) = cutoff.filter(|_| progress.meter.refused()) else { return error };
    let message = format!(
        "bytes-scanned cutoff: the query read {} bytes and the next read would pass {cutoff}; filter on the partition \
         keys, name fewer columns, or raise the cutoff",
        progress.meter.statistics().bytes_transferred()
    );
    Error::new(ErrorKind::LimitExceeded, Stage::Resources, message)
}

fn settle(record: &mut QueryExecution, now: Duration, submitted: Duration, progress: &Progress) {
    let millis = |from: Duration, to: Duration| u64::try_from(to.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
    let statistics = &mut record.statistics;
    let planned_at = progress.planned_at.unwrap_or(now);
    let computed_at = progress.computed_at.unwrap_or(now);
    statistics.total_execution_ms = millis(submitted, now);
    statistics.queue_ms = millis(submitted, progress.started);
    statistics.planning_ms = millis(progress.started, planned_at);
    statistics.engine_execution_ms = millis(planned_at, computed_at);
    statistics.service_processing_ms = millis(computed_at, now);
    statistics.rows = progress.rows;
    statistics.reads = progress.meter.statistics();
    statistics.data_scanned_bytes = statistics.reads.bytes_scanned();
    statistics.transferred_bytes = statistics.reads.bytes_transferred();
    let Some(planned) = &progress.planned else { return };
    let totals = planned.totals();
    statistics.partitions_read = totals.partitions;
    statistics.partitions_total = totals.partitions_total;
    statistics.files_read = totals.files;
    statistics.files_total = totals.files_total;
    statistics.total_bytes = totals.bytes_total;
    statistics.rows_rejected = planned.metric(table_core::provider::ROWS_REJECTED);
    statistics.values_nulled = planned.metric(table_core::provider::VALUES_NULLED);
}

impl Core {
    /// The tables' store as one query sees it.
    fn metered(&self, meter: &Arc<Meter>) -> Arc<dyn ObjectStore> {
        Arc::new(crate::scan::MeteredStore::new(Arc::clone(&self.data_store), Arc::clone(meter)))
    }
}
