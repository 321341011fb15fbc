//! The handle to a delivery stream, and its builder.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use durable_core::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::ObjectStore;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::buffer::Buffers;
use super::claim::Claim;
use super::deliver::Deliverer;
use super::event::{Announcer, DeliveryEvent, Listener};
use super::intake::Stages;
use super::ledger::Ledger;
use super::metrics::{DeliveryMetrics, SharedMetrics};
use super::route::Router;
use super::schema::{Kind, SchemaSource};
use super::sealing::check_schema;
use super::settings::{DeliverySettings, NAME_CHARS_MAX, StartAt};
use super::source::{Progress, latest};
use super::transform::Transform;
use super::worker::{Command, Queue, Worker, duplicate};
use crate::consumer::ConsumerState;
use crate::stream::DataStream;
use crate::{Error, ErrorKind, Result};

/// Events that a follower may lag behind before it misses some.
pub const EVENTS_KEPT: usize = 4_096;
/// Commands that may wait.
const COMMANDS_MAX: usize = 64;

/// Delivers the records of a stream to an object store, each exactly once. Cloning is cheap.
///
/// Dropping the last clone stops the work at once, as a crash would: what was sealed is delivered when it is opened
/// again, and so is everything behind it. [`close`](Self::close) delivers first.
#[derive(Clone)]
pub struct DeliveryStream {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    commands: mpsc::Sender<Command>,
    metrics: SharedMetrics,
    followers: broadcast::Sender<DeliveryEvent>,
    failure: Arc<Mutex<Option<Error>>>,
    claim: std::sync::Weak<Claim>,
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.upgrade() {
            claim.abandon();
        }
        self.task.abort();
    }
}

impl fmt::Debug for DeliveryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryStream").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl DeliveryStream {
    /// A delivery stream of this name (1 to 64 of `a-z A-Z 0-9 _ . -`) from `source` to `store`. Its state lives in the
    /// source under that name: opened again, it goes on where it was.
    pub fn builder(name: impl Into<String>, source: DataStream, store: Arc<dyn ObjectStore>) -> DeliveryStreamBuilder {
        DeliveryStreamBuilder {
            name: name.into(),
            source,
            store,
            settings: DeliverySettings::default(),
            transform: None,
            schema: SchemaSource::default(),
            clock: None,
            listener: None,
            seed: None,
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What was done and what is held.
    #[must_use]
    pub fn metrics(&self) -> DeliveryMetrics {
        *self.shared.metrics.lock()
    }

    /// Events from now on, for showing progress. A follower that lags [`EVENTS_KEPT`] behind misses some; see
    /// [`DeliveryStreamBuilder::with_listener`] for one that must not. The stream ends with the delivery stream.
    #[must_use]
    pub fn events(&self) -> BoxStream<'static, DeliveryEvent> {
        let followed = self.shared.followers.subscribe();
        stream::unfold(followed, |mut followed| async move {
            loop {
                match followed.recv().await {
                    Ok(event) => return Some((event, followed)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    /// Drains to now: reads every shard to its tip, seals all buffers, and resolves once every object is in the store and
    /// the positions are committed. Records put after the call may be in or not.
    ///
    /// Dropping the future withdraws nothing: the work goes on.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the store failed for longer than
    /// [`with_retry_duration`](DeliverySettings::with_retry_duration); the error that stopped the delivery stream, if one
    /// did; `Closed` after [`close`](Self::close). Nothing is lost: opening it again goes on.
    pub async fn flush(&self) -> Result<()> {
        self.ask(Command::Flush).await
    }

    /// Delivers what was read so far, commits, and stops. Other handles then answer `Closed`.
    ///
    /// Dropping the future withdraws nothing: it closes all the same.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub async fn close(&self) -> Result<()> {
        self.ask(Command::Close).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let stopped = || {
            let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.as_ref().map_or_else(
                || Error::new(ErrorKind::Closed, format!("delivery stream '{}' was closed", self.shared.name)),
                duplicate,
            )
        };
        self.shared.commands.send(command(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

/// Opens a delivery stream: settings, and the components beside them.
#[must_use]
pub struct DeliveryStreamBuilder {
    name: String,
    source: DataStream,
    store: Arc<dyn ObjectStore>,
    settings: DeliverySettings,
    transform: Option<Arc<dyn Transform>>,
    schema: SchemaSource,
    clock: Option<Arc<dyn Clock>>,
    listener: Option<Listener>,
    seed: Option<u64>,
}

impl fmt::Debug for DeliveryStreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryStreamBuilder")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl DeliveryStreamBuilder {
    /// How to buffer, partition, convert and retry.
    pub fn with_settings(mut self, settings: DeliverySettings) -> Self {
        self.settings = settings;
        self
    }

    /// What changes records before they are partitioned.
    pub fn with_transform(mut self, transform: impl Transform) -> Self {
        self.transform = Some(Arc::new(transform));
        self
    }

    /// Where the schema of Parquet files comes from; inferred unless set.
    pub fn with_schema(mut self, schema: SchemaSource) -> Self {
        self.schema = schema;
        self
    }

    /// The clock of buffers and retries; that of the source unless set.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Called with each event and awaited: an object is not forgotten before the listener has heard of it, so it hears of
    /// every object at least once, after a crash too. A slow listener slows delivery.
    pub fn with_listener<F, R>(mut self, listener: F) -> Self
    where
        F: Fn(DeliveryEvent) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = move |event| -> BoxFuture<'static, ()> { listener(event).boxed() };
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Makes object names and jitter those of this seed, for tests; never in production: names of two openings would
    /// collide.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Opens the delivery stream and begins to work, on the tokio runtime that this is called in: first what was sealed
    /// before a restart, then the stream from where it was.
    ///
    /// Dropping the future opens nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a name, setting, prefix or schema that is not possible; `Conflict` if it is open already;
    /// `Corrupt` if its state does not read back; `NotFound` if the source was deleted; `Closed` if it was closed;
    /// `Unavailable` or `Fenced` if its journal cannot go on.
    pub async fn open(self) -> Result<DeliveryStream> {
        let consumer = self.check()?;
        let prefixes = self.settings.prefixes()?;
        let clock = self.clock.unwrap_or_else(|| self.source.clock());
        let claim = self.source.claims().claim(&consumer).await?;
        // The opening before may have been dropped while it committed. Were that applied only after this one has read
        // what was committed, each could promise the same records to an object of its own.
        self.source.settle().await?;
        let committed = self.source.consumer(&consumer)?;
        let first_time = committed.is_none();
        let ConsumerState { mut positions, state } = committed.unwrap_or_default();
        if first_time && self.settings.start() == StartAt::Latest {
            positions = latest(&self.source).await?;
        }
        let shards = self.source.list_shards()?;
        let ledger = Ledger::read(state.as_ref(), fingerprint(&self.settings), self.settings.unpacking())?;
        let (followers, _) = broadcast::channel(EVENTS_KEPT);
        let metrics = SharedMetrics::default();
        let deliverer = Deliverer {
            store: self.store,
            clock: Arc::clone(&clock),
            announcer: Announcer { listener: self.listener, followers: followers.clone() },
            metrics: metrics.clone(),
            conversions: Semaphore::new(self.settings.conversions()),
            put_timeout: self.settings.put_timeout(),
            retry_duration: self.settings.retry_duration(),
            claim: Arc::clone(&claim),
        };
        let router = Router::new(self.settings.partition_by(), &prefixes.data);
        let stages = Stages {
            stream: self.source,
            unpacking: Arc::new(self.settings.unpacking().clone()),
            transform: self.transform,
            router: Arc::new(router),
            clock: Arc::clone(&clock),
        };
        let mut worker = Worker {
            name: self.name.clone(),
            consumer,
            settings: self.settings,
            prefixes,
            schema: self.schema,
            stages,
            deliverer: Arc::new(deliverer),
            clock,
            rng: self.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64),
            progress: Progress::new(&positions, &shards),
            buffers: Buffers::default(),
            queue: Queue::new(ledger.sealed().keys().copied()),
            ledger,
            uncommitted: false,
        };
        if first_time {
            // From now on the place to begin is known, whatever is put before the first seal.
            worker.commit().await?;
        }
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let failure = Arc::new(Mutex::new(None));
        let (failed, abandoned) = (Arc::clone(&failure), Arc::downgrade(&claim));
        let stopped = move |error: Option<Error>| {
            if let Some(error) = &error {
                tracing::error!(error = ?error, "a delivery stream stopped");
            }
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = error;
            if let Some(claim) = abandoned.upgrade() {
                claim.abandon();
            }
        };
        let task = tokio::spawn(worker.run(received, stopped));
        let claim = Arc::downgrade(&claim);
        let shared =
            Shared { name: self.name, commands, metrics, followers, failure, claim, task: task.abort_handle() };
        Ok(DeliveryStream { shared: Arc::new(shared) })
    }

    /// Checks what can be checked without the source; answers the consumer's name.
    fn check(&self) -> Result<String> {
        let name = &self.name;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(plain) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("delivery stream name '{name:.200}' is not 1 to {NAME_CHARS_MAX} of a-z A-Z 0-9 _ . -"),
            ));
        }
        if self.transform.is_none() && !self.settings.prefixes()?.data.lambda_keys().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the prefix of delivery stream '{name}' names keys of a transform, and there is none"),
            ));
        }
        if let Kind::Fixed(schema) = &self.schema.0 {
            check_schema(schema)?;
        }
        Ok(format!("firehose.{name}"))
    }
}

/// Tells whether settings are those of before.
fn fingerprint(settings: &DeliverySettings) -> u32 {
    // Plain data always encodes; the empty text would only count as a change.
    crc32c::crc32c(&serde_json::to_vec(settings).unwrap_or_default())
}
