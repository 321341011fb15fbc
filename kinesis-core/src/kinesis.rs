//! The service: an instance that holds streams, and the handle that keeps it open.
//!
//! Invariant: an instance is open as long as a handle of it is: a [`Kinesis`], a [`DataStream`] or a subscription.

use std::sync::{Arc, Mutex, PoisonError};

use durable_core::{Clock, ErrorKind};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::task::JoinHandle;

use crate::builder::KinesisBuilder;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::metrics::KinesisMetrics;
use crate::put::Transaction;
use crate::quota::Limits;
use crate::stream::{DataStream, StreamDescription, StreamName, StreamSpec};

/// An instance of Data Streams in this process. Cloning is cheap; all clones are the same instance.
///
/// Dropping the last handle stops the background work without waiting; [`close`](Self::close) waits.
#[derive(Clone, Debug)]
pub struct Kinesis {
    handle: Arc<Handle>,
}

/// What all handles of an instance share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) engine: Arc<Engine>,
    background: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(background) = self.background.get_mut().unwrap_or_else(PoisonError::into_inner) {
            background.abort();
        }
    }
}

impl Kinesis {
    /// An instance in memory: everything works, nothing outlives the process.
    #[must_use]
    pub fn memory() -> KinesisBuilder {
        KinesisBuilder::memory()
    }

    /// An instance in a local directory, created if it is missing: journal in `dir/journal`, segments in `dir/store`.
    /// One process at a time has it open.
    pub fn at(dir: impl Into<std::path::PathBuf>) -> KinesisBuilder {
        KinesisBuilder::at(dir.into())
    }

    /// An instance under `prefix` of any object store, journal included, unless
    /// [`journal_dir`](KinesisBuilder::journal_dir) puts that on a local disk.
    pub fn on(store: Arc<dyn ObjectStore>, prefix: impl Into<Path>) -> KinesisBuilder {
        KinesisBuilder::on(store, prefix.into())
    }

    pub(crate) fn new(engine: Arc<Engine>, background: JoinHandle<()>) -> Self {
        Self { handle: Arc::new(Handle { engine, background: Mutex::new(Some(background)) }) }
    }

    fn engine(&self) -> &Engine {
        &self.handle.engine
    }

    /// Creates a stream: `4` is one with four provisioned shards that share the hash keys evenly and 24 hours of
    /// retention, a [`StreamSpec`] says more. The stream takes records as soon as this returns.
    ///
    /// Dropping the future leaves the stream created or not.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` for a bad name or number; `LimitExceeded` past 10,000 streams.
    pub async fn create_stream(&self, name: &str, spec: impl Into<StreamSpec>) -> Result<DataStream> {
        let stream = self.engine().create_stream(name.parse()?, spec.into()).await?;
        Ok(DataStream::new(self.handle.clone(), stream))
    }

    /// Deletes a stream with all it holds. Its objects go in the background.
    ///
    /// Dropping the future leaves the stream deleted or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_stream(&self, name: &str) -> Result<()> {
        let stream = self.engine().stream(&name.parse()?)?;
        self.engine().delete_stream(&stream).await
    }

    /// A handle to the stream of this name.
    ///
    /// # Errors
    /// `NotFound`; `Closed`.
    pub fn stream(&self, name: &str) -> Result<DataStream> {
        let stream = self.engine().stream(&name.parse()?)?;
        Ok(DataStream::new(self.handle.clone(), stream))
    }

    /// The stream that an iterator is of, if it still exists.
    #[cfg(feature = "server")]
    pub(crate) fn stream_of(&self, iterator: &crate::read::ShardIterator) -> Option<DataStream> {
        let stream = self.engine().state.catalog().streams.get(&iterator.stream).cloned()?;
        Some(DataStream::new(self.handle.clone(), stream))
    }

    /// The quotas it has.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.engine().quotas.limits()
    }

    /// What the stream of this name is like now.
    ///
    /// # Errors
    /// `NotFound`; `Closed`.
    pub fn describe_stream(&self, name: &str) -> Result<StreamDescription> {
        self.stream(name)?.describe()
    }

    /// The names of all streams, in order.
    #[must_use]
    pub fn list_streams(&self) -> Vec<StreamName> {
        self.engine().state.catalog().names.keys().filter(|name| !name.is_internal()).cloned().collect()
    }

    /// The names of the delivery streams that have a stream of their own.
    #[cfg(all(feature = "firehose", feature = "server"))]
    pub(crate) fn internal_names(&self) -> Vec<String> {
        self.engine()
            .state
            .catalog()
            .names
            .keys()
            .filter_map(|name| name.delivery_stream().map(str::to_owned))
            .collect()
    }

    /// The stream that holds what was put to the delivery stream of this name; made if it is missing.
    #[cfg(feature = "firehose")]
    pub(crate) async fn internal_stream(&self, name: &str) -> Result<DataStream> {
        let name = StreamName::internal(name)?;
        let spec = StreamSpec::provisioned(1).with_retention(crate::limits::RETENTION_MAX);
        let stream = match self.engine().stream(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match self.engine().create_stream(name.clone(), spec).await {
                    // Somebody else has made it just now.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => self.engine().stream(&name),
                    created => created,
                }
            }
            found => found,
        };
        Ok(DataStream::new(self.handle.clone(), stream?))
    }

    /// Puts and commits that happen together or not at all, over any streams of the instance.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.handle.clone())
    }

    /// What happened since the instance was opened.
    #[must_use]
    pub fn metrics(&self) -> KinesisMetrics {
        self.engine().metrics()
    }

    /// The instance's clock.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.engine().clock.clone()
    }

    /// The store that holds the instance's segments.
    #[must_use]
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.engine().store.clone()
    }

    /// Waits until everything put so far, with whatever durability, is durable. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `Unavailable` or `Fenced` if the journal cannot go on; `Closed`.
    pub async fn flush(&self) -> Result<()> {
        self.engine().check_open()?;
        Ok(self.engine().journal.flush().await?)
    }

    /// Moves every record put so far out of the journal into segments of the store, and removes segments that are
    /// older than their stream's retention. Both happen by themselves in the background; call this before the machine
    /// goes away that a local journal lies on, or before the store is copied.
    ///
    /// Dropping the future lets the sealing go on.
    ///
    /// # Errors
    /// `Unavailable` if store or journal fail; `Closed`.
    pub async fn seal(&self) -> Result<()> {
        self.engine().seal_all().await
    }

    /// Makes durable what was put, stops the background work and frees the directory. All handles answer `Closed` from
    /// then on, and subscriptions end with it. Closing twice is as good as once.
    ///
    /// Dropping the future leaves the instance closed for callers; the journal closes by itself.
    ///
    /// # Errors
    /// What kept the journal from being written to its end.
    pub async fn close(&self) -> Result<()> {
        self.engine().shut();
        let background = self.handle.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stopped = match background {
            Some(background) => background.await,
            None => Ok(()),
        };
        self.engine().journal.close().await?;
        stopped.map_err(|error| Error::new(ErrorKind::Internal, "the background work panicked").with_source(error))
    }
}
