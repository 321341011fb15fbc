//! A value in an object store that changes by commits, each on top of the version that its author had read.
//!
//! Version n is the object `{n:020}`, created with put-if-absent: of two who commit on the same version one wins, on any
//! store, without a lock or a clock. The writer's id stands inside the object, so that a put that failed but was
//! applied is recognised as one's own.
//!
//! Invariant: the numbers have no gap, and no number is ever given twice, not even after old versions were trimmed.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use object_store::ObjectStore;
use object_store::path::Path;
use rand::Rng;

use crate::create::{self, Created};
use crate::floor::Floor;
use crate::{Clock, Error, ErrorKind, Result, SystemClock, envelope, retrying};

const MAGIC: [u8; 8] = *b"VCOMIT01";
const WRITER_BYTES: usize = 24;
/// The largest body of a version.
pub const VERSION_BYTES_MAX: usize = 64 << 20;

/// One version of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// 1 for the first.
    pub number: u64,
    /// As it was committed.
    pub body: Bytes,
}

/// A value that changes by commits, under one prefix of a store. Cheap to clone; clones share nothing but the store.
///
/// ```
/// # use std::sync::Arc;
/// # use durable_core::{ErrorKind, VersionedCommit};
/// # use durable_core::object_store::{memory::InMemory, path::Path};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), durable_core::Error> {
/// let value = VersionedCommit::new(Arc::new(InMemory::new()), Path::from("settings"));
/// let one = value.commit(0, "first".into()).await?;
/// let two = value.commit(one, "second".into()).await?;
/// assert_eq!(value.latest().await?.expect("two versions").number, two);
///
/// let late = value.commit(one, "on top of what is no longer the newest".into()).await;
/// assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct VersionedCommit {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
    floor: Floor,
}

impl VersionedCommit {
    /// The value whose versions are kept under `prefix`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let floor = Floor::new(store.clone(), prefix.clone().join("floor"), clock.clone());
        Self { store, prefix, clock, floor }
    }

    /// The same value, with waits between attempts on another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.floor = Floor::new(self.store.clone(), self.prefix.clone().join("floor"), clock.clone());
        self.clock = clock;
        self
    }

    /// The newest version; `None` before the first. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `Corrupt` if the version is damaged; `Unavailable` as the store reports it.
    pub async fn latest(&self) -> Result<Option<Version>> {
        let listed = retrying::numbers(self.store.as_ref(), self.clock.as_ref(), &self.versions()).await?;
        let mut newest = None;
        let mut number = listed.last().copied().unwrap_or(0);
        if number > 0 {
            newest = self.read(number).await?;
        }
        // A listing may be behind: go on as long as the next number is there.
        while let Some(version) = self.read(number + 1).await? {
            number += 1;
            newest = Some(version);
        }
        Ok(newest)
    }

    /// Version `number`; `None` if there is none, not yet or no longer. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `Corrupt` if the version is damaged; `Unavailable` as the store reports it.
    pub async fn read(&self, number: u64) -> Result<Option<Version>> {
        let path = self.name(number);
        let Some(bytes) = retrying::read(self.store.as_ref(), self.clock.as_ref(), &path).await? else {
            return Ok(None);
        };
        let body = envelope::open(MAGIC, &bytes, path.as_ref())?;
        if body.len() < WRITER_BYTES || body[16..WRITER_BYTES] != number.to_le_bytes() {
            let message = format!("{path}: it is not version {number}; restore the object from a copy");
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(Some(Version { number, body: body.slice(WRITER_BYTES..) }))
    }

    /// Commits `body` as the version after `expected` (0 if there is none yet), and answers its number.
    ///
    /// Dropping the future may leave the version committed or not: read [`latest`](Self::latest) to know.
    ///
    /// # Errors
    /// `Conflict` if `expected` is not the newest version: read it, decide anew. `LimitExceeded` past
    /// [`VERSION_BYTES_MAX`]. `Unavailable` if the store kept failing: whether it was committed is then not known.
    pub async fn commit(&self, expected: u64, body: Bytes) -> Result<u64> {
        if body.len() > VERSION_BYTES_MAX {
            let message = format!("a version of {} bytes; at most {VERSION_BYTES_MAX} fit", body.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let number = expected + 1;
        if expected > 0 && !self.exists(expected).await? {
            return Err(self.conflict(expected));
        }
        let mut signed = BytesMut::with_capacity(WRITER_BYTES + body.len());
        signed.put_u128_le(rand::rng().random());
        signed.put_u64_le(number);
        signed.put_slice(&body);
        let sealed = envelope::seal(MAGIC, &signed)?;
        match create::create(self.store.as_ref(), self.clock.as_ref(), &self.name(number), sealed).await? {
            // Below the floor the name had been used and freed: this version is void, and goes again.
            Created::Mine if self.floor.read().await? > number => {
                retrying::delete(self.store.as_ref(), self.clock.as_ref(), &self.name(number)).await?;
                Err(self.conflict(expected))
            }
            Created::Mine => Ok(number),
            Created::Taken(_) => Err(self.conflict(expected)),
        }
    }

    /// Deletes the versions below `before`; the newest always stays. Dropping the future may leave some.
    ///
    /// # Errors
    /// As the store reports them.
    pub async fn trim(&self, before: u64) -> Result<()> {
        let numbers = retrying::numbers(self.store.as_ref(), self.clock.as_ref(), &self.versions()).await?;
        let Some(newest) = numbers.last().copied() else { return Ok(()) };
        let floor = before.min(newest);
        self.floor.raise(floor).await?;
        for number in numbers.into_iter().take_while(|number| *number < floor) {
            retrying::delete(self.store.as_ref(), self.clock.as_ref(), &self.name(number)).await?;
        }
        Ok(())
    }

    async fn exists(&self, number: u64) -> Result<bool> {
        Ok(retrying::read(self.store.as_ref(), self.clock.as_ref(), &self.name(number)).await?.is_some())
    }

    fn conflict(&self, expected: u64) -> Error {
        let message =
            format!("{}: version {expected} is not the newest any more; read it and decide anew", self.prefix);
        Error::new(ErrorKind::Conflict, message)
    }

    fn versions(&self) -> Path {
        self.prefix.clone().join("version")
    }

    fn name(&self, number: u64) -> Path {
        self.versions().join(format!("{number:020}"))
    }
}
