//! Where a journal lies, and how it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::claim;
use super::dir::DirRecovery;
use super::object::ObjectRecovery;
use super::recovery::{Recovery, blocking, runtime};
use super::{Journal, JournalId};
use crate::{Clock, Disk, Result, SystemClock, SystemDisk};

/// The size of a segment of a local journal, unless another is set.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// Settings and components of a journal, ended by [`open`](Self::open).
#[derive(Debug)]
pub struct JournalBuilder {
    place: Place,
    segment_bytes: u64,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    claim: Option<(Arc<dyn ObjectStore>, Path)>,
    adopt: bool,
}

#[derive(Debug)]
enum Place {
    Memory,
    Dir(PathBuf),
    Store(Arc<dyn ObjectStore>, Path),
}

impl Journal {
    /// A journal that keeps nothing: order, hook and backpressure without a disk.
    #[must_use]
    pub fn memory() -> JournalBuilder {
        JournalBuilder::new(Place::Memory)
    }

    /// A journal in a directory of a local disk, which one process at a time has open.
    ///
    /// Not for a directory that machines share: an open file there cannot be fenced. Take [`store`](Self::store).
    #[must_use]
    pub fn dir(dir: impl Into<PathBuf>) -> JournalBuilder {
        JournalBuilder::new(Place::Dir(dir.into()))
    }

    /// A journal of objects under `prefix`, on any store that has put-if-absent. Opening it takes it over: the writer
    /// before is fenced, wherever it runs.
    #[must_use]
    pub fn store(store: Arc<dyn ObjectStore>, prefix: Path) -> JournalBuilder {
        JournalBuilder::new(Place::Store(store, prefix))
    }
}

impl JournalBuilder {
    fn new(place: Place) -> Self {
        Self {
            place,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            disk: Arc::new(SystemDisk),
            clock: Arc::new(SystemClock::new()),
            claim: None,
            adopt: false,
        }
    }

    /// The size of a segment of a local journal: a multiple of 512 from 8 KiB on; a frame has at most about a quarter.
    /// The default is 64 MiB. Up to two segments are allocated ahead.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// The disk of a local journal.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// The clock that paces retries against a store.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Ties a local journal to the data under `prefix` of a store: opening that data with another journal, or none, is
    /// then an error instead of a silent loss.
    #[must_use]
    pub fn claim(mut self, store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        self.claim = Some((store, prefix));
        self
    }

    /// Lets the data go on with this journal although another has claimed it: what only the other holds is given up.
    #[must_use]
    pub fn adopt(mut self) -> Self {
        self.adopt = true;
        self
    }

    /// Opens the journal, making it if there is none, and answers what it holds.
    ///
    /// Dropping the future may leave a new journal made or not; an object journal may have been taken over.
    ///
    /// # Errors
    /// `InvalidInput` outside a tokio runtime or for a bad setting; `Conflict` if another process has the directory open
    /// or another journal has claimed the data; `NotFound` if the journal that claimed the data is not in the directory;
    /// `Corrupt` if something is damaged or missing; `Unavailable` as disk or store report it.
    pub async fn open(self) -> Result<Recovery> {
        runtime()?;
        let new_id: JournalId = rand::random();
        match self.place {
            Place::Memory => Ok(Recovery::memory()),
            Place::Store(store, prefix) => {
                Ok(Recovery::object(ObjectRecovery::open(store, prefix, self.clock, new_id).await?))
            }
            Place::Dir(dir) => {
                let claims = self.claim.map(|(store, prefix)| claim::Claims::new(store, prefix, self.clock.clone()));
                let claim = match &claims {
                    Some(claims) => claims.newest().await?,
                    None => None,
                };
                if let (Some(claim), false) = (&claim, self.adopt) {
                    let (disk, dir) = (self.disk.clone(), dir.clone());
                    let id = blocking({
                        let dir = dir.clone();
                        move || DirRecovery::id_in(disk.as_ref(), &dir)
                    });
                    claim.check(id.await??, &dir)?;
                }
                let recovery = {
                    let (disk, dir, segment_bytes) = (self.disk, dir.clone(), self.segment_bytes);
                    blocking(move || DirRecovery::open(disk, &dir, segment_bytes, new_id)).await??
                };
                if let Some(claims) = claims {
                    claims.claim(claim.as_ref(), recovery.id(), &dir).await?;
                }
                Ok(Recovery::dir(recovery))
            }
        }
    }
}
