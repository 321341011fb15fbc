//! The three doors to a broker, and the one builder behind them.

use std::path::PathBuf;
use std::sync::Arc;

use durable_core::journal::Journal;
use durable_core::{Clock, Disk, SystemClock, SystemDisk};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::Mutex;

use super::core::Core;
use super::outbox::Outbox;
use super::settings::Settings;
use super::{Broker, Handle, keeper};
use crate::ErrorKind;
use crate::engine::{Command, Engine, State};
use crate::error::{Error, Result};
use crate::journal::{Log, Parts, recover};

/// The smallest segment that a broker takes: whatever it does by itself fits a frame.
const SEGMENT_BYTES_MIN: u64 = 128 << 10;

/// Settings and components of a broker, ended by [`open`](Self::open).
#[derive(Debug)]
pub struct BrokerBuilder {
    place: Place,
    settings: Settings,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    segment_bytes: Option<u64>,
}

#[derive(Debug)]
enum Place {
    Memory,
    Dir(PathBuf),
    Store { store: Arc<dyn ObjectStore>, prefix: Path, journal_dir: Option<PathBuf>, adopt: bool },
}

impl Broker {
    /// A broker in memory: a confirm means that the message is in its queues; a restart finds nothing.
    #[must_use]
    pub fn memory() -> BrokerBuilder {
        BrokerBuilder::new(Place::Memory)
    }

    /// A broker in a directory of a local disk, with its journal at `dir/journal`: a confirm means synced to that disk.
    /// One process at a time has it open.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> BrokerBuilder {
        BrokerBuilder::new(Place::Dir(dir.into()))
    }

    /// A broker under `prefix` of an object store: a confirm means put into the store. Opening it takes it over: a
    /// broker that had it open before confirms nothing any more, wherever it runs.
    #[must_use]
    pub fn on(store: Arc<dyn ObjectStore>, prefix: Path) -> BrokerBuilder {
        BrokerBuilder::new(Place::Store { store, prefix, journal_dir: None, adopt: false })
    }
}

impl BrokerBuilder {
    fn new(place: Place) -> Self {
        let (clock, disk) = (Arc::new(SystemClock::new()), Arc::new(SystemDisk));
        Self { place, settings: Settings::default(), clock, disk, segment_bytes: None }
    }

    /// Bounds: memory, body size, when to write a checkpoint.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock by which messages expire.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The disk on which a local journal lies.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// The size of a segment of a local journal: a multiple of 512 bytes from 128 KiB on; a message has at most about a
    /// quarter of it. 64 MiB unless set.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = Some(bytes);
        self
    }

    /// Keeps the journal of a broker on a store in a local directory instead, which the store then names: faster, and as
    /// durable as that disk.
    #[must_use]
    pub fn journal_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        if let Place::Store { journal_dir, .. } = &mut self.place {
            *journal_dir = Some(dir.into());
        }
        self
    }

    /// Lets a broker on a store go on with this journal directory although another one has been used: what only the
    /// other holds is given up.
    #[must_use]
    pub fn adopt(mut self) -> Self {
        if let Place::Store { adopt, .. } = &mut self.place {
            *adopt = true;
        }
        self
    }

    /// Opens the broker: recovers what the journal holds, and starts the broker's tasks on the current runtime.
    ///
    /// Dropping the future leaves what is stored as it was; a broker on a store may have been taken over.
    ///
    /// # Errors
    /// `InvalidInput` outside a tokio runtime, or if segments are too small; `Conflict` if another process has the
    /// directory open; `Corrupt` if something is damaged; `Unavailable` as disk or store report it.
    pub async fn open(self) -> Result<Broker> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            let message = "a broker is opened inside a tokio runtime: call it from an async fn of one";
            Error::new(ErrorKind::InvalidInput, message).with_source(error)
        })?;
        if let Some(bytes) = self.segment_bytes.filter(|bytes| *bytes < SEGMENT_BYTES_MIN) {
            let message = format!("segments of {bytes} bytes: a broker needs {SEGMENT_BYTES_MIN} or more");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let (settings, clock) = (self.settings.clone(), Arc::clone(&self.clock));
        let outbox = Outbox::default();
        let (state, parts, log, tail_bytes) = match self.journal() {
            None => (State::new()?, Parts::default(), Log::new(None), 0),
            Some(journal) => {
                let mut recovery = journal.open().await?;
                let recovered = recover(&mut recovery).await?;
                let released = outbox.clone();
                let journal = recovery.start(move |frames| released.release(frames)).await?;
                (recovered.state, recovered.parts, Log::new(Some(journal)), recovered.tail_bytes)
            }
        };
        let engine = Engine::new(state, log.frame_bytes_max());
        let core = Arc::new(Core::new(engine, log, outbox, settings, clock, tail_bytes));
        core.run(Command::Recover).await?;
        let tasks = vec![
            runtime.spawn(keeper::keep(Arc::clone(&core), core.stop.subscribe())),
            runtime.spawn(keeper::checkpoint(Arc::clone(&core), parts, core.stop.subscribe())),
        ];
        Ok(Broker { handle: Arc::new(Handle { core, runtime, tasks: Mutex::new(tasks) }) })
    }

    fn journal(self) -> Option<durable_core::journal::JournalBuilder> {
        let journal = match self.place {
            Place::Memory => return None,
            Place::Dir(dir) => Journal::dir(dir.join("journal")),
            Place::Store { store, prefix, journal_dir: None, .. } => Journal::store(store, prefix.join("journal")),
            Place::Store { store, prefix, journal_dir: Some(dir), adopt } => {
                let journal = Journal::dir(dir).claim(store, prefix);
                if adopt { journal.adopt() } else { journal }
            }
        };
        let journal = journal.disk(self.disk).clock(self.clock);
        Some(match self.segment_bytes {
            Some(bytes) => journal.segment_bytes(bytes),
            None => journal,
        })
    }
}
