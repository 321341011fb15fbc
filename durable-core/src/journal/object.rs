//! The object journal: numbered objects created with put-if-absent, fenced by the numbering itself.
//!
//! | object | what | who writes | who reads |
//! |---|---|---|---|
//! | `epoch/{n:020}` | a [`VersionedCommit`]: version n is epoch n, the body names its writer | each open | each open |
//! | `log/{n:020}` | one [`Group`](super::Group), number n; one without frames is a fence | the writer of the epoch | recovery |
//! | `checkpoint/{epoch:020}-{n:020}` | a manifest | a checkpoint | recovery: the last one by name counts |
//! | `parts/{epoch:020}-{n:020}` | parts, see [`checkpoint`](super::checkpoint) | a checkpoint | recovery |
//! | `floor/{n:020}` | empty: no log object below n is looked at any more | trimming, before it deletes | fences, recovery |
//!
//! The names under `log/` are one contiguous sequence for all writers for ever; epoch and writer stand *inside* the
//! object. A new writer puts a fence at the next name: from then on the old writer's next create fails. One create is
//! in flight at a time, so one fence is enough. The newest object of an epoch is never deleted, and a creator of a fence
//! looks at the floor again afterwards: else a sleeper could create a freed name and believe it. Then it looks at the
//! epochs again: whoever took a newer one before that may have fenced already, and whoever takes one later will fence
//! behind. So an object of a lower epoch than one before it is *void*, the fence of an opener that was overtaken: it is
//! neither applied nor an error, and the writer goes on behind it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::checkpoint::{self, Checkpoint, Manifest, PartChange, PartsFiles};
use super::frame::{Frame, Position};
use super::group::{self, Encoded, Group, Header, JournalId};
use crate::create::{self, Created};
use crate::floor::Floor;
use crate::{Clock, Error, ErrorKind, Result, VersionedCommit, retrying};

/// The most bytes that one frame of an object journal may have.
pub(crate) const OBJECT_FRAME_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug)]
struct Shared {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
    writer: JournalId,
    epoch: u64,
    epochs: VersionedCommit,
    floor: Floor,
    log: Mutex<Log>,
}

/// Which log objects there are, oldest first.
#[derive(Debug, Default)]
struct Log {
    objects: VecDeque<Object>,
    mark: Position,
    last: u64,
}

#[derive(Clone, Copy, Debug)]
struct Object {
    number: u64,
    epoch: u64,
    end: Position,
}

impl Log {
    /// Notes an object that counts for nothing: it goes when the one before it does.
    fn push_void(&mut self, number: u64, epoch: u64) {
        let end = self.objects.back().map_or(Position::ZERO, |before| before.end);
        self.objects.push_back(Object { number, epoch, end });
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, path: &Path) -> Result<Bytes> {
        let found = retrying::read(self.store.as_ref(), self.clock.as_ref(), path).await?;
        if found.is_none() {
            // A newer writer may have let it go.
            self.check_newest().await?;
        }
        found.ok_or_else(|| corrupt(path, "the object is missing"))
    }

    /// Refuses if a newer writer takes over, or has.
    async fn check_newest(&self) -> Result<()> {
        let newest = self.epochs.latest().await?.map_or(0, |version| version.number);
        if newest > self.epoch { Err(fenced(self.epoch, newest)) } else { Ok(()) }
    }

    fn object(&self, number: u64) -> Path {
        self.prefix.clone().join("log").join(numbered(number))
    }
}

fn numbered(number: u64) -> String {
    format!("{number:020}")
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{path}: {what}; restore the object from a copy"))
}

/// Takes an object journal over and reads it.
#[derive(Debug)]
pub(crate) struct ObjectRecovery {
    shared: Arc<Shared>,
    manifest: Manifest,
    checkpoint: Option<Checkpoint>,
    /// The next log object to read.
    next_object: u64,
    /// The fence of this epoch: the last object to read.
    fence: u64,
    next: Position,
    epoch_seen: u64,
}

impl ObjectRecovery {
    /// Takes the journal under `prefix` over: nothing that an earlier writer still sends can be confirmed to it.
    pub(crate) async fn open(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        clock: Arc<dyn Clock>,
        writer: JournalId,
    ) -> Result<Self> {
        let epochs = VersionedCommit::new(store.clone(), prefix.clone().join("epoch")).with_clock(clock.clone());
        let floor = Floor::new(store.clone(), prefix.clone().join("floor"), clock.clone());
        let epoch = loop {
            let newest = epochs.latest().await?.map_or(0, |version| version.number);
            match epochs.commit(newest, Bytes::copy_from_slice(&writer.to_le_bytes())).await {
                Ok(epoch) => break epoch,
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        };
        epochs.trim(epoch).await?;
        let shared = Shared { store, prefix, clock, writer, epoch, epochs, floor, log: Mutex::new(Log::default()) };
        let fence = fence(&shared).await?;
        // Only now: a checkpoint that an older writer made before the fence is one that this open must know of.
        let (manifest, checkpoint) = newest_checkpoint(&shared).await?;
        let next_object = manifest.as_ref().map_or(1, |manifest| manifest.oldest);
        let next = manifest.as_ref().map_or(Position::ZERO, |manifest| manifest.mark.max(manifest.at));
        Ok(Self {
            shared: Arc::new(shared),
            manifest: manifest.unwrap_or_default(),
            checkpoint,
            next_object,
            fence,
            next,
            epoch_seen: 0,
        })
    }

    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The frames of the next log object at or after the checkpoint; `None` once the own fence was reached.
    pub(crate) async fn next_frames(&mut self) -> Result<Option<Vec<Frame>>> {
        let at = self.checkpoint.as_ref().map_or(Position::ZERO, |checkpoint| checkpoint.at);
        while self.next_object <= self.fence {
            let number = self.next_object;
            let path = self.shared.object(number);
            let bytes = self.shared.read(&path).await?;
            let group = group::decode(&bytes).filter(|group| group.number == number);
            let group = group.ok_or_else(|| corrupt(&path, "its checksum does not match what it holds"))?;
            self.next_object += 1;
            if group.epoch < self.epoch_seen {
                self.shared.log().push_void(number, self.epoch_seen);
                continue;
            }
            if group.epoch > self.shared.epoch {
                return Err(fenced(self.shared.epoch, group.epoch));
            }
            self.epoch_seen = group.epoch;
            self.next = self.next.max(group.mark).max(group.end());
            let object = Object { number, epoch: group.epoch, end: group.end() };
            self.shared.log().objects.push_back(object);
            let frames: Vec<Frame> = group.frames.into_iter().filter(|frame| frame.position >= at).collect();
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
        Ok(None)
    }

    pub(crate) async fn start(mut self) -> Result<(ObjectWriter, ObjectCheckpoints)> {
        while self.next_frames().await?.is_some() {}
        {
            let mut log = self.shared.log();
            log.last = self.fence;
            log.mark = self.next;
        }
        let writer = ObjectWriter {
            shared: self.shared.clone(),
            encoded: Encoded::default(),
            group: self.fence + 1,
            next: self.next,
        };
        let files = PartsFiles::of(&self.manifest);
        let attempt = self.manifest.number;
        Ok((writer, ObjectCheckpoints { shared: self.shared, manifest: self.manifest, attempt, files }))
    }
}

/// Creates the fence of this epoch at the first free name, and answers its number.
async fn fence(shared: &Shared) -> Result<u64> {
    let mut number = first_free(shared).await?;
    let mut mark = Position::ZERO;
    loop {
        let fence = Group::new(number, shared.epoch, mark, mark, Vec::new());
        let mut encoded = Encoded::default();
        encoded.fill(&fence, shared.writer);
        let path = shared.object(number);
        match create::create(shared.store.as_ref(), shared.clock.as_ref(), &path, encoded.to_bytes()).await? {
            Created::Mine => {
                if shared.floor.read().await? > number {
                    // The name had been used and freed: this fence is void. Look for the end again.
                    number = first_free(shared).await?;
                    continue;
                }
                shared.check_newest().await?;
                return Ok(number);
            }
            Created::Taken(bytes) => {
                let found = group::decode(&bytes).ok_or_else(|| corrupt(&path, "its checksum does not match"))?;
                if found.epoch > shared.epoch {
                    return Err(fenced(shared.epoch, found.epoch));
                }
                mark = mark.max(found.mark).max(found.end());
                number += 1;
            }
        }
    }
}

/// The number after the last log object that can be seen.
async fn first_free(shared: &Shared) -> Result<u64> {
    let floor = shared.floor.read().await?;
    let log = shared.prefix.clone().join("log");
    let numbers = retrying::numbers(shared.store.as_ref(), shared.clock.as_ref(), &log).await?;
    Ok(numbers.last().copied().unwrap_or(0).max(floor.saturating_sub(1)) + 1)
}

fn fenced(own: u64, newer: u64) -> Error {
    let message = format!("the journal was taken over: epoch {newer} has followed epoch {own}; open it anew to write");
    Error::new(ErrorKind::Fenced, message)
}

async fn newest_checkpoint(shared: &Shared) -> Result<(Option<Manifest>, Option<Checkpoint>)> {
    let checkpoints = shared.prefix.clone().join("checkpoint");
    let names = retrying::names(shared.store.as_ref(), shared.clock.as_ref(), &checkpoints).await?;
    // By name: epoch first, so that what a sleeper of an older epoch still wrote does not count beside a newer one.
    let newest = match names.into_iter().max() {
        Some(path) => Some(Manifest::parse(&shared.read(&path).await?, path.as_ref())?),
        None => None,
    };
    let Some(manifest) = newest else { return Ok((None, None)) };
    let mut parts = BTreeMap::new();
    for file in manifest.files() {
        let bytes = shared.read(&shared.prefix.clone().join("parts").join(file)).await?;
        checkpoint::read_parts(&manifest, file, &bytes, &mut parts)?;
    }
    let checkpoint = Checkpoint { at: manifest.at, parts };
    Ok((Some(manifest), Some(checkpoint)))
}

/// Writes groups as objects.
#[derive(Debug)]
pub(crate) struct ObjectWriter {
    shared: Arc<Shared>,
    encoded: Encoded,
    group: u64,
    next: Position,
}

impl ObjectWriter {
    pub(crate) fn next_group(&self) -> u64 {
        self.group
    }

    pub(crate) fn next_position(&self) -> Position {
        self.next
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Makes `group` durable and proves that no newer writer had taken over before.
    pub(crate) async fn commit(&mut self, group: &Group) -> Result<()> {
        let mut group = Cow::Borrowed(group);
        loop {
            self.encoded.fill(&group, self.shared.writer);
            let path = self.shared.object(group.number);
            let bytes = self.encoded.to_bytes();
            let created = create::create(self.shared.store.as_ref(), self.shared.clock.as_ref(), &path, bytes).await?;
            let Created::Taken(found) = created else { break };
            let other = group::decode(&found).ok_or_else(|| corrupt(&path, "its checksum does not match"))?;
            match other.epoch.cmp(&self.shared.epoch) {
                Ordering::Greater => return Err(fenced(self.shared.epoch, other.epoch)),
                Ordering::Equal => {
                    let writer = Header::parse(&found).map_or(0, |header| header.journal);
                    return Err(corrupt(&path, &format!("writer {writer:032x} of this epoch wrote it")));
                }
                Ordering::Less => {
                    self.shared.log().push_void(group.number, self.shared.epoch);
                    group.to_mut().number += 1;
                }
            }
        }
        self.group = group.number + 1;
        self.next = group.end();
        let mut log = self.shared.log();
        log.objects.push_back(Object { number: group.number, epoch: group.epoch, end: group.end() });
        log.last = group.number;
        log.mark = group.mark;
        Ok(())
    }
}

/// Writes checkpoints, and deletes the log objects that they cover.
#[derive(Debug)]
pub(crate) struct ObjectCheckpoints {
    shared: Arc<Shared>,
    manifest: Manifest,
    /// The number of the last attempt, whether it succeeded or not.
    attempt: u64,
    files: PartsFiles,
}

/// Checkpoints and parts that a newer checkpoint let go: to be deleted, with the log objects, once its writer has proved
/// that it still is the writer.
#[derive(Debug)]
pub(crate) struct Freed {
    paths: Vec<Path>,
}

impl ObjectCheckpoints {
    /// Makes the state of everything below `at` durable, and answers what may then be deleted.
    pub(crate) async fn checkpoint(&mut self, at: Position, changes: Vec<PartChange>) -> Result<Freed> {
        if at < self.manifest.at {
            let message = format!("a checkpoint at {at} is below the one at {}", self.manifest.at);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let shared = self.shared.clone();
        // An attempt that failed may have been applied, so its number is never taken again.
        self.attempt += 1;
        let mut next = Manifest { number: self.attempt, at, ..self.manifest.clone() };
        let own_name = |number: u64| format!("{:020}-{number:020}", shared.epoch);
        let mut written = BTreeMap::new();
        if self.files.wants_rewrite(&self.manifest, &changes) {
            for file in self.manifest.files() {
                let bytes = shared.read(&shared.prefix.clone().join("parts").join(file)).await?;
                checkpoint::read_parts(&self.manifest, file, &bytes, &mut written)?;
            }
        }
        for (name, body) in changes {
            next.parts.remove(&name);
            match body {
                Some(body) => written.insert(name, body),
                None => written.remove(&name),
            };
        }
        if !written.is_empty() {
            let file = own_name(next.number);
            let (sealed, places) = checkpoint::lay_out(&file, &written)?;
            let bytes = sealed.len() as u64;
            self.create("parts", &file, sealed).await?;
            next.parts.extend(places);
            self.files.insert(file, bytes);
        }
        let freed = self.free_below(at, &mut next);
        let newest = own_name(next.number);
        self.create("checkpoint", &newest, next.to_bytes()?).await?;
        shared.log().objects.retain(|object| !freed.contains(&object.number));
        self.files.take_dead(&next);
        // Listed, since one that was killed has left some that nothing names.
        let mut paths = self.older("checkpoint", &newest).await?;
        let living = next.files();
        let parts = self.older("parts", &newest).await?.into_iter();
        paths.extend(parts.filter(|path| path.filename().is_some_and(|name| !living.contains(name))));
        self.manifest = next;
        Ok(Freed { paths })
    }

    /// The objects in a folder whose names come before `newest`: older numbers, older epochs.
    async fn older(&self, folder: &str, newest: &str) -> Result<Vec<Path>> {
        let folder = self.shared.prefix.clone().join(folder);
        let mut names = retrying::names(self.shared.store.as_ref(), self.shared.clock.as_ref(), &folder).await?;
        names.retain(|path| path.filename().is_some_and(|name| name < newest));
        Ok(names)
    }

    async fn create(&self, folder: &str, name: &str, bytes: Bytes) -> Result<()> {
        let path = self.shared.prefix.clone().join(folder).join(name);
        match create::create(self.shared.store.as_ref(), self.shared.clock.as_ref(), &path, bytes).await? {
            Created::Mine => Ok(()),
            Created::Taken(_) => Err(corrupt(&path, "something else has this writer's name")),
        }
    }

    /// Which log objects a checkpoint at `at` lets go; `next` names them, those that are still to be deleted included.
    fn free_below(&self, at: Position, next: &mut Manifest) -> BTreeSet<u64> {
        let log = self.shared.log();
        let mut freed = BTreeSet::new();
        next.oldest = log.last + 1;
        let mut epoch_before = None;
        for (index, object) in log.objects.iter().enumerate() {
            let following = log.objects.get(index + 1);
            if object.end > at || following.is_none() {
                next.oldest = object.number;
                break;
            }
            let newest_of_epoch = following.is_none_or(|following| following.epoch != object.epoch);
            // The name that an older writer would create next: free, it would let that writer believe itself current.
            let fence = epoch_before.replace(object.epoch) != Some(object.epoch);
            if !newest_of_epoch && !fence {
                freed.insert(object.number);
            }
        }
        for number in &freed {
            match next.freed.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => next.freed.push((*number, *number)),
            }
        }
        next.oldest_exists = true;
        next.oldest_group = next.oldest;
        next.mark = log.mark;
        next.group = log.last;
        freed
    }

    /// Deletes what a checkpoint let go. Call it only after a commit of this writer has followed the checkpoint. What is
    /// not deleted by a failure is named by the next checkpoint again.
    pub(crate) async fn delete(&mut self, freed: Freed) -> Result<()> {
        let shared = &self.shared;
        shared.floor.raise(self.manifest.oldest).await?;
        let objects = self.manifest.freed.iter().flat_map(|(first, last)| *first..=*last);
        for path in objects.map(|number| shared.object(number)).chain(freed.paths) {
            retrying::delete(shared.store.as_ref(), shared.clock.as_ref(), &path).await?;
        }
        self.manifest.freed.clear();
        Ok(())
    }
}
