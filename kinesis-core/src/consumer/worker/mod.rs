//! Workers that share the shards of a stream among them, as with the Kinesis Client Library.
//!
//! An *application* is a name under which any number of workers read one stream. Each shard has a *lease*, held by one
//! worker at a time, with the checkpoint of what was processed. Leases lie in the object store: they need no database.
//!
//! - Workers show that they live by one small object each. One that is silent for the lease's duration, by the others' own
//!   clocks, loses its leases to them; what it still processes it cannot checkpoint.
//! - Leases are spread evenly: a worker with fewer than its share asks the one with most, which finishes what it is at,
//!   lets its processor checkpoint, and hands over.
//! - A shard's lease is made when all shards that it came from were processed to their end; so a key's records are
//!   processed in order through splits and merges.
//! - Everything is processed at least once. What was processed and not checkpointed comes again after a crash.
//!
//! ```
//! use kinesis_core::worker::{Checkpointer, InitialPosition, ProcessRecords, ProcessorError, RecordProcessor, Worker};
//! use kinesis_core::{Kinesis, PutRecord, ShardId};
//! use tokio::sync::mpsc;
//!
//! struct Tell(mpsc::UnboundedSender<String>);
//!
//! impl RecordProcessor for Tell {
//!     async fn process_records(&mut self, input: ProcessRecords<'_>, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
//!         for user in input.records {
//!             self.0.send(String::from_utf8_lossy(&user.record.data).into_owned())?;
//!         }
//!         Ok(checkpointer.checkpoint().await?)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kinesis_core::Result<()> {
//! let kinesis = Kinesis::memory().open().await?;
//! let stream = kinesis.create_stream("clicks", 2).await?;
//! stream.put_record(PutRecord::new("hello", "user-1")).await?;
//!
//! let (tell, mut told) = mpsc::unbounded_channel();
//! let worker = Worker::builder(stream, "counter", move |_: ShardId| Tell(tell.clone()))
//!     .with_initial_position(InitialPosition::TrimHorizon)
//!     .start()
//!     .await?;
//! assert_eq!(told.recv().await.as_deref(), Some("hello"));
//! worker.shutdown().await;
//! # kinesis.close().await
//! # }
//! ```

mod balance;
mod checkpointer;
mod coordinator;
pub(super) mod lease;
mod liveness;
mod processor;
mod shard_consumer;
pub(super) mod sync;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use durable_core::{Clock, Heartbeat};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use checkpointer::Checkpointer;
pub use lease::{Checkpoint, Lease};
pub use processor::{ProcessRecords, ProcessorError, RecordProcessor};
pub use sync::InitialPosition;

use crate::error::{Error, Result};
use crate::limits::GET_RECORDS_MAX;
use crate::stream::{DataStream, ShardId};
use coordinator::Coordinator;
use liveness::{Life, Others};
use table::LeaseTable;

/// A worker at work. Dropping it stops it at once: its leases run out, as after a crash. See [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Worker {
    id: String,
    table: LeaseTable,
    stopping: watch::Sender<bool>,
    coordinator: Option<JoinHandle<()>>,
    heartbeat: JoinHandle<()>,
}

/// How a worker works.
#[derive(Clone, Debug)]
struct Config {
    worker_id: String,
    clock: Arc<dyn Clock>,
    initial_position: InitialPosition,
    lease_duration: Duration,
    handover_timeout: Duration,
    leases_max: usize,
    steals_max: usize,
    records_max: usize,
}

/// What a worker is to be. Ends in [`start`](Self::start).
#[must_use = "a builder does nothing until start is called"]
pub struct WorkerBuilder<F> {
    stream: DataStream,
    application: String,
    factory: F,
    config: Config,
    place: Option<(Arc<dyn ObjectStore>, Path)>,
}

impl Worker {
    /// A worker of an application on a stream; `factory` makes the processor of each shard. Workers of one application share
    /// its shards.
    pub fn builder<P, F>(stream: DataStream, application: impl Into<String>, factory: F) -> WorkerBuilder<F>
    where
        P: RecordProcessor,
        F: Fn(ShardId) -> P + Send + Sync + 'static,
    {
        let config = Config {
            worker_id: Uuid::new_v4().to_string(),
            clock: stream.clock(),
            initial_position: InitialPosition::default(),
            lease_duration: Duration::from_secs(10),
            handover_timeout: Duration::from_secs(30),
            leases_max: usize::MAX,
            steals_max: 1,
            records_max: GET_RECORDS_MAX,
        };
        WorkerBuilder { stream, application: application.into(), factory, config, place: None }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The leases of its application now, whoever holds them. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `Unavailable` as the store reports it; `Corrupt` if a lease is damaged.
    pub async fn leases(&self) -> Result<Vec<Lease>> {
        Ok(self.table.leases().await?.into_values().map(|(_, lease)| lease).collect())
    }

    /// Lets each processor finish the call it is at and checkpoint, gives all leases back, and returns once all is quiet.
    ///
    /// Dropping the future stops the worker at once.
    pub async fn shutdown(mut self) {
        self.stopping.send_replace(true);
        if let Some(coordinator) = &mut self.coordinator
            && let Err(error) = coordinator.await
        {
            tracing::error!(%error, worker = self.id, "a worker ended badly");
        }
        self.coordinator = None;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.heartbeat.abort();
        if let Some(coordinator) = &self.coordinator {
            // With it goes what gives orders, and consumers stop.
            coordinator.abort();
        }
    }
}

impl<P, F> WorkerBuilder<F>
where
    P: RecordProcessor,
    F: Fn(ShardId) -> P + Send + Sync + 'static,
{
    /// The worker's name, which no other worker of the application has. Without it a random one.
    pub fn with_worker_id(mut self, id: impl Into<String>) -> Self {
        self.config.worker_id = id.into();
        self
    }

    /// Where the application begins if it has no lease yet. Without it [`InitialPosition::Latest`].
    pub fn with_initial_position(mut self, position: InitialPosition) -> Self {
        self.config.initial_position = position;
        self
    }

    /// Takes time from this clock instead of the stream's.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.config.clock = clock;
        self
    }

    /// How long a worker may show no life before others take its leases: at least a second, without it 10 s. All workers
    /// of an application have the same.
    pub fn with_lease_duration(mut self, duration: Duration) -> Self {
        self.config.lease_duration = duration;
        self
    }

    /// How long to wait for a lease that was asked for before it is taken; without it 30 s.
    pub fn with_handover_timeout(mut self, timeout: Duration) -> Self {
        self.config.handover_timeout = timeout;
        self
    }

    /// Leases that the worker holds at most; without it any number.
    pub fn with_leases_max(mut self, leases: usize) -> Self {
        self.config.leases_max = leases;
        self
    }

    /// Leases that the worker asks others for at one time; without it one.
    pub fn with_steals_max(mut self, leases: usize) -> Self {
        self.config.steals_max = leases;
        self
    }

    /// User records of one call at most, at least one; without it 10,000.
    pub fn with_records_max(mut self, records: usize) -> Self {
        self.config.records_max = records.max(1);
        self
    }

    /// Keeps leases under a prefix of another store than the stream's own.
    pub fn with_lease_store(mut self, store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        self.place = Some((store, prefix));
        self
    }

    /// Starts it on the current tokio runtime. Dropping the future starts nothing.
    ///
    /// # Errors
    /// `InvalidInput` for an application's or worker's name that is empty, longer than 256 bytes or has a `/`, and for a
    /// lease's duration below a second; `NotFound` if the stream was deleted; `Closed`; `Unavailable` if the store cannot be
    /// written.
    pub async fn start(self) -> Result<Worker> {
        let Self { stream, application, factory, config, place } = self;
        stream.check()?;
        for (what, name) in [("application", &application), ("worker", &config.worker_id)] {
            if name.is_empty() || name.len() > 256 || name.contains('/') {
                return Err(Error::invalid(format!("the {what}'s name '{name}' has not 1 to 256 bytes without a '/'")));
            }
        }
        if config.lease_duration < Duration::from_secs(1) {
            return Err(Error::invalid("a lease lasts a second at least"));
        }
        let (store, root) = place.unwrap_or_else(|| {
            let engine = stream.engine();
            (engine.store.clone(), engine.root.clone().join("workers"))
        });
        let root = root.join(application).join(format!("{:020}", stream.state().id));
        let (leases, signs) = (root.clone().join("leases"), root.join("alive"));
        let clock = config.clock.clone();
        let heartbeat = Heartbeat::new(store.clone(), &signs, clock.clone(), &config.worker_id)?;
        let life = Arc::new(Life::new(heartbeat, clock.clone(), config.lease_duration));
        life.beat().await?;
        let beating = tokio::spawn(beat(life.clone(), clock.clone(), config.lease_duration / 3));
        let table = LeaseTable::new(store.clone(), clock.clone(), leases);
        let (stopping, stopped) = watch::channel(false);
        let id = config.worker_id.clone();
        let others = Others::new(store, clock, signs, config.lease_duration);
        let coordinator = Coordinator {
            stream,
            config,
            factory,
            table: table.clone(),
            others,
            life,
            running: BTreeMap::new(),
            claimed: BTreeMap::new(),
            asked: BTreeMap::new(),
            turn: Arc::new(Notify::new()),
        };
        let coordinator = Some(tokio::spawn(coordinator.run(stopped)));
        Ok(Worker { id, table, stopping, coordinator, heartbeat: beating })
    }
}

impl<F> fmt::Debug for WorkerBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("application", &self.application)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Shows that the worker lives, for as long as it does.
async fn beat(life: Arc<Life>, clock: Arc<dyn Clock>, every: Duration) {
    loop {
        clock.sleep(every).await;
        if let Err(error) = life.beat().await {
            tracing::warn!(%error, "a worker could not show that it lives");
        }
    }
}
