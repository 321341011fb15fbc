//! The small files of a journal's directory: each is read whole, and has its name only once it is durable.

use std::collections::VecDeque;
use std::io::{ErrorKind as IoErrorKind, IoSlice};
use std::path::Path;

use bytes::Bytes;

use crate::disk::{Disk, DiskLock, OpenMode};
use crate::envelope;
use crate::journal::group::JournalId;
use crate::journal::segment::{self, SEGMENT_HEADER_BYTES};
use crate::{Error, ErrorKind, Result};

pub(super) const IDENTITY: &str = "identity";
const IDENTITY_MAGIC: [u8; 8] = *b"JIDENT01";
pub(super) const SEAL: &str = "seal";
pub(super) const SEAL_MAGIC: [u8; 8] = *b"JSEAL001";
const LOCK: &str = "lock";
const STAGED_SUFFIX: &str = ".staged";

pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>> {
    disk.lock(&dir.join(LOCK)).map_err(|error| {
        if error.kind() == IoErrorKind::WouldBlock {
            let message = format!("{} is open already; close it there before opening it here", dir.display());
            Error::new(ErrorKind::Conflict, message)
        } else {
            Error::io(format!("locking {}", dir.display()), error)
        }
    })
}

/// Removes what no open journal left behind for good: unfinished files, and free ones.
pub(super) fn sweep(disk: &dyn Disk, dir: &Path, names: Vec<String>) -> Result<Vec<String>> {
    let temporary = [segment::ALLOCATING_SUFFIX, segment::FREE_SUFFIX, STAGED_SUFFIX];
    let mut kept = Vec::new();
    for name in names {
        if temporary.iter().any(|suffix| name.ends_with(suffix)) {
            remove(disk, dir, &name)?;
        } else {
            kept.push(name);
        }
    }
    Ok(kept)
}

/// The journal's id; a new journal gets its first segment, then its identity.
pub(super) fn identity(disk: &dyn Disk, dir: &Path, names: &[String], new_id: JournalId) -> Result<JournalId> {
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
    // No more than its header: no group goes there, since every open begins another one.
    segment::allocate(disk, dir, new_id, 1, SEGMENT_HEADER_BYTES, &|| false)
        .map_err(|error| Error::io(format!("allocating {}", dir.join(&first).display()), error))?;
    write_file(disk, dir, IDENTITY, &envelope::seal(IDENTITY_MAGIC, &new_id.to_le_bytes())?)?;
    Ok(new_id)
}

pub(super) fn read_identity(disk: &dyn Disk, dir: &Path) -> Result<JournalId> {
    let body = envelope::open(IDENTITY_MAGIC, &read_file(disk, dir, IDENTITY)?, IDENTITY)?;
    let id = body.as_ref().try_into().map(u128::from_le_bytes);
    id.map_err(|_| Error::new(ErrorKind::Corrupt, "identity: not a journal's id"))
}

pub(super) fn check_numbers(dir: &Path, numbers: &VecDeque<u64>, oldest: u64, must_exist: bool) -> Result<()> {
    let missing = |number: u64| {
        let message =
            format!("{}: the file is missing; restore it from a copy", dir.join(segment::name(number)).display());
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

pub(super) fn read_file(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Bytes> {
    let failed = |error: std::io::Error| {
        let missing = error.kind() == IoErrorKind::NotFound;
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
pub(super) fn write_file(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let staged = dir.join(format!("{name}{STAGED_SUFFIX}"));
    let failed = |error| Error::io(format!("writing {}", dir.join(name).display()), error);
    match disk.remove(&staged) {
        Err(error) if error.kind() != IoErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = disk.open(&staged, OpenMode::CreateNew).map_err(failed)?;
    let written = file
        .write_at(0, &mut [IoSlice::new(bytes)])
        .and_then(|()| file.sync_data())
        .and_then(|()| disk.rename(&staged, &dir.join(name)));
    if let Err(error) = written {
        // Best effort, so that a full disk gets the room back at once: the next opening sweeps what is left.
        let _ = disk.remove(&staged);
        return Err(failed(error));
    }
    disk.sync_dir(dir).map_err(failed)
}

pub(super) fn remove_synced(disk: &dyn Disk, dir: &Path, name: &str) -> Result<()> {
    remove(disk, dir, name)?;
    disk.sync_dir(dir).map_err(|error| Error::io(format!("syncing {}", dir.display()), error))
}

pub(super) fn remove(disk: &dyn Disk, dir: &Path, name: &str) -> Result<()> {
    match disk.remove(&dir.join(name)) {
        Err(error) if error.kind() != IoErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", dir.join(name).display()), error))
        }
        _ => Ok(()),
    }
}

/// The number of the last group before a clean close.
pub(super) fn read_seal(disk: &dyn Disk, dir: &Path) -> Result<u64> {
    let body = envelope::open(SEAL_MAGIC, &read_file(disk, dir, SEAL)?, SEAL)?;
    let number = body.as_ref().try_into().map(u64::from_le_bytes);
    number.map_err(|_| Error::new(ErrorKind::Corrupt, "seal: not a group's number"))
}
