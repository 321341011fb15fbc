//! The handle to a delivery stream, and its builder.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use bytes::Bytes;
use durable_core::Clock;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use object_store::ObjectStore;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::Instrument;

use super::buffer::Buffers;
use super::claim::Claim;
use super::deliver::Deliverer;
use super::destination::Destination;
use super::direct_put::{DirectPut, PUT_RECORD_BATCH_BYTES_MAX, PUT_RECORD_BATCH_MAX};
use super::event::{Announcer, DeliveryEvent, Listener};
use super::format::OutputFormat;
use super::intake::Stages;
use super::ledger::Ledger;
use super::metrics::{DeliveryMetrics, SharedMetrics};
use super::orc::check_flat;
use super::retry::Backoff;
use super::route::Router;
use super::schema::{Kind, SchemaSource};
use super::sealing::check_schema;
use super::settings::{DeliverySettings, NAME_CHARS_MAX, StartAt};
use super::signature::Signatures;
use super::source::{Progress, latest};
use super::transform::Transform;
use super::unpack::Unpacking;
use super::worker::{Command, Queue, Worker, duplicate};
use crate::consumer::ConsumerState;
use crate::stream::DataStream;
use crate::{Error, ErrorKind, Kinesis, Result};

/// Events that a follower may lag behind before it misses some.
pub const EVENTS_KEPT: usize = 4_096;
/// Commands that may wait.
const COMMANDS_MAX: usize = 64;

/// Delivers the records of a stream, or those that are put to it, to an object store, each exactly once. Cloning is cheap.
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
    source: DataStream,
    clock: Arc<dyn Clock>,
    /// Takes records, unless a stream is the source.
    direct: Option<DirectPut>,
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
        DeliveryStreamBuilder::new(name.into(), Source::Stream(source), store)
    }

    /// A delivery stream of this name from [`put_record`](Self::put_record) to `store`. What was accepted lies in `kinesis`
    /// until it is delivered: as durable as its streams, in none of its lists, and under none of its quotas.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use kinesis_core::Kinesis;
    /// use kinesis_core::firehose::DeliveryStream;
    /// use kinesis_core::object_store::memory::InMemory;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kinesis_core::Result<()> {
    /// let kinesis = Kinesis::memory().open().await?;
    /// let store = Arc::new(InMemory::new());
    /// let delivery = DeliveryStream::direct("logs", kinesis, store).open().await?;
    /// delivery.put_record("a line\n").await?; // durable once this returns
    /// delivery.flush().await?; // in the store once this does
    /// assert_eq!(delivery.metrics().delivered_rows, 1);
    /// delivery.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn direct(name: impl Into<String>, kinesis: Kinesis, store: Arc<dyn ObjectStore>) -> DeliveryStreamBuilder {
        DeliveryStreamBuilder::new(name.into(), Source::Direct(kinesis), store)
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

    /// Takes a record of up to 1,000 KiB; answers its id. It is durable once this returns, and delivered later.
    ///
    /// Dropping the future leaves the record taken or not.
    ///
    /// # Errors
    ///
    /// As [`put_record_batch`](Self::put_record_batch).
    pub async fn put_record(&self, data: impl Into<Bytes>) -> Result<String> {
        let ids = self.put_record_batch(vec![data.into()]).await?;
        let none = || Error::new(ErrorKind::Internal, "a record was put but has no id");
        ids.into_iter().next().ok_or_else(none)
    }

    /// Takes 1 to 500 records, of up to 1,000 KiB each and 4 MiB together, all or none; answers the id of each, in order.
    ///
    /// Dropping the future leaves all of them taken, or none.
    ///
    /// # Errors
    ///
    /// `InvalidInput` past these bounds, or if a stream is the source: put to that one. `Throttled` while more bytes wait to
    /// be delivered than [`with_backlog_bytes`](DeliverySettings::with_backlog_bytes) says (Firehose's
    /// `ServiceUnavailableException`): put them again later. `Unavailable` if the journal cannot go on: they are taken or not;
    /// `Closed`.
    pub async fn put_record_batch(&self, records: Vec<Bytes>) -> Result<Vec<String>> {
        let Some(direct) = &self.shared.direct else {
            let name = &self.shared.name;
            return Err(Error::invalid(format!("delivery stream '{name}' reads a stream: put records to that")));
        };
        if self.shared.commands.is_closed() {
            return Err(self.stopped());
        }
        direct.put(records).await
    }

    /// Takes every item of `records`, in order, in batches as they come; answers how many. Waits while too many bytes wait
    /// to be delivered.
    ///
    /// Dropping the future leaves items taken up to some place.
    ///
    /// # Errors
    ///
    /// As [`put_record_batch`](Self::put_record_batch), but for `Throttled`.
    pub async fn put_stream<B: Into<Bytes>>(&self, records: impl Stream<Item = B> + Send) -> Result<u64> {
        let mut ready = pin!(records.map(Into::into).ready_chunks(PUT_RECORD_BATCH_MAX));
        let mut taken = 0;
        while let Some(records) = ready.next().await {
            for batch in batches(records) {
                taken += batch.len() as u64;
                self.put_patiently(batch).await?;
            }
        }
        Ok(taken)
    }

    /// Takes every row of `batches` as a record: a JSON object with the batch's columns, nulls left out. Otherwise as
    /// [`put_stream`](Self::put_stream).
    ///
    /// # Errors
    ///
    /// As [`put_stream`](Self::put_stream); `InvalidInput` for a column of a type that JSON does not have.
    pub async fn put_batches(&self, batches: impl Stream<Item = RecordBatch> + Send) -> Result<u64> {
        let mut incoming = pin!(batches);
        let mut taken = 0;
        while let Some(batch) = incoming.next().await {
            taken += self.put_stream(stream::iter(json_rows(&batch)?)).await?;
        }
        Ok(taken)
    }

    async fn put_patiently(&self, batch: Vec<Bytes>) -> Result<()> {
        let mut backoff = Backoff::new(rand::rng().random());
        loop {
            match self.put_record_batch(batch.clone()).await {
                Err(error) if error.kind() == ErrorKind::Throttled => {
                    self.shared.clock.sleep(backoff.next_wait()).await;
                }
                put => return put.map(drop),
            }
        }
    }

    /// Deletes the delivery stream with all that it has not delivered yet. Other handles then answer `Closed`.
    ///
    /// Dropping the future leaves it deleted or not.
    ///
    /// # Errors
    ///
    /// `Unavailable` or `Fenced` if the journal cannot go on; `Closed` if the instance was closed.
    pub async fn delete(&self) -> Result<()> {
        self.stop().await?;
        match &self.shared.direct {
            Some(_) => self.shared.source.delete().await,
            None => match self.shared.source.delete_consumer(&consumer_name(&self.shared.name)).await {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                deleted => deleted,
            },
        }
    }

    /// Stops the work at once, as dropping the last handle does, and waits until none of it is left.
    pub(crate) async fn stop(&self) -> Result<()> {
        if let Some(claim) = self.shared.claim.upgrade() {
            claim.abandon();
        }
        self.shared.task.abort();
        self.shared.commands.closed().await;
        // It may have been in the middle of a commit.
        self.shared.source.settle().await
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
        self.shared.commands.send(command(answer)).await.map_err(|_| self.stopped())?;
        answered.await.map_err(|_| self.stopped())?
    }

    /// Why it no longer works.
    fn stopped(&self) -> Error {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().map_or_else(
            || Error::new(ErrorKind::Closed, format!("delivery stream '{}' was closed", self.shared.name)),
            duplicate,
        )
    }
}

/// Opens a delivery stream: settings, and the components beside them.
#[must_use]
pub struct DeliveryStreamBuilder {
    name: String,
    source: Source,
    store: Arc<dyn ObjectStore>,
    settings: DeliverySettings,
    transform: Option<Arc<dyn Transform>>,
    schema: SchemaSource,
    clock: Option<Arc<dyn Clock>>,
    listener: Option<Listener>,
    destination: Option<Arc<dyn Destination>>,
    backup_store: Option<Arc<dyn ObjectStore>>,
    seed: Option<u64>,
}

/// Where records come from.
enum Source {
    Stream(DataStream),
    /// From callers, by way of a stream in this instance.
    Direct(Kinesis),
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
    fn new(name: String, source: Source, store: Arc<dyn ObjectStore>) -> Self {
        Self {
            name,
            source,
            store,
            settings: DeliverySettings::default(),
            transform: None,
            schema: SchemaSource::default(),
            clock: None,
            listener: None,
            destination: None,
            backup_store: None,
            seed: None,
        }
    }

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

    /// What takes the records in place of the store: there, only failed records and a
    /// [backup](DeliverySettings::with_source_backup) are put then, and the prefix names nothing. Partition keys, Parquet,
    /// compression and separators are for the store, and refused, but for a destination that takes objects.
    ///
    /// Records are delivered at least once: those of a request whose answer was lost come again, under the same ids.
    pub fn with_destination(mut self, destination: impl Destination) -> Self {
        self.destination = Some(Arc::new(destination));
        self
    }

    /// Another store for the [backup](DeliverySettings::with_source_backup).
    pub fn with_backup_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.backup_store = Some(store);
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
        self.check()?;
        let consumer = consumer_name(&self.name);
        let prefixes = self.settings.prefixes()?;
        let (source, is_direct) = match self.source {
            Source::Stream(source) => (source, false),
            Source::Direct(kinesis) => (kinesis.internal_stream(&self.name).await?, true),
        };
        let clock = self.clock.unwrap_or_else(|| source.clock());
        let claim = source.claims().claim(&consumer).await?;
        // The opening before may have been dropped while it committed. Were that applied only after this one has read
        // what was committed, each could promise the same records to an object of its own.
        source.settle().await?;
        let committed = source.consumer(&consumer)?;
        let first_time = committed.is_none();
        let ConsumerState { mut positions, state } = committed.unwrap_or_default();
        if first_time && !is_direct && self.settings.start() == StartAt::Latest {
            positions = latest(&source).await?;
        }
        let shards = source.list_shards()?;
        // Producers of the library put to streams only.
        let unpacking = Unpacking { aggregates: !is_direct, ..self.settings.unpacking().clone() };
        let ledger = Ledger::read(state.as_ref(), fingerprint(&self.settings), &unpacking)?;
        let (followers, _) = broadcast::channel(EVENTS_KEPT);
        let metrics = SharedMetrics::default();
        let deliverer = Deliverer {
            backup_store: self.backup_store.unwrap_or_else(|| Arc::clone(&self.store)),
            store: self.store,
            destination: self.destination,
            destination_retry_duration: self.settings.destination_retry_duration(),
            clock: Arc::clone(&clock),
            announcer: Announcer { listener: self.listener, followers: followers.clone() },
            metrics: metrics.clone(),
            conversions: Semaphore::new(self.settings.conversions()),
            put_timeout: self.settings.put_timeout(),
            retry_duration: self.settings.retry_duration(),
            claim: Arc::clone(&claim),
        };
        let is_inferred =
            self.settings.format().partition_columns().is_some() && matches!(self.schema.0, Kind::Inferred);
        let signatures = is_inferred.then(Signatures::default);
        let router = Router::new(self.settings.compiled_query()?, &prefixes.data, signatures);
        let stages = Stages {
            stream: source.clone(),
            unpacking: Arc::new(unpacking),
            calls: self.transform.map(|transform| self.settings.calls(transform)),
            router: Arc::new(router),
            clock: Arc::clone(&clock),
        };
        let (backlog_bytes, zone) = (self.settings.backlog_bytes(), self.settings.zone()?);
        let mut worker = Worker {
            name: self.name.clone(),
            consumer,
            settings: self.settings,
            prefixes,
            zone,
            schema: self.schema,
            stages,
            deliverer: Arc::new(deliverer),
            clock: Arc::clone(&clock),
            releases: is_direct,
            rng: self.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64),
            progress: Progress::new(&positions, &shards),
            buffers: Buffers::default(),
            queue: Queue::new(ledger.sealed().keys().copied()),
            ledger,
            uncommitted: false,
            covered: HashSet::new(),
        };
        if first_time {
            // From now on the place to begin is known, whatever is put before the first seal.
            worker.commit().await?;
        }
        worker.release()?;
        let direct = is_direct.then(|| DirectPut::new(self.name.clone(), source.clone(), backlog_bytes));
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
        let span = tracing::info_span!("delivery_stream", name = self.name);
        let task = tokio::spawn(worker.run(received, stopped).instrument(span));
        let claim = Arc::downgrade(&claim);
        let task = task.abort_handle();
        let shared =
            Shared { name: self.name, commands, metrics, followers, failure, claim, task, source, clock, direct };
        Ok(DeliveryStream { shared: Arc::new(shared) })
    }

    /// Checks what can be checked without the source.
    fn check(&self) -> Result<()> {
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
        if self.destination.as_ref().is_some_and(|destination| !destination.takes_objects()) {
            self.settings.check_for_destination()?;
        }
        let is_orc = matches!(self.settings.format(), OutputFormat::Orc(_));
        match &self.schema.0 {
            Kind::Fixed(schema) if is_orc => check_schema(schema).and_then(|()| check_flat(schema)),
            Kind::Fixed(schema) => check_schema(schema),
            _ if is_orc => check_flat(&Schema::empty()),
            _ => Ok(()),
        }
    }
}

/// The name under which a delivery stream commits to its source.
fn consumer_name(name: &str) -> String {
    format!("firehose.{name}")
}

/// Records in batches of as many bytes as one call takes.
fn batches(records: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let (mut batches, mut bytes) = (Vec::new(), usize::MAX);
    for record in records {
        bytes = bytes.saturating_add(record.len());
        if bytes > PUT_RECORD_BATCH_BYTES_MAX {
            batches.push(Vec::new());
            bytes = record.len();
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(record);
        }
    }
    batches
}

/// Each row as a JSON object.
fn json_rows(batch: &RecordBatch) -> Result<Vec<Bytes>> {
    let failed = |error| Error::invalid("a batch has a column that has no JSON").with_source(error);
    let mut lines = arrow_json::LineDelimitedWriter::new(Vec::new());
    lines.write(batch).and_then(|()| lines.finish()).map_err(failed)?;
    let lines = Bytes::from(lines.into_inner());
    let rows = lines.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
    Ok(rows.map(|row| lines.slice_ref(row)).collect())
}

/// Tells whether settings are those of before.
fn fingerprint(settings: &DeliverySettings) -> u32 {
    // Plain data always encodes; the empty text would only count as a change.
    crc32c::crc32c(&serde_json::to_vec(settings).unwrap_or_default())
}
