//! Writing groups, and allocating the segments that they go into.
//!
//! Invariant: a group is synced before the next is written, and lies whole within one segment.

use std::io::{ErrorKind as IoErrorKind, IoSlice};
use std::sync::Arc;

use super::files::{SEAL, SEAL_MAGIC, remove, remove_synced, write_file};
use super::{Extent, Shared, frame_bytes_max};
use crate::disk::{DiskFile, OpenMode};
use crate::envelope;
use crate::journal::frame::Position;
use crate::journal::group::{Encoded, Group};
use crate::journal::segment::{self, SEGMENT_HEADER_BYTES};
use crate::{Error, ErrorKind, Result};

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
    pub(super) fn new(shared: Arc<Shared>, group: u64, next: Position, epoch: u64) -> Self {
        Self { shared, current: None, encoded: Encoded::default(), group, next, epoch }
    }

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
        segments.spare.clear();
        // Full segments were cut without a sync: behind a seal, what their files held before would be damage.
        for extent in segments.written.iter().rev().skip(1) {
            let name = segment::name(extent.number);
            match disk.open(&shared.dir.join(&name), OpenMode::Write).and_then(|mut file| file.sync_data()) {
                // A checkpoint may have let it go.
                Err(error) if error.kind() != IoErrorKind::NotFound => return Err(shared.io("syncing", &name, error)),
                _ => {}
            }
        }
        // Asked of the disk: an allocation that failed at its last step has left a segment that nobody knows of.
        let names = disk.list(&shared.dir).map_err(|error| shared.io("listing", "", error))?;
        let last_written = segments.written.back().map_or(0, |extent| extent.number);
        for name in names.iter().filter(|name| name.ends_with(segment::FREE_SUFFIX)) {
            remove(disk, &shared.dir, name)?;
        }
        let unused = names.iter().filter_map(|name| segment::number_in(name)).filter(|number| *number > last_written);
        for number in unused.collect::<Vec<_>>().into_iter().rev() {
            remove_synced(disk, &shared.dir, &segment::name(number))?;
        }
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
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

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
        self.allocate_unless(&|| false)
    }

    /// As [`allocate`](Self::allocate), with less preparation once it is `hurried`: syncs of what is written there then
    /// take longer.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_unless(&self, hurried: &dyn Fn() -> bool) -> Result<()> {
        let shared = &self.shared;
        let (number, free) = {
            let mut segments = shared.segments();
            (segments.next, segments.free.take())
        };
        let (disk, dir) = (shared.disk.as_ref(), &shared.dir);
        let file = match free {
            Some(free) => segment::reuse(disk, dir, &free, shared.id, number, shared.segment_bytes),
            None => segment::allocate(disk, dir, shared.id, number, shared.segment_bytes, hurried),
        };
        let file = file.map_err(|error| shared.io("allocating", &segment::name(number), error))?;
        let mut segments = shared.segments();
        segments.next = number + 1;
        segments.spare.push_back((number, file));
        Ok(())
    }
}

fn no_segment() -> Error {
    Error::new(ErrorKind::Internal, "a group was written before a segment was allocated for it")
}
