//! Opening: what a crash or a clean close left behind, read in order and settled.
//!
//! Invariant: nothing damaged is answered. What is cut was never acknowledged, and what is answered is synced before the
//! journal starts.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::checkpoints::{CHECKPOINT_PREFIX, DirCheckpoints, PARTS_PREFIX, checkpoint_name};
use super::files::{
    IDENTITY, SEAL, check_numbers, identity, lock, read_file, read_identity, read_seal, remove, remove_synced, sweep,
};
use super::writer::{DirAllocator, DirWriter};
use super::{Extent, SEGMENT_BYTES_MIN, Segments, Shared};
use crate::disk::{Disk, OpenMode};
use crate::journal::checkpoint::{self, Checkpoint, Manifest};
use crate::journal::frame::{Frame, Position};
use crate::journal::group::{BLOCK_BYTES, Group, JournalId};
use crate::journal::segment::{self, Found, SEGMENT_HEADER_BYTES, SegmentReader};
use crate::{Error, ErrorKind, Result};

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
    /// Where the last group lies.
    last: Option<Stretch>,
    /// Where segments are to be cut: full ones behind their groups, and the torn tail once the end was reached.
    cuts: Vec<(u64, u64)>,
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
        if segment_bytes < SEGMENT_BYTES_MIN || !segment_bytes.is_multiple_of(BLOCK_BYTES) {
            let message = format!("segment_bytes is {segment_bytes}: take a multiple of 512 from 8192 on");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        disk.create_dir_all(dir).map_err(|error| Error::io(format!("creating {}", dir.display()), error))?;
        let lock = lock(disk.as_ref(), dir)?;
        let names = disk.list(dir).map_err(|error| Error::io(format!("listing {}", dir.display()), error))?;
        let names = sweep(disk.as_ref(), dir, names)?;
        let id = identity(disk.as_ref(), dir, &names, new_id)?;
        let shared =
            Shared { disk, dir: dir.into(), id, segment_bytes, segments: Mutex::new(Segments::default()), _lock: lock };
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
        let sealed = names.iter().any(|name| name == SEAL);
        let sealed_at = if sealed { Some(read_seal(disk, &shared.dir)?) } else { None };
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
            last: None,
            cuts: Vec::new(),
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
                    let bytes = group.encoded_bytes();
                    self.last = Some(Stretch { segment: number, offset: reader.offset - bytes, bytes });
                    self.reader = Some(reader);
                    return Ok(Some(group));
                }
                Found::End => {}
                Found::Zeros if self.goes_on()? => self.cuts.push((number, reader.offset)),
                // Before a clean close a full segment may still show what its file held before.
                Found::Bad if self.sealed_at.is_none() && self.goes_on()? => self.cuts.push((number, reader.offset)),
                Found::Zeros => self.zeros(&reader)?,
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

    /// Whether the next segment begins with the group that is expected: then the one before was left with room.
    fn goes_on(&self) -> Result<bool> {
        let Some(number) = self.ahead.front().copied() else { return Ok(false) };
        let mut next = SegmentReader::open(self.shared.disk.as_ref(), &self.shared.dir, self.shared.id, number)?;
        let found = next.next(self.shared.id, self.expected);
        let found = found.map_err(|error| self.shared.io("reading", &segment::name(number), error))?;
        Ok(matches!(found, Found::Group(_)))
    }

    /// Nothing was written from here on: the end.
    fn zeros(&mut self, reader: &SegmentReader) -> Result<()> {
        let offset = reader.offset;
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
            .find_group(offset, self.shared.id, self.expected)
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
                let what =
                    format!("group {} is missing, yet group {first} lies in segment {number} at {at}", self.expected);
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
        self.cuts.extend(cut);
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
        let writer = DirWriter::new(shared.clone(), self.expected, self.next, self.epoch + 1);
        let checkpoints = DirCheckpoints::new(shared.clone(), self.manifest.unwrap_or_default());
        Ok((writer, DirAllocator::new(shared), checkpoints))
    }

    /// Makes the end that was found the end on disk.
    fn settle(&mut self) -> Result<()> {
        let shared = &self.shared;
        let disk = shared.disk.as_ref();
        let synced = || disk.sync_dir(&shared.dir).map_err(|error| shared.io("syncing", "", error));
        // First of all: what is removed below was let go by a checkpoint whose name may not be durable yet.
        synced()?;
        let mut segments = shared.segments();
        // The newest goes first, and durably: else a crash could keep it and take the one before, which looks like loss.
        while let Some(number) = self.ahead.pop_back() {
            remove_synced(disk, &shared.dir, &segment::name(number))?;
        }
        if let Some(last) = segments.written.back() {
            segments.next = last.number + 1;
        }
        for (number, offset) in self.cuts.drain(..) {
            let path = shared.dir.join(segment::name(number));
            let cut = |error| Error::io(format!("cutting {}", path.display()), error);
            let mut file = disk.open(&path, OpenMode::Write).map_err(cut)?;
            file.set_len(offset).map_err(cut)?;
            file.sync_data().map_err(cut)?;
        }
        // What an earlier process wrote may be in the page cache only. After a sync that failed there, another one would
        // succeed without having written anything: so the last group, the only one that may be unsynced, is written again.
        if let Some(last) = self.last {
            let failed = |error| shared.io("syncing", &segment::name(last.segment), error);
            last.write_again(disk, &shared.dir).map_err(failed)?;
        }
        if self.sealed_at.is_some() {
            remove(disk, &shared.dir, SEAL)?;
        }
        self.sweep_uncovered()?;
        synced()
    }
}

/// Some bytes of a segment.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    segment: u64,
    offset: u64,
    bytes: u64,
}

impl Stretch {
    /// Writes the bytes as they read, and syncs them.
    fn write_again(self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let path = dir.join(segment::name(self.segment));
        let mut bytes = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        let mut file = disk.open(&path, OpenMode::Write)?;
        let read = file.read_at(self.offset, &mut bytes)?;
        bytes.truncate(read);
        file.write_at(self.offset, &mut [IoSlice::new(&bytes)])?;
        file.sync_data()
    }
}

impl DirRecovery {
    /// Removes what the newest checkpoint let go but a crash left there.
    fn sweep_uncovered(&self) -> Result<()> {
        let shared = &self.shared;
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let living = manifest.files();
        let newest = checkpoint_name(manifest.number);
        let names = shared.disk.list(&shared.dir).map_err(|error| shared.io("listing", "", error))?;
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
