//! A value in an object store that changes by commits, each on top of the version that its author had read.
//!
//! Version n is the object `{n:020}`, created with put-if-absent: of two who commit on the same version one wins, on any
//! store, without a lock or a clock. The writer's id stands inside the object, so that a put that failed but was
//! applied is recognised as one's own.
//!
//! | body of the envelope `VCOMIT02` | bytes | |
//! |---|---|---|
//! | id | 16 | random, of this commit |
//! | number | 8 | of this version |
//! | before | 1 | how many ids follow |
//! | ids | 16 each | of the versions before, the nearest first |
//! | body | | as it was committed |
//!
//! `VCOMIT01`, which is read too, has no ids of versions before. They tell a committer whose number was trimmed by the
//! time it looks whether that was its own version, on which others built, or one that had taken the name before.
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

const MAGIC: [u8; 8] = *b"VCOMIT02";
const MAGIC_WITHOUT_IDS: [u8; 8] = *b"VCOMIT01";
const ID_BYTES: usize = 16;
/// Id and number.
const SIGN_BYTES: usize = 24;
/// How many versions before it a version knows by their ids.
const IDS_MAX: usize = 32;
/// How often a listing is repeated while others trim what it showed.
const LISTINGS_MAX: u32 = 32;
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
        let mut last = 0;
        for _ in 0..LISTINGS_MAX {
            let listed = retrying::numbers(self.store.as_ref(), self.clock.as_ref(), &self.versions()).await?;
            last = listed.last().copied().unwrap_or(0);
            let mut newest = if last > 0 { self.read(last).await? } else { None };
            // A listing may be behind: go on as long as the next number is there.
            let mut number = last;
            while let Some(version) = self.read(number + 1).await? {
                number += 1;
                newest = Some(version);
            }
            // What was listed and is not there was trimmed meanwhile, so there is a newer one: list again.
            if newest.is_some() || last == 0 {
                return Ok(newest);
            }
        }
        let message = format!("{}: version {last} is listed again and again, yet not there", self.prefix);
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Version `number`; `None` if there is none, not yet or no longer. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `Corrupt` if the version is damaged; `Unavailable` as the store reports it.
    pub async fn read(&self, number: u64) -> Result<Option<Version>> {
        Ok(self.read_signed(number).await?.map(|signed| Version { number, body: signed.body }))
    }

    async fn read_signed(&self, number: u64) -> Result<Option<Signed>> {
        let path = self.name(number);
        let Some(bytes) = retrying::read(self.store.as_ref(), self.clock.as_ref(), &path).await? else {
            return Ok(None);
        };
        let has_ids = !bytes.starts_with(&MAGIC_WITHOUT_IDS);
        let body = envelope::open(if has_ids { MAGIC } else { MAGIC_WITHOUT_IDS }, &bytes, path.as_ref())?;
        let signed = Signed::parse(&body, number, has_ids);
        let message = || format!("{path}: it is not version {number}; restore the object from a copy");
        signed.map(Some).ok_or_else(|| Error::new(ErrorKind::Corrupt, message()))
    }

    /// Commits `body` as the version after `expected` (0 if there is none yet), and answers its number.
    ///
    /// Dropping the future may leave the version committed or not: read [`latest`](Self::latest) to know.
    ///
    /// # Errors
    /// `Conflict` if `expected` is not the newest version: read it, decide anew. `LimitExceeded` past
    /// [`VERSION_BYTES_MAX`]. `Unavailable` if the store kept failing, or answered so late that dozens of versions on top of
    /// this one were trimmed meanwhile: whether it was committed is then not known.
    pub async fn commit(&self, expected: u64, body: Bytes) -> Result<u64> {
        if body.len() > VERSION_BYTES_MAX {
            let message = format!("a version of {} bytes; at most {VERSION_BYTES_MAX} fit", body.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let number = expected + 1;
        let before = match expected {
            0 => Vec::new(),
            _ => self.read_signed(expected).await?.ok_or_else(|| self.conflict(expected))?.ids(),
        };
        let signed = Signed { id: rand::rng().random(), before, body };
        let sealed = envelope::seal(MAGIC, &signed.to_bytes(number))?;
        match create::create(self.store.as_ref(), self.clock.as_ref(), &self.name(number), sealed).await? {
            // Below the floor: either others built on this version and trimmed it, or the name had been used and freed.
            Created::Mine if self.floor.read().await? > number => self.judge_trimmed(number, signed.id).await,
            Created::Mine => Ok(number),
            Created::Taken(_) => Err(self.conflict(expected)),
        }
    }

    /// Whether the version `number` that was trimmed was the one with this id. What stands under its name goes again.
    async fn judge_trimmed(&self, number: u64, id: u128) -> Result<u64> {
        let (floor, ids) = self.ids_below_floor().await?;
        let back = floor.checked_sub(number + 1).and_then(|back| usize::try_from(back).ok());
        let known = back.and_then(|back| ids.get(back));
        retrying::delete(self.store.as_ref(), self.clock.as_ref(), &self.name(number)).await?;
        match known {
            Some(known) if *known == id => Ok(number),
            Some(_) => Err(self.conflict(number - 1)),
            None => {
                let message = format!(
                    "{}: the versions below {floor} are trimmed; whether this commit was version {number} is not known",
                    self.prefix
                );
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// The floor, and the ids that the oldest version which is kept knows of those before it.
    async fn ids_below_floor(&self) -> Result<(u64, Vec<u128>)> {
        let mut floor = 0;
        for _ in 0..LISTINGS_MAX {
            floor = self.floor.read().await?;
            if let Some(oldest) = self.read_signed(floor).await? {
                return Ok((floor, oldest.before));
            }
        }
        // Each time it was trimmed between the two reads.
        Ok((floor, Vec::new()))
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

/// A version as it is stored.
#[derive(Debug)]
struct Signed {
    id: u128,
    /// Ids of the versions before, the nearest first.
    before: Vec<u128>,
    body: Bytes,
}

impl Signed {
    /// What the next version knows: the id of this one, and those before.
    fn ids(&self) -> Vec<u128> {
        std::iter::once(self.id).chain(self.before.iter().copied()).take(IDS_MAX).collect()
    }

    fn to_bytes(&self, number: u64) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(SIGN_BYTES + 1 + self.before.len() * ID_BYTES + self.body.len());
        bytes.put_u128_le(self.id);
        bytes.put_u64_le(number);
        bytes.put_u8(u8::try_from(self.before.len()).unwrap_or(u8::MAX));
        self.before.iter().for_each(|id| bytes.put_u128_le(*id));
        bytes.put_slice(&self.body);
        bytes
    }

    /// Reads the envelope's body; `None` unless it is version `number`.
    fn parse(bytes: &Bytes, number: u64, has_ids: bool) -> Option<Self> {
        let id = u128::from_le_bytes(*bytes.first_chunk()?);
        if bytes.get(ID_BYTES..SIGN_BYTES)? != number.to_le_bytes() {
            return None;
        }
        let mut rest = bytes.slice(SIGN_BYTES..);
        let mut before = Vec::new();
        if has_ids {
            let count = usize::from(*rest.first()?);
            let ids = rest.get(1..=count * ID_BYTES)?;
            before = ids
                .chunks_exact(ID_BYTES)
                .filter_map(|id| id.first_chunk())
                .map(|id| u128::from_le_bytes(*id))
                .collect();
            rest = rest.slice(1 + count * ID_BYTES..);
        }
        Some(Self { id, before, body: rest })
    }
}
