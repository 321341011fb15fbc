//! Settings and parts of an instance.
//!
//! Invariant: nothing is opened, and no thread started, before [`AthenaBuilder::build`].

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use durable_core::{Clock, DurableLocal, SystemClock};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use table_core::{MemoryMetastore, Metastore};

use crate::athena::{Athena, Core, Threads};
use crate::error::{Error, Result};
use crate::query::{Admission, History};
use crate::scan::{Engine, EngineSettings};

/// Threads that may block at a time, for a local store's file operations; each running query has one more, to plan on.
const BLOCKING_THREADS_MAX: usize = 64;

/// Stack of each thread: enough for the deepest statement that is let in, unoptimised. It is touched only as it is used.
const THREAD_STACK_BYTES: usize = 64 * 1024 * 1024;

/// Where results lie when the door does not say.
const PREFIX_DEFAULT: &str = "results";

/// Builds an [`Athena`].
#[derive(Debug)]
pub struct AthenaBuilder {
    place: Place,
    prefix: Path,
    data_store: Option<Arc<dyn ObjectStore>>,
    metastore: Option<Arc<dyn Metastore>>,
    clock: Arc<dyn Clock>,
    threads: usize,
    queries_running_max: usize,
    queries_queued_max: usize,
    memory_bytes: usize,
    spill: Option<(PathBuf, u64)>,
    bytes_scanned_cutoff: Option<u64>,
    result_bytes_max: usize,
}

#[derive(Debug)]
enum Place {
    Memory,
    Directory(PathBuf),
    Store(Arc<dyn ObjectStore>),
}

impl AthenaBuilder {
    fn new(place: Place, prefix: Path) -> Self {
        Self {
            place,
            prefix,
            data_store: None,
            metastore: None,
            clock: Arc::new(SystemClock::new()),
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            queries_running_max: 8,
            queries_queued_max: 100,
            memory_bytes: 1024 * 1024 * 1024,
            spill: None,
            bytes_scanned_cutoff: None,
            result_bytes_max: 256 * 1024 * 1024,
        }
    }

    pub(crate) fn in_memory() -> Self {
        let builder = Self::new(Place::Memory, Path::from(PREFIX_DEFAULT));
        builder.metastore(Arc::new(MemoryMetastore::new()))
    }

    pub(crate) fn in_directory(dir: PathBuf) -> Self {
        Self::new(Place::Directory(dir), Path::from(PREFIX_DEFAULT))
    }

    pub(crate) fn on_store(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self::new(Place::Store(store), prefix)
    }

    /// The catalog. Required, except in memory, where an empty one is the default.
    #[must_use]
    pub fn metastore(mut self, metastore: Arc<dyn Metastore>) -> Self {
        self.metastore = Some(metastore);
        self
    }

    /// The store that the tables' files lie in, if it is not the one for results.
    #[must_use]
    pub fn data_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.data_store = Some(store);
        self
    }

    /// The source of time.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Threads for all queries together; the machine's cores by default, at least 1.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Queries that run at a time: 8 by default, at least 1.
    #[must_use]
    pub fn with_queries_running_max(mut self, queries: usize) -> Self {
        self.queries_running_max = queries.max(1);
        self
    }

    /// Queries that may wait for their turn: 100 by default. One more is refused as `Throttled`.
    #[must_use]
    pub fn with_queries_queued_max(mut self, queries: usize) -> Self {
        self.queries_queued_max = queries;
        self
    }

    /// Memory for sorting, grouping and joining, all queries together: 1 GiB by default. A query that needs more
    /// spills, if it may, or fails as `LimitExceeded`.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Lets queries spill what does not fit in memory to files in this directory, at most so many bytes together.
    #[must_use]
    pub fn with_spill(mut self, dir: impl Into<PathBuf>, bytes_max: u64) -> Self {
        self.spill = Some((dir.into(), bytes_max));
        self
    }

    /// Fails any query before it reads more than so many bytes. No cutoff by default.
    #[must_use]
    pub fn with_bytes_scanned_cutoff(mut self, bytes: u64) -> Self {
        self.bytes_scanned_cutoff = Some(bytes);
        self
    }

    /// The largest result that [`Athena::query`] holds in memory: 256 MiB by default.
    #[must_use]
    pub fn with_result_bytes_max(mut self, bytes: usize) -> Self {
        self.result_bytes_max = bytes;
        self
    }

    /// Opens the stores and starts the threads.
    ///
    /// # Errors
    ///
    /// `InvalidInput` without a catalog; `Unavailable` if the directory cannot be opened or threads cannot be started.
    pub fn build(self) -> Result<Athena> {
        let metastore = self.metastore.ok_or_else(|| {
            Error::invalid(
                "athena needs a catalog: give one with metastore(), such as glue-core's or a MemoryMetastore",
            )
        })?;
        let store: Arc<dyn ObjectStore> = match self.place {
            Place::Memory => Arc::new(InMemory::new()),
            Place::Directory(dir) => Arc::new(DurableLocal::new(dir.join("store"))?),
            Place::Store(store) => store,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.threads)
            .max_blocking_threads(BLOCKING_THREADS_MAX.saturating_add(self.queries_running_max))
            .thread_stack_size(THREAD_STACK_BYTES)
            .thread_name("athena")
            .enable_all()
            .build()
            .map_err(durable_core::Error::from)?;
        let settings = EngineSettings { memory_bytes: self.memory_bytes, spill: self.spill, threads: self.threads };
        let core = Core {
            data_store: self.data_store.unwrap_or_else(|| Arc::clone(&store)),
            history: History::new(Arc::clone(&store), self.prefix, Arc::clone(&self.clock)),
            store,
            metastore,
            engine: Engine::new(&settings)?,
            clock: self.clock,
            admission: Admission::new(self.queries_running_max, self.queries_queued_max),
            cutoff: self.bytes_scanned_cutoff,
            result_bytes_max: self.result_bytes_max,
            live: Mutex::new(BTreeMap::new()),
        };
        Ok(Athena::assemble(core, Threads::new(runtime)))
    }
}
