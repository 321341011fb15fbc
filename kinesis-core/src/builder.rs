//! What an instance is made of, until it is opened.
//!
//! Invariant: the three doors differ only in where store and journal lie.

use std::path::PathBuf;
use std::sync::Arc;

use durable_core::journal::Journal;
use durable_core::{Clock, Disk, DurableLocal, ErrorKind, SystemClock, SystemDisk};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::engine::open::{Components, open};
use crate::error::{Error, Result};
use crate::kinesis::Kinesis;
use crate::settings::Settings;

/// Components and settings of an instance, ended by [`open`](Self::open).
#[derive(Debug)]
pub struct KinesisBuilder {
    place: Place,
    journal_dir: Option<PathBuf>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    adopt: bool,
}

#[derive(Debug)]
enum Place {
    Memory,
    Dir(PathBuf),
    Store(Arc<dyn ObjectStore>, Path),
}

impl KinesisBuilder {
    pub(crate) fn memory() -> Self {
        Self::new(Place::Memory)
    }

    pub(crate) fn at(dir: PathBuf) -> Self {
        Self::new(Place::Dir(dir))
    }

    pub(crate) fn on(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self::new(Place::Store(store, prefix))
    }

    fn new(place: Place) -> Self {
        Self {
            place,
            journal_dir: None,
            settings: Settings::default(),
            clock: Arc::new(SystemClock::new()),
            disk: Arc::new(SystemDisk),
            adopt: false,
        }
    }

    /// Other figures than the default ones.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Another clock than the machine's: records are stamped, and retention judged, by it.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another disk than the machine's, for a local journal.
    #[must_use]
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Keeps the journal in a directory of this machine's own disk, while the segments lie in the store: acknowledged
    /// as fast as that disk syncs, and as durable as it is.
    #[must_use]
    pub fn journal_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.journal_dir = Some(dir.into());
        self
    }

    /// Lets the data go on with this journal although another has claimed it: what only the other holds is given up.
    #[must_use]
    pub fn adopt(mut self) -> Self {
        self.adopt = true;
        self
    }

    /// Opens the instance, making it if there is none, and recovers all that was acknowledged.
    ///
    /// Dropping the future leaves the instance closed; an object journal may have been taken over.
    ///
    /// # Errors
    /// `InvalidInput` outside a tokio runtime or for a setting out of bounds; `Conflict` if another process has the
    /// directory open, or another journal has claimed the data; `NotFound` if the journal that claimed them is not
    /// here; `Corrupt` if something is damaged; `Unavailable` if disk or store fail.
    pub async fn open(self) -> Result<Kinesis> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "open this instance inside a tokio runtime").with_source(error)
        })?;
        let (store, root, journal) = match self.place {
            Place::Memory => {
                let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
                (store, Path::default(), Journal::memory())
            }
            Place::Dir(dir) => {
                let path = dir.join("store");
                let opened = runtime.spawn_blocking(move || DurableLocal::new(path)).await;
                let store = opened.map_err(|error| {
                    Error::new(ErrorKind::Internal, "opening the store did not finish").with_source(error)
                })??;
                let store: Arc<dyn ObjectStore> = Arc::new(store);
                let journal_dir = self.journal_dir.unwrap_or_else(|| dir.join("journal"));
                let journal = Journal::dir(journal_dir).claim(store.clone(), claim_path(&Path::default()));
                (store, Path::default(), journal)
            }
            Place::Store(store, prefix) => {
                let journal = match self.journal_dir {
                    Some(dir) => Journal::dir(dir).claim(store.clone(), claim_path(&prefix)),
                    None => Journal::store(store.clone(), prefix.clone().join("journal")),
                };
                (store, prefix, journal)
            }
        };
        let journal = journal.disk(self.disk).clock(self.clock.clone());
        let journal = journal.segment_bytes(self.settings.journal_segment_bytes());
        let journal = if self.adopt { journal.adopt() } else { journal };
        let components = Components { store, root, journal, clock: self.clock, settings: self.settings };
        let (engine, sealer, each_minute) = open(components).await?;
        let background = async move {
            tokio::join!(sealer.run(), each_minute.run());
        };
        Ok(Kinesis::new(engine, runtime.spawn(background)))
    }
}

fn claim_path(root: &Path) -> Path {
    root.clone().join("journal-claim")
}
