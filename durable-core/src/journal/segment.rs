//! Segments: the files of a local journal, filled and synced before a group is written into them.
//!
//! | at | name | bytes | |
//! |---|---|---|---|
//! | 0 | magic | 8 | `JSEGMT01` |
//! | 8 | crc | 4 | CRC32C of the rest of the header block |
//! | 12 | reserved | 4 | zero |
//! | 16 | journal | 16 | id of the journal |
//! | 32 | number | 8 | 1, 2, 3 ... without a gap; the file is called `{number:020}.segment` |
//! | 40 | zeros | 472 | |
//! | 512 | groups | | up to the end; behind them zeros, or groups of lower numbers |
//!
//! A new file is filled with zeros, if there is time. The file of a segment that a checkpoint let go may become another segment, which
//! saves writing those: the groups that it held are overwritten one by one, and until then are known by their numbers,
//! all of which are below those of the groups to come.
//!
//! A segment appears under its name only once it is whole and durable, so that a damaged header is damage, never an
//! unfinished allocation. Invariant: a segment is written by one open only; the next open begins a new one.

use std::io::{self, IoSlice};
use std::path::Path;

use super::group::{self, BLOCK_BYTES, Group, Header, JournalId};
use crate::disk::{Disk, DiskFile, OpenMode, write_zeros};
use crate::{Error, ErrorKind, Result};

pub(crate) const SEGMENT_HEADER_BYTES: u64 = BLOCK_BYTES;
const HEADER_BYTES: usize = 512;
const MAGIC: [u8; 8] = *b"JSEGMT01";
const SUFFIX: &str = ".segment";
pub(crate) const ALLOCATING_SUFFIX: &str = ".allocating";
pub(crate) const FREE_SUFFIX: &str = ".free";
/// How many zeros are written at a time.
const FILL_BYTES: u64 = 1 << 20;
/// How much of a segment is read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// The name of segment `number`.
pub(crate) fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The name of the file of segment `number` once it is free to become another.
pub(crate) fn free_name(number: u64) -> String {
    format!("{number:020}{FREE_SUFFIX}")
}

/// The number in a segment's name.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?.parse().ok()
}

fn header(journal: JournalId, number: u64) -> [u8; HEADER_BYTES] {
    let mut block = [0; HEADER_BYTES];
    block[..8].copy_from_slice(&MAGIC);
    block[16..32].copy_from_slice(&journal.to_le_bytes());
    block[32..40].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&block[12..]);
    block[8..12].copy_from_slice(&crc.to_le_bytes());
    block
}

/// Makes a new segment, whose name it has once it is durable. Returns the file, open for writing.
///
/// It is filled with zeros, which makes the syncs of groups cheaper than in room that was never written, unless `hurried`
/// says that this takes too long: then the rest is only allocated.
pub(crate) fn allocate(
    disk: &dyn Disk,
    dir: &Path,
    journal: JournalId,
    number: u64,
    bytes: u64,
    hurried: &dyn Fn() -> bool,
) -> io::Result<Box<dyn DiskFile>> {
    let staged = dir.join(format!("{number:020}{ALLOCATING_SUFFIX}"));
    match disk.remove(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = disk.open(&staged, OpenMode::CreateNew)?;
    let sized = fill(file.as_mut(), bytes, hurried);
    prepare(disk, dir, &staged, file, sized, journal, number)
}

/// As [`allocate`], of the file that is called `free`, which held a segment of this journal.
pub(crate) fn reuse(
    disk: &dyn Disk,
    dir: &Path,
    free: &str,
    journal: JournalId,
    number: u64,
    bytes: u64,
) -> io::Result<Box<dyn DiskFile>> {
    let free = dir.join(free);
    let mut file = disk.open(&free, OpenMode::Write)?;
    let sized = file.allocate(bytes);
    prepare(disk, dir, &free, file, sized, journal, number)
}

/// Makes the file called `from` a segment, if it could be `sized`: its header first, and the name once all is durable.
fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    from: &Path,
    mut file: Box<dyn DiskFile>,
    sized: io::Result<()>,
    journal: JournalId,
    number: u64,
) -> io::Result<Box<dyn DiskFile>> {
    let prepared = sized.and_then(|()| {
        file.write_at(0, &mut [IoSlice::new(&header(journal, number))])?;
        file.sync_data()?;
        disk.rename(from, &dir.join(name(number)))?;
        disk.sync_dir(dir)
    });
    if let Err(error) = prepared {
        // Best effort: what is left behind is swept at the next attempt or open.
        let _ = disk.remove(from);
        return Err(error);
    }
    Ok(file)
}

fn fill(file: &mut dyn DiskFile, bytes: u64, hurried: &dyn Fn() -> bool) -> io::Result<()> {
    let mut at = 0;
    while at < bytes {
        if hurried() {
            return file.allocate(bytes);
        }
        let end = bytes.min(at + FILL_BYTES);
        write_zeros(file, at, end)?;
        // Else the last sync would have all of it to do, however hurried.
        file.sync_data()?;
        at = end;
    }
    Ok(())
}

/// Reads a segment group by group.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: Box<dyn DiskFile>,
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// Where the next group begins.
    pub(crate) offset: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// What stands at a reader's offset.
#[derive(Debug)]
pub(crate) enum Found {
    /// The group that was expected.
    Group(Group),
    /// The end of the file, to the byte.
    End,
    /// Zeros up to the end of the file: nothing was written there.
    Zeros,
    /// Anything else: what the file held before, or a group that does not check out.
    Bad,
}

impl SegmentReader {
    /// Opens segment `number` and checks its header.
    ///
    /// # Errors
    /// `Corrupt` if the header is not that of this segment of this journal.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, journal: JournalId, number: u64) -> Result<Self> {
        let path = dir.join(name(number));
        let failed = |error| Error::io(format!("reading {}", path.display()), error);
        let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        let mut reader = Self { file, number, size, offset: SEGMENT_HEADER_BYTES, window: Vec::new(), window_start: 0 };
        let expected = header(journal, number);
        if reader.bytes(0, expected.len()).map_err(failed)? != expected {
            let message = format!(
                "{}: its header is not that of segment {number} of this journal; restore the file from a copy",
                path.display()
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(reader)
    }

    /// Reads what stands at the offset, and moves past it if it is the group numbered `expected`.
    pub(crate) fn next(&mut self, journal: JournalId, expected: u64) -> io::Result<Found> {
        if self.offset == self.size {
            return Ok(Found::End);
        }
        if let Some(group) = self.group_at(self.offset, journal, expected..=expected)? {
            self.offset += group.encoded_bytes();
            return Ok(Found::Group(group));
        }
        Ok(if self.only_zeros_from(self.offset)? { Found::Zeros } else { Found::Bad })
    }

    /// The first whole group, at or after `offset`, whose number is `least` or more.
    pub(crate) fn find_group(&mut self, offset: u64, journal: JournalId, least: u64) -> io::Result<Option<(u64, u64)>> {
        let mut at = offset.next_multiple_of(BLOCK_BYTES);
        while at < self.size {
            if let Some(group) = self.group_at(at, journal, least..=u64::MAX)? {
                return Ok(Some((at, group.number)));
            }
            at += BLOCK_BYTES;
        }
        Ok(None)
    }

    fn group_at(
        &mut self,
        offset: u64,
        journal: JournalId,
        numbers: std::ops::RangeInclusive<u64>,
    ) -> io::Result<Option<Group>> {
        let Some(header) = Header::parse(self.bytes(offset, group::GROUP_HEADER_BYTES)?) else {
            return Ok(None);
        };
        let bytes = header.encoded_bytes();
        if header.journal != journal || !numbers.contains(&header.number) || offset + bytes > self.size {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(bytes) else { return Ok(None) };
        Ok(group::decode(self.bytes(offset, length)?))
    }

    fn only_zeros_from(&mut self, offset: u64) -> io::Result<bool> {
        let mut at = offset;
        while at < self.size {
            let stretch = self.bytes(at, WINDOW_BYTES)?;
            if stretch.is_empty() || stretch.iter().any(|byte| *byte != 0) {
                return Ok(stretch.is_empty());
            }
            at += stretch.len() as u64;
        }
        Ok(true)
    }

    /// The bytes from `offset` on: `length` of them, or as many as there are.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let within = offset.checked_sub(self.window_start).and_then(|start| usize::try_from(start).ok());
        let held = within.filter(|start| start + length <= self.window.len());
        let start = if let Some(start) = held {
            start
        } else {
            let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.window.resize(length.max(WINDOW_BYTES).min(rest), 0);
            let read = self.file.read_at(offset, &mut self.window)?;
            self.window.truncate(read);
            self.window_start = offset;
            0
        };
        let end = (start + length).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }
}
