//! A function that is called with batches of a stream's records, as Lambda's event source mappings call one.
//!
//! Shards are read side by side, a shard's records in order; with a parallelization factor, in order by partition key. A
//! batch that fails comes again, whole, in halves or from the record on that the function names; once it failed too often
//! or is too old, it goes to a destination. How far each shard is done is committed in the stream itself: behind a restart
//! the mapping goes on there. What was called and not committed comes again, so each record is processed at least once.
//!
//! One mapping of a name runs in the process that has the instance open; to share shards among processes, see
//! [`worker`](crate::worker).
//!
//! ```
//! use kinesis_core::mapping::{EventSourceMapping, KinesisEvent, Response, StartingPosition};
//! use kinesis_core::{Kinesis, PutRecord};
//! use tokio::sync::mpsc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kinesis_core::Result<()> {
//! let kinesis = Kinesis::memory().open().await?;
//! let stream = kinesis.create_stream("clicks", 2).await?;
//! stream.put_record(PutRecord::new("hello", "user-1")).await?;
//!
//! let (tell, mut told) = mpsc::unbounded_channel();
//! let mapping = EventSourceMapping::builder(stream, "greeter", move |event: KinesisEvent| {
//!     let tell = tell.clone();
//!     async move {
//!         for record in event.records {
//!             tell.send(record.data)?;
//!         }
//!         Ok(Response::success())
//!     }
//! })
//! .with_starting_position(StartingPosition::TrimHorizon)
//! .with_maximum_retries(3)
//! .start()
//! .await?;
//! assert_eq!(told.recv().await.as_deref(), Some(b"hello".as_ref()));
//! mapping.shutdown().await;
//! # kinesis.close().await
//! # }
//! ```

mod failure;
mod filter;
mod function;
mod lane;
mod outcome;
mod shard;
mod tracker;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use durable_core::{Clock, ErrorKind};
use tokio::sync::watch;
use tokio::task::{Id, JoinHandle, JoinSet};

pub use super::worker::InitialPosition as StartingPosition;
pub use failure::{Condition, FailedBatch, OnFailure};
pub use filter::Filter;
pub use function::{Function, FunctionError, KinesisEvent, Response, TumblingWindow};

use super::worker::Checkpoint;
use super::worker::lease::Lease;
use super::worker::sync::missing;
use crate::error::{Error, Result};
use crate::read::IteratorType;
use crate::stream::{DataStream, SequenceNumber, Shard, ShardId};
use outcome::Policy;
use shard::{ShardWork, Stopped};
use window::Saved;

/// How long shards rest whose work ended without a reason of theirs.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A mapping at work. Dropping it stops it at once, calls under way too. See [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct EventSourceMapping {
    stopping: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

/// How a mapping works.
#[derive(Debug)]
struct Config {
    name: String,
    clock: Arc<dyn Clock>,
    starting_position: StartingPosition,
    batch_size: usize,
    batching_window: Duration,
    parallelization_factor: usize,
    policy: Policy,
    record_age_max: Option<Duration>,
    on_failure: Option<OnFailure>,
    tumbling_window: Option<Duration>,
    filters: Vec<Filter>,
}

impl Config {
    /// The consumer whose position is that of a shard: with windows each has its own, for its state.
    fn consumer(&self, shard: ShardId) -> String {
        match self.tumbling_window {
            Some(_) => format!("{}.{shard}", self.name),
            None => self.name.clone(),
        }
    }
}

/// What a mapping is to be. Ends in [`start`](Self::start).
#[must_use = "a builder does nothing until start is called"]
pub struct MappingBuilder<F> {
    stream: DataStream,
    function: F,
    config: Config,
}

impl EventSourceMapping {
    /// A mapping of this name from a stream to a function. The name is the consumer's whose positions it commits.
    pub fn builder<F: Function>(stream: DataStream, name: impl Into<String>, function: F) -> MappingBuilder<F> {
        let config = Config {
            name: name.into(),
            clock: stream.clock(),
            starting_position: StartingPosition::default(),
            batch_size: 100,
            batching_window: Duration::ZERO,
            parallelization_factor: 1,
            policy: Policy { bisect: false, retries_max: None, report_item_failures: false },
            record_age_max: None,
            on_failure: None,
            tumbling_window: None,
            filters: Vec::new(),
        };
        MappingBuilder { stream, function, config }
    }

    /// Lets calls under way finish, commits, and returns once all is quiet.
    ///
    /// Dropping the future stops the mapping at once.
    pub async fn shutdown(mut self) {
        self.stopping.send_replace(true);
        if let Some(task) = &mut self.task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "a mapping ended badly");
        }
        self.task = None;
    }
}

impl Drop for EventSourceMapping {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl<F: Function> MappingBuilder<F> {
    /// Where a mapping begins that has not committed yet. Without it [`StartingPosition::Latest`].
    pub fn with_starting_position(mut self, position: StartingPosition) -> Self {
        self.config.starting_position = position;
        self
    }

    /// Records of a call at most: 1 to 10,000, without it 100. A call's records have 6 MiB at most besides, counted in the
    /// JSON that Lambda would make of them.
    pub fn with_batch_size(mut self, records: usize) -> Self {
        self.config.batch_size = records;
        self
    }

    /// How long to gather a batch that is not full: up to 5 minutes. Without it a call gets what is there.
    pub fn with_batching_window(mut self, window: Duration) -> Self {
        self.config.batching_window = window;
        self
    }

    /// Batches of one shard at the same time: 1 to 10, without it 1. A partition key's records stay in order.
    pub fn with_parallelization_factor(mut self, factor: usize) -> Self {
        self.config.parallelization_factor = factor;
        self
    }

    /// Halves a batch that fails, and each half again, until what fails is alone. Halving counts as no retry.
    pub fn with_bisect_on_error(mut self, bisect: bool) -> Self {
        self.config.policy.bisect = bisect;
        self
    }

    /// Retries of a batch at most, up to 10,000. Without it as many as it takes, until retention ends.
    pub fn with_maximum_retries(mut self, retries: u32) -> Self {
        self.config.policy.retries_max = Some(retries);
        self
    }

    /// Records that are older are given up before they are called: a minute to 7 days. Without it none are.
    pub fn with_maximum_record_age(mut self, age: Duration) -> Self {
        self.config.record_age_max = Some(age);
        self
    }

    /// Where batches go that are given up. Without it they are told to `tracing` and left in the stream.
    pub fn with_on_failure(mut self, destination: OnFailure) -> Self {
        self.config.on_failure = Some(destination);
        self
    }

    /// Gives calls windows of this length by arrival, with a state that goes from call to call: a second to 15 minutes.
    pub fn with_tumbling_window(mut self, size: Duration) -> Self {
        self.config.tumbling_window = Some(size);
        self
    }

    /// Calls with records only that one of these matches: up to 10. Without any, with all.
    pub fn with_filters(mut self, filters: impl IntoIterator<Item = Filter>) -> Self {
        self.config.filters = filters.into_iter().collect();
        self
    }

    /// Lets the function say which records of a batch failed, by [`Response::with_failure`].
    pub fn report_batch_item_failures(mut self) -> Self {
        self.config.policy.report_item_failures = true;
        self
    }

    /// Takes time from this clock instead of the stream's.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.config.clock = clock;
        self
    }

    /// Starts it on the current tokio runtime: what is put once this returns is behind [`StartingPosition::Latest`].
    /// Dropping the future starts nothing.
    ///
    /// # Errors
    /// `InvalidInput` for a setting out of its bounds, for windows together with a parallelization factor, and for a name
    /// that no consumer may have; `NotFound` if the stream was deleted; `Closed`; `Unavailable` if the journal fails.
    pub async fn start(self) -> Result<EventSourceMapping> {
        let Self { stream, function, config } = self;
        check(&config)?;
        // Also finds out whether the name may be a consumer's.
        stream.commit(&config.name, BTreeMap::new(), None).await?;
        let (stopping, stopped) = watch::channel(false);
        let mut mapping = Mapping {
            stream,
            function: Arc::new(function),
            config: Arc::new(config),
            stopping: stopped,
            running: BTreeMap::new(),
            work: JoinSet::new(),
        };
        // Before this returns, so that what is put from then on is behind the places where it begins.
        mapping.begin_shards().await?;
        Ok(EventSourceMapping { stopping, task: Some(tokio::spawn(mapping.run())) })
    }
}

fn check(config: &Config) -> Result<()> {
    let within = |what: &str, is_within: bool, bounds: &str| match is_within {
        true => Ok(()),
        false => Err(Error::invalid(format!("{what} of mapping '{}' must be {bounds}", config.name))),
    };
    let secs = |secs: u64| Duration::from_secs(secs);
    within("the batch size", (1..=10_000).contains(&config.batch_size), "1 to 10,000")?;
    within("the batching window", config.batching_window <= secs(300), "at most 5 minutes")?;
    within("the parallelization factor", (1..=10).contains(&config.parallelization_factor), "1 to 10")?;
    let retries = config.policy.retries_max.unwrap_or(0);
    within("the maximum of retries", retries <= 10_000, "at most 10,000")?;
    let age = config.record_age_max.unwrap_or(secs(60));
    within("the maximum record age", (secs(60)..=secs(604_800)).contains(&age), "a minute to 7 days")?;
    let window = config.tumbling_window.unwrap_or(secs(1));
    within("the tumbling window", (secs(1)..=secs(900)).contains(&window), "a second to 15 minutes")?;
    within("the number of filters", config.filters.len() <= 10, "at most 10")?;
    let is_alone = config.tumbling_window.is_none() || config.parallelization_factor == 1;
    within("with windows the parallelization factor", is_alone, "1, since a window has one state")?;
    within("the name", !config.name.is_empty() && config.name.len() <= 100, "of 1 to 100 characters")
}

/// Starts the work on shards, parents before children.
struct Mapping<F> {
    stream: DataStream,
    function: Arc<F>,
    config: Arc<Config>,
    stopping: watch::Receiver<bool>,
    running: BTreeMap<Id, ShardId>,
    work: JoinSet<Result<(), Stopped>>,
}

impl<F: Function> Mapping<F> {
    async fn run(mut self) {
        loop {
            match self.begin_shards().await {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => {
                    tracing::info!(%error, mapping = self.config.name, "a mapping stops: its stream is gone");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, mapping = self.config.name, "shards were not begun; it is tried again");
                }
            }
            let mut stopping = self.stopping.clone();
            let (id, ended) = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => break,
                Some(ended) = self.work.join_next_with_id() => match ended {
                    Ok((id, ended)) => (id, ended),
                    Err(error) => {
                        let gone = Error::new(ErrorKind::Internal, "the work on a shard panicked");
                        (error.id(), Err(Stopped::Gone(gone.with_source(error))))
                    }
                },
                // Nothing is at work, or all of it is: look again for what could not be begun.
                () = self.config.clock.sleep(RESTART_AFTER) => continue,
            };
            let shard = self.running.remove(&id);
            if let Err(Stopped::Gone(error)) = ended {
                tracing::warn!(%error, ?shard, mapping = self.config.name, "the work on a shard ended; it begins again");
                let mut stopping = self.stopping.clone();
                tokio::select! {
                    biased;
                    _ = stopping.wait_for(|stopping| *stopping) => break,
                    () = self.config.clock.sleep(RESTART_AFTER) => {}
                }
            }
        }
        while self.work.join_next().await.is_some() {}
    }

    /// Begins all that can be worked on and is not.
    async fn begin_shards(&mut self) -> Result<()> {
        let shards = self.stream.list_shards()?;
        let running: BTreeSet<ShardId> = self.running.values().copied().collect();
        let mut positions = BTreeMap::new();
        for shard in &shards {
            let state = self.stream.consumer(&self.config.consumer(shard.id))?.unwrap_or_default();
            positions.insert(shard.id, (state.positions.get(&shard.id).copied(), state.state));
        }
        let position = |shard: &ShardId| positions.get(shard).and_then(|(position, _)| *position);
        // As the leases of workers: which there are, and which are done.
        let mut leases = BTreeMap::new();
        for shard in &shards {
            let begun = match position(&shard.id) {
                Some(position) if is_done(shard, position) => Checkpoint::ShardEnd,
                Some(position) => Checkpoint::after(position),
                None if running.contains(&shard.id) => Checkpoint::TrimHorizon,
                None => continue,
            };
            leases.insert(shard.id, Lease::new(shard.id, Vec::new(), begun));
        }
        let newest = |shard| match self.stream.engine().newest_number(self.stream.state(), shard) {
            Ok(number) => Checkpoint::after(number),
            Err(_) => Checkpoint::TrimHorizon,
        };
        for lease in missing(&shards, &leases, self.config.starting_position, newest) {
            if let Checkpoint::After { sequence_number, .. } = lease.checkpoint {
                // What comes from now on is not lost, whenever the first batch is done.
                let positions = BTreeMap::from([(lease.shard, sequence_number)]);
                self.stream.commit(&self.config.consumer(lease.shard), positions, None).await?;
            }
            leases.insert(lease.shard, lease);
        }
        for lease in leases.into_values().filter(|lease| !running.contains(&lease.shard)) {
            let Some(from) = lease.checkpoint.iterator() else { continue };
            let saved = positions.get(&lease.shard).and_then(|(_, state)| Saved::decode(state.as_ref()?));
            self.begin(lease.shard, from, saved);
        }
        Ok(())
    }

    fn begin(&mut self, shard: ShardId, from: IteratorType, saved: Option<Saved>) {
        let work = ShardWork::new(
            self.stream.clone(),
            shard,
            self.config.clone(),
            self.function.clone(),
            self.stopping.clone(),
        );
        let task = self.work.spawn(Arc::new(work).run(from, saved));
        self.running.insert(task.id(), shard);
    }
}

/// Whether a position is at the end of a closed shard.
fn is_done(shard: &Shard, position: SequenceNumber) -> bool {
    shard.ending_sequence_number.is_some_and(|ending| position >= ending)
}

impl<F> fmt::Debug for MappingBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappingBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
