//! The blocking half of each operation that changes a name: put, copy, rename, delete.
//!
//! Invariant: a name is given only to a file whose bytes were synced before, and success is reported only after the
//! sync of the directory that holds the name. One that lost a race answers only once the winner's name is durable, since
//! the loser will act on it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use object_store::{PutPayload, PutResult, Result};

use super::directories::Change;
use super::staging::Staged;
use super::{Shared, failed};

pub(super) fn put(shared: &Shared, target: &Path, payload: &PutPayload, create: bool) -> Result<PutResult> {
    let mut staged = shared.staging.stage()?;
    let written = staged.take_file().and_then(|mut file| {
        payload.iter().try_for_each(|slice| file.write_all(slice))?;
        file.sync_all()?;
        file.metadata()
    });
    let metadata = written.map_err(|error| failed("writing", target, error))?;
    place(shared, &staged, target, create)?;
    Ok(PutResult { e_tag: Some(e_tag(&metadata)), version: None })
}

/// Gives the staged file, whose bytes are durable, its name.
pub(super) fn place(shared: &Shared, staged: &Staged, target: &Path, create: bool) -> Result<()> {
    name(
        shared,
        target,
        || if create { fs::hard_link(staged.path(), target) } else { fs::rename(staged.path(), target) },
    )
}

pub(super) fn copy(shared: &Shared, from: &Path, to: &Path, create: bool) -> Result<()> {
    sync_bytes(from)?;
    if create {
        return name(shared, to, || fs::hard_link(from, to));
    }
    let staged = shared.staging.reserve()?;
    fs::hard_link(from, staged.path()).map_err(|error| failed("linking", from, error))?;
    // Where both are one file already, the rename does nothing and dropping `staged` removes the spare name.
    place(shared, &staged, to, false)
}

pub(super) fn rename(shared: &Shared, from: &Path, to: &Path, create: bool) -> Result<()> {
    if create {
        copy(shared, from, to, true)?;
        return delete(shared, from);
    }
    let metadata = sync_bytes(from)?;
    if from == to {
        return Ok(());
    }
    let change = change(shared, from)?;
    // A rename between two names of one file, as a copy leaves them, does nothing: the old name has to go by itself.
    let same = fs::metadata(to).is_ok_and(|other| same_file(&metadata, &other));
    name(shared, to, || if same { fs::remove_file(from) } else { fs::rename(from, to) })?;
    if from.parent() == to.parent() {
        return Ok(());
    }
    change.sync().map_err(|error| failed("syncing the directory of", from, error))
}

pub(super) fn delete(shared: &Shared, target: &Path) -> Result<()> {
    // A missing directory holds no object; it must not be created by a delete.
    fs::symlink_metadata(target).map_err(|error| failed("deleting", target, error))?;
    let change = change(shared, target)?;
    fs::remove_file(target).map_err(|error| failed("deleting", target, error))?;
    change.sync().map_err(|error| failed("syncing the directory of", target, error))
}

/// Gives the name `target` by `link` and makes it durable.
fn name(shared: &Shared, target: &Path, link: impl Fn() -> io::Result<()>) -> Result<()> {
    let mut change = change(shared, target)?;
    let mut linked = link();
    if matches!(&linked, Err(error) if error.kind() == io::ErrorKind::NotFound) {
        // Somebody removed the directory since it was prepared.
        shared.directories.forget(target);
        change = self::change(shared, target)?;
        linked = link();
    }
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("naming", target, error)),
        linked => {
            change.sync().map_err(|error| failed("syncing the directory of", target, error))?;
            linked.map_err(|error| failed("naming", target, error))
        }
    }
}

fn change(shared: &Shared, target: &Path) -> Result<Change> {
    shared.directories.change(target).map_err(|error| failed("preparing the directory of", target, error))
}

/// Syncs the bytes of an object that may have been put there by other means.
fn sync_bytes(file: &Path) -> Result<Metadata> {
    let synced = OpenOptions::new().read(true).open(file).and_then(|file: File| {
        file.sync_all()?;
        file.metadata()
    });
    synced.map_err(|error| failed("syncing", file, error))
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// The tag that object_store's `LocalFileSystem` gives the same file when it is read.
pub(super) fn e_tag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{:x}-{:x}-{:x}", inode(metadata), modified.as_micros(), metadata.len())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}
