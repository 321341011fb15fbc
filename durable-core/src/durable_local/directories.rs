//! The directories of one store: which of them are durable themselves, and the syncs that make their names so.
//!
//! Invariant: a directory is used for a put only after this instance synced it into its parent, whoever created it: a
//! process that died between creating and syncing left a directory that looks like any other. A sync covers every name
//! that changed before it began, so all who wait for one share it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, SystemDisk};

/// How many directories are remembered; past that, the idle ones are forgotten and prepared again when they return.
const REMEMBERED_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Directories {
    root: PathBuf,
    /// Whether a process that used the store before died: then any name may be unsynced until its directory is.
    crashed: bool,
    known: Mutex<HashMap<PathBuf, Known>>,
}

#[derive(Debug)]
struct Known {
    names: Arc<Names>,
    /// Whether the directory and its ancestors are durable.
    prepared: bool,
}

/// The names in one directory.
#[derive(Debug)]
pub(super) struct Names {
    dir: PathBuf,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug)]
struct State {
    /// Changes begun whose sync was not yet asked for.
    changing: usize,
    /// Syncs asked for, and the last of them that is done.
    asked: u64,
    done: u64,
    running: bool,
    failed: Option<(io::ErrorKind, String)>,
}

/// A change of names under way; dropping it without a sync leaves the directory unsettled until the next one.
#[derive(Debug)]
pub(super) struct Change {
    names: Arc<Names>,
}

impl Directories {
    pub(super) fn new(root: PathBuf, crashed: bool) -> Self {
        Self { root, crashed, known: Mutex::new(HashMap::new()) }
    }

    /// Announces that names in the directory of `file` are about to change. Creates it if it is missing, and makes it
    /// durable if that is not known.
    pub(super) fn change(&self, file: &Path) -> io::Result<Change> {
        let names = self.prepare(parent(file)?)?;
        let mut state = names.lock();
        state.check()?;
        state.changing += 1;
        drop(state);
        Ok(Change { names })
    }

    /// Forgets what was known about the directory of `file` and its ancestors, for when it turned out to be gone.
    pub(super) fn forget(&self, file: &Path) {
        let mut known = self.lock();
        for dir in file.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.root)) {
            if let Some(entry) = known.get_mut(dir) {
                entry.prepared = false;
            }
        }
    }

    /// Whether every name in the directory of `file` is durable.
    pub(super) fn settled(&self, file: &Path) -> bool {
        let Ok(dir) = parent(file) else { return true };
        let names = self.lock().get(dir).map(|known| Arc::clone(&known.names));
        names.map_or(!self.crashed, |names| names.lock().settled())
    }

    /// Makes every name in the directory of `file` durable, and fails if that directory is poisoned.
    pub(super) fn settle(&self, file: &Path) -> io::Result<()> {
        let names = self.names(parent(file)?);
        if names.lock().settled() { Ok(()) } else { names.sync() }
    }

    fn prepare(&self, dir: &Path) -> io::Result<Arc<Names>> {
        if let Some(known) = self.lock().get(dir).filter(|known| known.prepared) {
            return Ok(Arc::clone(&known.names));
        }
        if dir != self.root {
            let above = parent(dir)?;
            let names = self.prepare(above)?;
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => names.sync()?,
            }
        }
        let names = self.names(dir);
        if let Some(known) = self.lock().get_mut(dir) {
            known.prepared = true;
        }
        Ok(names)
    }

    fn names(&self, dir: &Path) -> Arc<Names> {
        let mut known = self.lock();
        if known.len() >= REMEMBERED_MAX && !known.contains_key(dir) {
            known.retain(|_, known| Arc::strong_count(&known.names) > 1 || !known.names.lock().settled());
        }
        let fresh = || Known { names: Arc::new(Names::new(dir, self.crashed)), prepared: false };
        Arc::clone(&known.entry(dir.to_path_buf()).or_insert_with(fresh).names)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn new(dir: &Path, unsettled: bool) -> Self {
        let state = State { changing: 0, asked: u64::from(unsettled), done: 0, running: false, failed: None };
        Self { dir: dir.to_path_buf(), state: Mutex::new(state), synced: Condvar::new() }
    }

    /// Returns once a sync that began after this call is done. One of the waiters makes it for all.
    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.asked += 1;
        let mine = state.asked;
        while state.failed.is_none() && state.done < mine {
            if state.running {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.running = true;
            let covered = state.asked;
            drop(state);
            let result = SystemDisk.sync_dir(&self.dir);
            state = self.lock();
            state.running = false;
            match result {
                Ok(()) => state.done = covered,
                Err(error) => state.failed = Some((error.kind(), error.to_string())),
            }
            self.synced.notify_all();
        }
        state.check()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settled(&self) -> bool {
        self.changing == 0 && self.done == self.asked && self.failed.is_none()
    }

    fn check(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some((kind, cause)) => {
                let told = format!("an earlier sync of the directory failed ({cause}): reopen the store");
                Err(io::Error::new(*kind, told))
            }
        }
    }
}

impl Change {
    /// Makes the change durable, and all before it.
    pub(super) fn sync(self) -> io::Result<()> {
        self.names.sync()
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.names.lock().changing -= 1;
    }
}

/// Syncs the name of `dir` itself. A parent that may not be read is another user's, who made the name long ago.
pub(super) fn sync_into_parent(dir: &Path) -> io::Result<()> {
    let Some(above) = dir.parent() else { return Ok(()) };
    match SystemDisk.sync_dir(above) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

fn parent(file: &Path) -> io::Result<&Path> {
    file.parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the root of the file system has no parent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_poisons_its_directory_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let directories = Directories::new(root.path().to_path_buf(), false);
        let (lost, kept) = (root.path().join("a/1"), root.path().join("b/1"));
        let change = directories.change(&lost).unwrap();
        fs::remove_dir(root.path().join("a")).unwrap();
        assert!(change.sync().is_err());
        assert!(directories.change(&lost).is_err());
        assert!(!directories.settled(&lost) && directories.settle(&lost).is_err());
        directories.change(&kept).unwrap().sync().unwrap();
        assert!(directories.settled(&kept));
    }

    #[test]
    fn a_reader_settles_a_change_whose_writer_has_not() {
        let root = tempfile::tempdir().unwrap();
        let directories = Directories::new(root.path().to_path_buf(), false);
        let file = root.path().join("a/1");
        let change = directories.change(&file).unwrap();
        assert!(!directories.settled(&file));
        directories.settle(&file).unwrap();
        change.sync().unwrap();
        assert!(directories.settled(&file));
    }

    #[test]
    fn after_a_crash_every_directory_is_synced_before_it_is_read() {
        let root = tempfile::tempdir().unwrap();
        let directories = Directories::new(root.path().to_path_buf(), true);
        let file = root.path().join("1");
        assert!(!directories.settled(&file));
        directories.settle(&file).unwrap();
        assert!(directories.settled(&file));
    }
}
