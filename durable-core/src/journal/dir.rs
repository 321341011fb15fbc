//! The local journal: a core over [`Disk`], without threads, locks between threads aside.
//!
//! | file | what | who writes | who reads |
//! |---|---|---|---|
//! | `lock` | held while the journal is open | open | open |
//! | `identity` | the journal's id, in an envelope `JIDENT01` | the first open, after the first segment is durable | open |
//! | `{number:020}.segment` | see [`segment`] | the writer | recovery |
//! | `checkpoint-{number:020}`, `parts-{number:020}` | see [`checkpoint`](super::checkpoint) | checkpoints | recovery |
//! | `seal` | the number of the last group, in an envelope `JSEAL001` | a clean close | open, which removes it before the first append |
//!
//! [`DirRecovery`] reads; its [`start`](DirRecovery::start) cuts the torn tail, syncs what was recovered, and gives the
//! three parts that a driver may use from different threads: writer, allocator, checkpoints.
//!
//! A group that does not check out ends the journal if no whole group of a later number lies behind it: it is the torn
//! tail and was never acknowledged. Any other damage refuses to open and says where. After a clean close every damage
//! is damage.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::checkpoint::{self, Checkpoint, Manifest, PartChange, PartsFiles};
use super::frame::{Frame, Position};
use super::group::{Encoded, Group, JournalId};
use super::segment::{self, Found, SEGMENT_HEADER_BYTES, SegmentReader};
use crate::disk::{Disk, DiskFile, DiskLock, OpenMode};
use crate::envelope;
use crate::{Error, ErrorKind, Result};

const IDENTITY: &str = "identity";
const IDENTITY_MAGIC: [u8; 8] = *b"JIDENT01";
const SEAL: &str = "seal";
const SEAL_MAGIC: [u8; 8] = *b"JSEAL001";
const LOCK: &str = "lock";
const CHECKPOINT_PREFIX: &str = "checkpoint-";
const PARTS_PREFIX: &str = "parts-";
const STAGED_SUFFIX: &str = ".staged";
/// A frame may take up to this share of a segment, so that the waste at a segment's end has a bound.
const SEGMENT_SHARE: u64 = 4;
/// The smallest segment.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 8 << 10;

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: JournalId,
    segment_bytes: u64,
    segments: Mutex<Segments>,
    _lock: Box<dyn DiskLock>,
}

/// Which segments there are, oldest first.
#[derive(Debug, Default)]
struct Segments {
    written: VecDeque<Extent>,
    spare: VecDeque<(u64, Box<dyn DiskFile>)>,
    next: u64,
    mark: Position,
    last_group: u64,
    /// The bytes left in the segment that is being written.
    left: u64,
}

/// What one segment holds.
#[derive(Clone, Copy, Debug)]
struct Extent {
    number: u64,
    first_group: u64,
    end: Position,
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> u64 {
        let waste = frame_share(self.segment_bytes);
        let capacity = self.segment_bytes - SEGMENT_HEADER_BYTES;
        let segments = self.segments();
        segments.left.saturating_sub(waste) + segments.spare.len() as u64 * (capacity - waste)
    }

    fn io(&self, doing: &str, name: &str, error: std::io::Error) -> Error {
        Error::io(format!("{doing} {}", self.dir.join(name).display()), error)
    }
}

/// Reads a local journal at its opening.
#[derive(Debug)]
pub struct DirRecovery {
    shared: Arc<Shared>,
    checkpoint: Option<Checkpoint>,
    manifest: Option<Manifest>,
    /// The segments that are still to be read.
    ahead: VecDeque<u64>,
    reader: Option<SegmentReader>,
    expected: u64,
    sealed_at: Option<u64>,
    next: Position,
    /// Where the torn tail is to be cut, once the end was reached.
    cut: Option<(u64, u64)>,
    finished: bool,
    epoch: u64,
}

impl DirRecovery {
    /// The id of the journal in `dir`; `None` if there is none yet.
    ///
    /// # Errors
    /// `Corrupt` if its identity is damaged; `Unavailable` as the disk reports it.
    pub fn id_in(disk: &dyn Disk, dir: &Path) -> Result<Option<JournalId>> {
        match disk.list(dir) {
            Ok(names) if names.iter().any(|name| name == IDENTITY) => Ok(Some(read_identity(disk, dir)?)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("listing {}", dir.display()), error)),
        }
    }

    /// Opens the journal in `dir`, or makes one there whose id is `new_id`.
    ///
    /// # Errors
    /// `Conflict` if another process has it open; `Corrupt` if something is damaged or missing, with its name;
    /// `LimitExceeded` if a new journal finds no space; `Unavailable` as the disk reports it.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, segment_bytes: u64, new_id: JournalId) -> Result<Self> {
        if segment_bytes < SEGMENT_BYTES_MIN || segment_bytes % super::group::BLOCK_BYTES != 0 {
            let message = format!("segment_bytes is {segment_bytes}: take a multiple of 512 from 8192 on");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        disk.create_dir_all(dir).map_err(|error| Error::io(format!("creating {}", dir.display()), error))?;
        let lock = lock(disk.as_ref(), dir)?;
        let names = disk.list(dir).map_err(|error| Error::io(format!("listing {}", dir.display()), error))?;
        let names = sweep(disk.as_ref(), dir, names)?;
        let id = identity(disk.as_ref(), dir, &names, segment_bytes, new_id)?;
        let shared = Shared {
            disk,
            dir: dir.into(),
            id,
            segment_bytes,
            segments: Mutex::new(Segments::default()),
            _lock: lock,
        };
        Self::read_checkpoint(Arc::new(shared))
    }

    fn read_checkpoint(shared: Arc<Shared>) -> Result<Self> {
        let disk = shared.disk.as_ref();
        let names =
            disk.list(&shared.dir).map_err(|error| Error::io(format!("listing {}", shared.dir.display()), error))?;
        let newest = names.iter().rfind(|name| name.starts_with(CHECKPOINT_PREFIX));
        let (mut manifest, mut checkpoint) = (None, None);
        if let Some(name) = newest {
            let read = Manifest::parse(&read_file(disk, &shared.dir, name)?, name)?;
            let mut parts = BTreeMap::new();
            for file in read.files() {
                checkpoint::read_parts(&read, file, &read_file(disk, &shared.dir, file)?, &mut parts)?;
            }
            checkpoint = Some(Checkpoint { at: read.at, parts });
            manifest = Some(read);
        }
        let sealed_at = if names.iter().any(|name| name == SEAL) {
            let body = envelope::open(SEAL_MAGIC, &read_file(disk, &shared.dir, SEAL)?, SEAL)?;
            let number = body.as_ref().try_into().map(u64::from_le_bytes);
            Some(number.map_err(|_| Error::new(ErrorKind::Corrupt, "seal: not a group's number"))?)
        } else {
            None
        };
        let (oldest, must_exist) = manifest.as_ref().map_or((1, true), |read| (read.oldest, read.oldest_exists));
        let ahead: VecDeque<u64> =
            names.iter().filter_map(|name| segment::number_in(name)).filter(|number| *number >= oldest).collect();
        check_numbers(&shared.dir, &ahead, oldest, must_exist)?;
        shared.segments().next = ahead.back().map_or(oldest, |last| last + 1);
        let (next, expected) =
            manifest.as_ref().map_or((Position::ZERO, 1), |read| (read.mark.max(read.at), read.oldest_group));
        Ok(Self {
            shared,
            checkpoint,
            manifest,
            ahead,
            reader: None,
            expected,
            sealed_at,
            next,
            cut: None,
            finished: false,
            epoch: 0,
        })
    }

    /// The journal's id.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.shared.id
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The first position that a new frame may have; final once [`next_frames`](Self::next_frames) answered `None`.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.next
    }

    /// The frames of the next group at or after the checkpoint, in order; `None` at the end.
    ///
    /// # Errors
    /// `Corrupt` where the journal is damaged, with file and offset; `Unavailable` as the disk reports it.
    pub fn next_frames(&mut self) -> Result<Option<Vec<Frame>>> {
        while let Some(group) = self.next_group()? {
            self.next = self.next.max(group.mark).max(group.end());
            self.epoch = self.epoch.max(group.epoch);
            let at = self.checkpoint.as_ref().map_or(Position::ZERO, |checkpoint| checkpoint.at);
            if let Some(extent) = self.shared.segments().written.back_mut() {
                extent.end = group.end();
            }
            let frames: Vec<Frame> = group.frames.into_iter().filter(|frame| frame.position >= at).collect();
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
        Ok(None)
    }

    fn next_group(&mut self) -> Result<Option<Group>> {
        while !self.finished {
            let Some(mut reader) = self.take_reader()? else {
                self.finish(None)?;
                break;
            };
            let number = reader.number;
            let found = reader.next(self.shared.id, self.expected);
            match found.map_err(|error| self.shared.io("reading", &segment::name(number), error))? {
                Found::Group(group) => {
                    self.expected = group.number + 1;
                    self.reader = Some(reader);
                    return Ok(Some(group));
                }
                Found::End => {}
                Found::Zeros => self.zeros(&mut reader)?,
                Found::Bad => self.bad(&mut reader)?,
            }
        }
        Ok(None)
    }

    fn take_reader(&mut self) -> Result<Option<SegmentReader>> {
        if let Some(reader) = self.reader.take() {
            return Ok(Some(reader));
        }
        let Some(number) = self.ahead.pop_front() else { return Ok(None) };
        let reader = SegmentReader::open(self.shared.disk.as_ref(), &self.shared.dir, self.shared.id, number)?;
        let extent = Extent { number, first_group: self.expected, end: self.next };
        self.shared.segments().written.push_back(extent);
        Ok(Some(reader))
    }

    /// Nothing was written from here on. If the next segment goes on, this one was left with room; else it is the end.
    fn zeros(&mut self, reader: &mut SegmentReader) -> Result<()> {
        let offset = reader.offset;
        if let Some(number) = self.ahead.front().copied() {
            let mut next = SegmentReader::open(self.shared.disk.as_ref(), &self.shared.dir, self.shared.id, number)?;
            let found = next.next(self.shared.id, self.expected);
            if let Found::Group(_) = found.map_err(|error| self.shared.io("reading", &segment::name(number), error))? {
                return Ok(());
            }
        }
        if self.sealed_at.is_some() {
            let what = "the journal was closed cleanly, yet bytes follow its last group";
            return Err(self.corrupt(reader.number, offset, what));
        }
        self.refuse_later_groups(reader.number)?;
        self.finish(Some((reader.number, offset)))
    }

    /// The torn tail, if no whole group of this or a later number lies behind it; else damage.
    fn bad(&mut self, reader: &mut SegmentReader) -> Result<()> {
        let (number, offset) = (reader.number, reader.offset);
        if self.sealed_at.is_some() {
            return Err(self.corrupt(number, offset, "a group does not check out, and the journal was closed cleanly"));
        }
        let behind = reader
            .find_group(offset + super::group::BLOCK_BYTES, self.shared.id, self.expected)
            .map_err(|error| self.shared.io("reading", &segment::name(number), error))?;
        if let Some((at, found)) = behind {
            let what = format!("a group does not check out, and group {found} lies whole behind it at {at}");
            return Err(self.corrupt(number, offset, &what));
        }
        self.refuse_later_groups(number)?;
        self.finish(Some((number, offset)))
    }

    /// Refuses if a segment still ahead holds a group: nothing may lie behind the end.
    fn refuse_later_groups(&self, from: u64) -> Result<()> {
        for number in &self.ahead {
            let mut reader = SegmentReader::open(self.shared.disk.as_ref(), &self.shared.dir, self.shared.id, *number)?;
            let found = reader
                .find_group(SEGMENT_HEADER_BYTES, self.shared.id, self.expected)
                .map_err(|error| self.shared.io("reading", &segment::name(*number), error))?;
            if let Some((at, first)) = found {
                let what = format!("group {} is missing, yet group {first} lies in segment {number} at {at}", self.expected);
                return Err(self.corrupt(from, at, &what));
            }
        }
        Ok(())
    }

    fn corrupt(&self, number: u64, offset: u64, what: &str) -> Error {
        let path = self.shared.dir.join(segment::name(number));
        let message = format!("{} at byte {offset}: {what}; restore the journal from a copy", path.display());
        Error::new(ErrorKind::Corrupt, message)
    }

    fn finish(&mut self, cut: Option<(u64, u64)>) -> Result<()> {
        let last = self.expected - 1;
        if let Some(sealed) = self.sealed_at.filter(|sealed| *sealed != last) {
            let message = format!(
                "{}: it was closed cleanly after group {sealed}, but group {last} is the last one there; restore it from a copy",
                self.shared.dir.display()
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        if let Some(manifest) = self.manifest.as_ref().filter(|manifest| manifest.group > last) {
            let message = format!(
                "{}: its checkpoint knows of group {}, but group {last} is the last one there; restore it from a copy",
                self.shared.dir.display(),
                manifest.group
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        self.cut = cut;
        self.finished = true;
        Ok(())
    }

    /// Cuts the torn tail, syncs what was recovered, removes the seal, and gives the journal's parts. Frames that were
    /// not read are skipped.
    ///
    /// # Errors
    /// As [`next_frames`](Self::next_frames).
    pub fn start(mut self) -> Result<(DirWriter, DirAllocator, DirCheckpoints)> {
        while self.next_frames()?.is_some() {}
        self.settle()?;
        let shared = self.shared;
        {
            let mut segments = shared.segments();
            segments.mark = self.next;
            segments.last_group = self.expected - 1;
        }
        let writer = DirWriter {
            shared: shared.clone(),
            current: None,
            encoded: Encoded::default(),
            group: self.expected,
            next: self.next,
            epoch: self.epoch + 1,
        };
        let mut files = PartsFiles::default();
        let manifest = self.manifest.unwrap_or_default();
        for file in manifest.files() {
            let bytes = manifest.parts.values().filter(|place| place.file == file).map(|place| place.bytes).sum();
            files.insert(file.into(), bytes);
        }
        let checkpoints = DirCheckpoints { shared: shared.clone(), manifest, files };
        Ok((writer, DirAllocator { shared }, checkpoints))
    }

    /// Makes the end that was found the end on disk.
    fn settle(&mut self) -> Result<()> {
        let shared = &self.shared;
        let disk = shared.disk.as_ref();
        let mut segments = shared.segments();
        for number in self.ahead.drain(..) {
            remove(disk, &shared.dir, &segment::name(number))?;
        }
        if let Some(last) = segments.written.back() {
            segments.next = last.number + 1;
        }
        if let Some((number, offset)) = self.cut {
            let path = shared.dir.join(segment::name(number));
            let cut = |error| Error::io(format!("cutting {}", path.display()), error);
            let mut file = disk.open(&path, OpenMode::Write).map_err(cut)?;
            file.set_len(offset).map_err(cut)?;
            file.sync_data().map_err(cut)?;
        }
        // What an earlier process wrote may be in the page cache only.
        if let Some(extent) = segments.written.back() {
            let path = shared.dir.join(segment::name(extent.number));
            let failed = |error| Error::io(format!("syncing {}", path.display()), error);
            disk.open(&path, OpenMode::Write).map_err(failed)?.sync_data().map_err(failed)?;
        }
        if self.sealed_at.is_some() {
            remove(disk, &shared.dir, SEAL)?;
        }
        self.sweep_uncovered()?;
        disk.sync_dir(&shared.dir).map_err(|error| Error::io(format!("syncing {}", shared.dir.display()), error))
    }
}

impl DirRecovery {
    /// Removes what the newest checkpoint let go but a crash left there.
    fn sweep_uncovered(&self) -> Result<()> {
        let shared = &self.shared;
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let living = manifest.files();
        let newest = checkpoint_name(manifest.number);
        let names =
            shared.disk.list(&shared.dir).map_err(|error| shared.io("listing", "", error))?;
        for name in names {
            let dead = match segment::number_in(&name) {
                Some(number) => number < manifest.oldest,
                None if name.starts_with(CHECKPOINT_PREFIX) => name != newest,
                None => name.starts_with(PARTS_PREFIX) && !living.contains(name.as_str()),
            };
            if dead {
                remove(shared.disk.as_ref(), &shared.dir, &name)?;
            }
        }
        Ok(())
    }
}

/// Writes groups.
#[derive(Debug)]
pub struct DirWriter {
    shared: Arc<Shared>,
    current: Option<Current>,
    encoded: Encoded,
    group: u64,
    next: Position,
    epoch: u64,
}

#[derive(Debug)]
struct Current {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl DirWriter {
    /// The number that the next group takes.
    #[must_use]
    pub fn next_group(&self) -> u64 {
        self.group
    }

    /// The position that the next frame takes.
    #[must_use]
    pub fn next_position(&self) -> Position {
        self.next
    }

    /// How often this journal was opened for writing.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The most bytes that one frame may have.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u64 {
        frame_bytes_max(self.shared.segment_bytes)
    }

    /// How many bytes of groups surely fit into what is allocated, whatever their sizes.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.shared.room()
    }

    /// Whether another segment should be allocated ahead of need.
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        let segments = self.shared.segments();
        segments.left < self.shared.segment_bytes / 2 && segments.spare.is_empty()
    }

    /// The bytes left in the segment that is being written; the next group is best no larger, else it begins a new one.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.shared.segments().left
    }

    /// Makes `group` durable. After an error the journal must not be used again: see the crate's contract.
    ///
    /// # Errors
    /// `Unavailable` as the disk reports it, `Internal` if no segment was allocated for it.
    pub fn commit(&mut self, group: &Group) -> Result<()> {
        self.encoded.fill(group, self.shared.id);
        let bytes = group.encoded_bytes();
        if self.left() < bytes {
            self.roll(bytes)?;
        }
        let failed = |error| Error::io("writing the journal", error).into_unavailable();
        let Some(current) = self.current.as_mut() else { return Err(no_segment()) };
        let mut slices: Vec<IoSlice<'_>> = self.encoded.slices();
        current.file.write_at(current.offset, &mut slices).map_err(failed)?;
        current.file.sync_data().map_err(failed)?;
        current.offset += bytes;
        self.group = group.number + 1;
        self.next = group.end();
        let mut segments = self.shared.segments();
        segments.mark = group.mark;
        segments.last_group = group.number;
        segments.left -= bytes;
        if let Some(extent) = segments.written.back_mut() {
            extent.end = group.end();
        }
        Ok(())
    }

    fn roll(&mut self, bytes: u64) -> Result<()> {
        let mut segments = self.shared.segments();
        let Some((number, file)) = segments.spare.pop_front() else { return Err(no_segment()) };
        if SEGMENT_HEADER_BYTES + bytes > self.shared.segment_bytes {
            return Err(Error::new(ErrorKind::Internal, format!("a group of {bytes} bytes fits no segment")));
        }
        if let Some(mut full) = self.current.take() {
            let cut = |error| Error::io("cutting a full segment", error).into_unavailable();
            full.file.set_len(full.offset).map_err(cut)?;
        }
        let end = segments.written.back().map_or(self.next, |extent| extent.end);
        segments.written.push_back(Extent { number, first_group: self.group, end });
        segments.left = self.shared.segment_bytes - SEGMENT_HEADER_BYTES;
        self.current = Some(Current { file, offset: SEGMENT_HEADER_BYTES });
        Ok(())
    }

    /// Ends the journal cleanly: cuts what is unused and writes the seal.
    ///
    /// # Errors
    /// `Unavailable` as the disk reports it.
    pub fn seal(&mut self) -> Result<()> {
        let shared = &self.shared;
        let disk = shared.disk.as_ref();
        if let Some(mut current) = self.current.take() {
            let cut = |error| Error::io("cutting the last segment", error);
            current.file.set_len(current.offset).map_err(cut)?;
            current.file.sync_data().map_err(cut)?;
        }
        let mut segments = shared.segments();
        while let Some((number, _)) = segments.spare.pop_back() {
            remove(disk, &shared.dir, &segment::name(number))?;
        }
        disk.sync_dir(&shared.dir).map_err(|error| Error::io(format!("syncing {}", shared.dir.display()), error))?;
        let last = self.group - 1;
        write_file(disk, &shared.dir, SEAL, &envelope::seal(SEAL_MAGIC, &last.to_le_bytes())?)
    }
}

/// Allocates segments ahead of need, from a thread of its own.
#[derive(Debug)]
pub struct DirAllocator {
    shared: Arc<Shared>,
}

impl DirAllocator {
    /// As [`DirWriter::room`].
    #[must_use]
    pub fn room(&self) -> u64 {
        self.shared.room()
    }

    /// Allocates one more segment.
    ///
    /// # Errors
    /// `LimitExceeded` if the disk is full: nothing was lost, and the next attempt may succeed. `Unavailable` as the
    /// disk reports it.
    pub fn allocate(&self) -> Result<()> {
        let shared = &self.shared;
        let number = shared.segments().next;
        let file = segment::allocate(shared.disk.as_ref(), &shared.dir, shared.id, number, shared.segment_bytes)
            .map_err(|error| shared.io("allocating", &segment::name(number), error))?;
        let mut segments = shared.segments();
        segments.next = number + 1;
        segments.spare.push_back((number, file));
        Ok(())
    }
}

/// Writes checkpoints, and deletes the segments that they cover.
#[derive(Debug)]
pub struct DirCheckpoints {
    shared: Arc<Shared>,
    manifest: Manifest,
    files: PartsFiles,
}

impl DirCheckpoints {
    /// Makes the state of everything below `at` durable, then deletes the segments that hold nothing else.
    ///
    /// # Errors
    /// `InvalidInput` if `at` is below the checkpoint before; `LimitExceeded` if the disk is full: the checkpoint
    /// before stays in force; `Unavailable` as the disk reports it.
    pub fn checkpoint(&mut self, at: Position, changes: Vec<PartChange>) -> Result<()> {
        if at < self.manifest.at {
            let message = format!("a checkpoint at {at} is below the one at {}", self.manifest.at);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let (disk, dir) = (self.shared.disk.clone(), self.shared.dir.clone());
        let mut next = Manifest { number: self.manifest.number + 1, at, ..self.manifest.clone() };
        let mut written = BTreeMap::new();
        if self.files.wants_rewrite(&self.manifest, &changes) {
            for file in self.manifest.files() {
                checkpoint::read_parts(&self.manifest, file, &read_file(disk.as_ref(), &dir, file)?, &mut written)?;
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
            let file = format!("{PARTS_PREFIX}{:020}", next.number);
            let (sealed, places) = checkpoint::lay_out(&file, &written)?;
            write_file(disk.as_ref(), &dir, &file, &sealed)?;
            next.parts.extend(places);
            self.files.insert(file, sealed.len() as u64);
        }
        let freed = self.free_below(at, &mut next);
        let name = checkpoint_name(next.number);
        write_file(disk.as_ref(), &dir, &name, &next.to_bytes()?)?;
        let old = std::mem::replace(&mut self.manifest, next);
        self.delete(&old, freed)
    }

    /// Which segments hold nothing at or above `at`; the one being written always stays.
    fn free_below(&self, at: Position, next: &mut Manifest) -> Vec<u64> {
        let segments = self.shared.segments();
        let last = segments.written.len().saturating_sub(1);
        let covered = segments.written.iter().take(last).take_while(|extent| extent.end <= at);
        let freed: Vec<u64> = covered.map(|extent| extent.number).collect();
        let oldest = segments.written.get(freed.len());
        let unwritten = segments.spare.front().map_or(segments.next, |(number, _)| *number);
        next.oldest_exists = oldest.is_some();
        next.oldest = oldest.map_or(unwritten, |extent| extent.number);
        next.oldest_group = oldest.map_or(segments.last_group + 1, |extent| extent.first_group);
        next.mark = segments.mark;
        next.group = segments.last_group;
        freed
    }

    fn delete(&mut self, old: &Manifest, freed: Vec<u64>) -> Result<()> {
        let (disk, dir) = (self.shared.disk.as_ref(), &self.shared.dir);
        if old.number > 0 {
            remove(disk, dir, &checkpoint_name(old.number))?;
        }
        for file in self.files.take_dead(&self.manifest) {
            remove(disk, dir, &file)?;
        }
        for number in freed {
            remove(disk, dir, &segment::name(number))?;
            self.shared.segments().written.retain(|extent| extent.number != number);
        }
        Ok(())
    }
}

/// The largest frame in segments of this size.
pub(crate) fn frame_bytes_max(segment_bytes: u64) -> u64 {
    frame_share(segment_bytes) - super::group::charge(0)
}

fn frame_share(segment_bytes: u64) -> u64 {
    let share = (segment_bytes - SEGMENT_HEADER_BYTES) / SEGMENT_SHARE;
    share - share % super::group::BLOCK_BYTES
}

fn checkpoint_name(number: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{number:020}")
}

fn no_segment() -> Error {
    Error::new(ErrorKind::Internal, "a group was written before a segment was allocated for it")
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>> {
    disk.lock(&dir.join(LOCK)).map_err(|error| {
        if error.kind() == std::io::ErrorKind::WouldBlock {
            let message = format!("{} is open already; close it there before opening it here", dir.display());
            Error::new(ErrorKind::Conflict, message)
        } else {
            Error::io(format!("locking {}", dir.display()), error)
        }
    })
}

/// Removes what an interrupted open, allocation or checkpoint left behind.
fn sweep(disk: &dyn Disk, dir: &Path, names: Vec<String>) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for name in names {
        if name.ends_with(segment::ALLOCATING_SUFFIX) || name.ends_with(STAGED_SUFFIX) {
            remove(disk, dir, &name)?;
        } else {
            kept.push(name);
        }
    }
    Ok(kept)
}

/// The journal's id; a new journal gets its first segment, then its identity.
fn identity(
    disk: &dyn Disk,
    dir: &Path,
    names: &[String],
    segment_bytes: u64,
    new_id: JournalId,
) -> Result<JournalId> {
    if names.iter().any(|name| name == IDENTITY) {
        return read_identity(disk, dir);
    }
    let first = segment::name(1);
    let foreign = names.iter().find(|name| *name != LOCK && **name != first);
    if let Some(foreign) = foreign {
        let message = format!(
            "{}: it holds {foreign} but no journal's identity; restore it from a copy, or take an empty directory",
            dir.display()
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    // An interrupted first open may have left a first segment of another id: nothing was ever written to it.
    if names.contains(&first) {
        remove(disk, dir, &first)?;
    }
    segment::allocate(disk, dir, new_id, 1, segment_bytes)
        .map_err(|error| Error::io(format!("allocating {}", dir.join(&first).display()), error))?;
    write_file(disk, dir, IDENTITY, &envelope::seal(IDENTITY_MAGIC, &new_id.to_le_bytes())?)?;
    Ok(new_id)
}

fn read_identity(disk: &dyn Disk, dir: &Path) -> Result<JournalId> {
    let body = envelope::open(IDENTITY_MAGIC, &read_file(disk, dir, IDENTITY)?, IDENTITY)?;
    let id = body.as_ref().try_into().map(u128::from_le_bytes);
    id.map_err(|_| Error::new(ErrorKind::Corrupt, "identity: not a journal's id"))
}

fn check_numbers(dir: &Path, numbers: &VecDeque<u64>, oldest: u64, must_exist: bool) -> Result<()> {
    let missing = |number: u64| {
        let message = format!("{}: the file is missing; restore it from a copy", dir.join(segment::name(number)).display());
        Error::new(ErrorKind::Corrupt, message)
    };
    if numbers.is_empty() && must_exist {
        return Err(missing(oldest));
    }
    for (number, expected) in numbers.iter().zip(oldest..) {
        if *number != expected {
            return Err(missing(expected));
        }
    }
    Ok(())
}

fn read_file(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Bytes> {
    let failed = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let error = Error::io(format!("reading {}", dir.join(name).display()), error);
        if missing { Error::new(ErrorKind::Corrupt, format!("{name} is missing")).with_source(error) } else { error }
    };
    let mut file = disk.open(&dir.join(name), OpenMode::Read).map_err(failed)?;
    let size = usize::try_from(file.size().map_err(failed)?)
        .map_err(|_| Error::new(ErrorKind::LimitExceeded, format!("{name} does not fit memory")))?;
    let mut bytes = vec![0; size];
    let read = file.read_at(0, &mut bytes).map_err(failed)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

/// Writes a whole file: it has its name only once it is durable.
fn write_file(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let staged = dir.join(format!("{name}{STAGED_SUFFIX}"));
    let failed = |error| Error::io(format!("writing {}", dir.join(name).display()), error);
    match disk.remove(&staged) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = disk.open(&staged, OpenMode::CreateNew).map_err(failed)?;
    file.write_at(0, &mut [IoSlice::new(bytes)]).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    disk.rename(&staged, &dir.join(name)).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)
}

fn remove(disk: &dyn Disk, dir: &Path, name: &str) -> Result<()> {
    match disk.remove(&dir.join(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", dir.join(name).display()), error))
        }
        _ => Ok(()),
    }
}
