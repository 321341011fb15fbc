//! The handle: start, watch, stop, read.
//!
//! Invariant: everything runs on the instance's own threads, never on the caller's; dropping the last handle stops
//! them without blocking.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_core::Clock;
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use table_core::Metastore;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::builder::AthenaBuilder;
use crate::error::{Error, ErrorKind, Result, Stage};
use crate::query::{
    Admission, Delivery, History, Job, QueryExecution, QueryExecutionId, QueryResult, QueryState, QueryStatistics,
    QueryStream, StartQuery, held, run,
};
use crate::result::{PageRequest, ResultPage, read_page};
use crate::scan::Engine;
use crate::sql::Statement;

/// Batches that a query may be ahead of who reads its stream.
const BATCHES_AHEAD: usize = 2;

/// How often a query that runs in another process is looked at by [`Athena::wait`].
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most executions that one call lists.
pub const EXECUTIONS_LISTED_MAX: usize = 1000;

/// SQL over catalogued tables, in this process. Cheap to clone; all clones are one instance.
#[derive(Clone, Debug)]
pub struct Athena {
    house: Arc<House>,
}

/// What lives as long as a handle does.
#[derive(Debug)]
struct House {
    core: Arc<Core>,
    threads: Threads,
}

/// What the running queries share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) data_store: Arc<dyn ObjectStore>,
    pub(crate) metastore: Arc<dyn Metastore>,
    pub(crate) history: History,
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) admission: Admission,
    pub(crate) cutoff: Option<u64>,
    pub(crate) result_bytes_max: usize,
    pub(crate) live: Mutex<BTreeMap<QueryExecutionId, Live>>,
}

/// A query that has not ended.
#[derive(Debug)]
pub(crate) struct Live {
    execution: watch::Receiver<QueryExecution>,
    cancel: watch::Sender<bool>,
}

impl Core {
    pub(crate) fn forget(&self, id: QueryExecutionId) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn watch(&self, id: QueryExecutionId) -> Option<watch::Receiver<QueryExecution>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&id).map(|live| live.execution.clone())
    }

    fn cancel(&self, id: QueryExecutionId) {
        if let Some(live) = self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            live.cancel.send_replace(true);
        }
    }
}

/// The instance's own threads.
#[derive(Debug)]
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }

    fn handle(&self) -> Result<Handle> {
        let runtime = self.0.as_ref().ok_or_else(|| Error::internal("the threads are gone while a handle lives"))?;
        Ok(runtime.handle().clone())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Athena {
    /// Everything in memory: results, history, and, unless another is given, the catalog and the tables.
    #[must_use]
    pub fn memory() -> AthenaBuilder {
        AthenaBuilder::in_memory()
    }

    /// Tables and results in a directory: `dir/store`, results below `results`.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> AthenaBuilder {
        AthenaBuilder::in_directory(dir.into())
    }

    /// Tables anywhere in a store, results and history below `prefix` of the same.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>, prefix: impl Into<Path>) -> AthenaBuilder {
        AthenaBuilder::on_store(store, prefix.into())
    }

    pub(crate) fn assemble(core: Core, threads: Threads) -> Self {
        Self { house: Arc::new(House { core: Arc::new(core), threads }) }
    }

    fn core(&self) -> &Arc<Core> {
        &self.house.core
    }

    /// Runs a future on the instance's threads, whatever runtime the caller is on.
    async fn there<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let task = self.house.threads.handle()?.spawn(work);
        task.await
            .map_err(|error| Error::new(ErrorKind::Closed, Stage::Engine, "the instance is gone").with_source(error))?
    }

    /// Starts a statement and returns its name at once; its result will be an object in the store. Dropping the
    /// future may leave the query started or not; a started query goes on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is not one supported statement, `LimitExceeded` for one too long, `Throttled` when the
    /// queue is full, `Unavailable` when its record cannot be written.
    pub async fn start(&self, query: impl Into<StartQuery>) -> Result<QueryExecutionId> {
        let (core, query) = (Arc::clone(self.core()), query.into());
        let delivery = Delivery { stored: true, ..Delivery::default() };
        self.there(async move { Ok(begin(core, &query, delivery).await?.borrow().id) }).await
    }

    /// Runs a statement and returns its rows as record batches while they are computed; no result object is written.
    /// Dropping the future, or the stream, cancels the query. Keep a handle while the stream is read.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and what planning the statement meets.
    pub async fn stream(&self, query: impl Into<StartQuery>) -> Result<QueryStream> {
        self.streamed(query.into(), false).await
    }

    /// Runs a statement to its end: stores its result as [`start`](Self::start) does and returns its rows too.
    /// Dropping the future cancels the query.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and why the query failed; `LimitExceeded` for a result past the bytes that may be
    /// held in memory.
    pub async fn query(&self, query: impl Into<StartQuery>) -> Result<QueryResult> {
        let mut stream = self.streamed(query.into(), true).await?;
        let (mut batches, mut bytes) = (Vec::new(), 0usize);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            bytes = bytes.saturating_add(batch.get_array_memory_size());
            held(bytes, self.core().result_bytes_max)?;
            batches.push(batch);
        }
        Ok(QueryResult { execution: stream.execution(), schema: stream.schema(), batches })
    }

    async fn streamed(&self, query: StartQuery, stored: bool) -> Result<QueryStream> {
        let core = Arc::clone(self.core());
        let (schema, planned) = oneshot::channel();
        let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let delivery = Delivery { stored, schema: Some(schema), batches: Some(sender) };
        let execution = self.there(async move { begin(core, &query, delivery).await }).await?;
        let id = execution.borrow().id;
        match planned.await {
            Ok(schema) => Ok(QueryStream::new(id, schema, batches, execution)),
            // It ended before its columns were known: the reason is all that was sent.
            Err(_) => match batches.recv().await {
                Some(Err(error)) => Err(error),
                _ => Err(Error::new(ErrorKind::Closed, Stage::Engine, "the instance is gone")),
            },
        }
    }

    /// What is known of a query now. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound` for a query that never was under this prefix, `Unavailable` when its record cannot be read.
    pub async fn query_execution(&self, id: QueryExecutionId) -> Result<QueryExecution> {
        if let Some(live) = self.core().watch(id) {
            return Ok(live.borrow().clone());
        }
        let core = Arc::clone(self.core());
        self.there(async move { core.history.read(id).await }).await
    }

    /// The newest queries, at most [`EXECUTIONS_LISTED_MAX`]. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more than that, `Unavailable` when the records cannot be read.
    pub async fn query_executions(&self, max: usize) -> Result<Vec<QueryExecution>> {
        if max > EXECUTIONS_LISTED_MAX {
            return Err(Error::invalid(format!(
                "{max} executions are too many: ask for {EXECUTIONS_LISTED_MAX} at most"
            )));
        }
        let core = Arc::clone(self.core());
        self.there(async move { core.history.list(max).await }).await
    }

    /// Waits until a query has ended, however it did. Dropping the future stops the waiting, not the query.
    ///
    /// # Errors
    ///
    /// As [`query_execution`](Self::query_execution).
    pub async fn wait(&self, id: QueryExecutionId) -> Result<QueryExecution> {
        if let Some(mut live) = self.core().watch(id) {
            let ended = live.wait_for(|execution| execution.state.is_final()).await;
            return match ended {
                Ok(execution) => Ok(execution.clone()),
                Err(_) => Err(Error::new(ErrorKind::Closed, Stage::Engine, "the instance is gone")),
            };
        }
        let core = Arc::clone(self.core());
        self.there(async move {
            loop {
                let execution = core.history.read(id).await?;
                if execution.state.is_final() {
                    return Ok(execution);
                }
                core.clock.sleep(LOOK_EVERY).await;
            }
        })
        .await
    }

    /// Asks a query to stop and waits until it has: it becomes `Cancelled`, unless it ended first. Stopping one that
    /// has ended does nothing. Dropping the future leaves it asked.
    ///
    /// # Errors
    ///
    /// As [`query_execution`](Self::query_execution).
    pub async fn stop(&self, id: QueryExecutionId) -> Result<QueryExecution> {
        self.core().cancel(id);
        if self.core().watch(id).is_some() { self.wait(id).await } else { self.query_execution(id).await }
    }

    /// A page of a query's stored result, in the service's text forms. Dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a query that did not succeed or stored no result, or a bad page; `NotFound` for a query
    /// that never was; `Corrupt` for a damaged result.
    pub async fn results(&self, id: QueryExecutionId, page: PageRequest) -> Result<ResultPage> {
        let execution = self.query_execution(id).await?;
        if execution.state != QueryState::Succeeded {
            let message = format!("query {id} did not finish successfully: its state is {}", execution.state);
            return Err(Error::invalid(message));
        }
        let Some(location) = execution.output_location else {
            return Err(Error::invalid(format!("query {id} was streamed: it stored no result")));
        };
        let path = Path::parse(&location).map_err(object_store::Error::from)?;
        let store = Arc::clone(&self.core().store);
        self.there(async move { read_page(store.as_ref(), &path, &page).await }).await
    }

    /// Stops every query and waits until all have ended. Dropping the future leaves them asked to stop.
    ///
    /// # Errors
    ///
    /// None at present; the instance can still be used afterwards.
    pub async fn stop_all(&self) -> Result<()> {
        let live: Vec<_> = self.core().live.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for id in live {
            self.core().cancel(id);
            if let Some(mut live) = self.core().watch(id) {
                // An error means that the query's task is gone, so there is nothing left to wait for.
                let _ = live.wait_for(|execution| execution.state.is_final()).await;
            }
        }
        Ok(())
    }
}

/// Lets a query in, writes its record, and sets it going.
async fn begin(core: Arc<Core>, query: &StartQuery, delivery: Delivery) -> Result<watch::Receiver<QueryExecution>> {
    let statement = Statement::parse(query.sql(), query.database())?;
    let place = core.admission.enter()?;
    let (submitted, now) = (core.clock.monotonic(), core.clock.now());
    let state = if place.is_free() { QueryState::Running } else { QueryState::Queued };
    let mut record = QueryExecution {
        id: QueryExecutionId::random(),
        sql: query.sql().to_owned(),
        database: query.database().to_owned(),
        statement_type: statement.type_name().to_owned(),
        state,
        state_change_reason: None,
        submitted_at: now,
        completed_at: None,
        output_location: None,
        error: None,
        statistics: QueryStatistics::default(),
        heartbeat_at: now,
    };
    core.history.write(&mut record).await?;
    let id = record.id;
    let (execution, watching) = watch::channel(record);
    let (cancel, cancelled) = watch::channel(false);
    let live = Live { execution: watching.clone(), cancel };
    core.live.lock().unwrap_or_else(PoisonError::into_inner).insert(id, live);
    let cutoff = [core.cutoff, query.cutoff()].into_iter().flatten().min();
    let job = Job { statement, cutoff, delivery, place, execution, cancel: cancelled, submitted };
    tokio::spawn(run(core, job));
    Ok(watching)
}
