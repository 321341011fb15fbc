//! Where objects are written before they have their name: numbered files at the top of the store that lists hide.
//!
//! Invariant: a staged file belongs to an instance that holds the lock on its own lock file, so a file whose lock is free
//! was left by a crash and may be removed. Opening and sweeping happen under one lock for the whole store, so no sweep
//! meets an instance that has its lock file but not yet its lock.
//!
//! | name | is |
//! |---|---|
//! | `durable-local#0` | locked while an instance opens and sweeps |
//! | `durable-local-ID#0` | locked as long as instance ID lives, removed when it ends well |
//! | `durable-local-ID#N` | the instance's N-th staged file, N from 1 |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::TryRngCore;
use rand::rngs::OsRng;

use super::failed;

const PREFIX: &str = "durable-local";

#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
    /// Absent until the first write where the directory could not be written at opening.
    instance: Mutex<Option<Arc<Instance>>>,
}

/// One opened store among those, in any process, that write to the directory.
#[derive(Debug)]
struct Instance {
    root: PathBuf,
    id: String,
    next: AtomicU64,
    _lock: File,
}

/// A file under a hidden name, removed when dropped.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    /// Keeps the lock for as long as the file may be there.
    _instance: Arc<Instance>,
    file: Option<File>,
}

impl Staging {
    /// Sweeps what crashed instances left and says whether there was one. A directory that may not be written is
    /// opened all the same: it can be read, and the first write says what is wrong.
    pub(super) fn open(root: &Path) -> io::Result<(Self, bool)> {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let (instance, crashed) = match Instance::open(root) {
            Ok((instance, crashed)) => (Some(Arc::new(instance)), crashed),
            Err(error) if matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) => (None, false),
            Err(error) => return Err(error),
        };
        Ok((Self { root: root.to_path_buf(), instance: Mutex::new(instance) }, crashed))
    }

    /// An empty staged file.
    pub(super) fn stage(&self) -> object_store::Result<Staged> {
        let mut staged = self.reserve()?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&staged.path);
        staged.file = Some(file.map_err(|error| failed("creating", &staged.path, error))?);
        Ok(staged)
    }

    /// A staged name without a file: for a link.
    pub(super) fn reserve(&self) -> object_store::Result<Staged> {
        let instance = self.instance().map_err(|error| failed("writing to", &self.root, error))?;
        let number = instance.next.fetch_add(1, Ordering::Relaxed);
        let path = instance.root.join(format!("{PREFIX}-{}#{number}", instance.id));
        Ok(Staged { path, _instance: instance, file: None })
    }

    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = &*instance {
            return Ok(Arc::clone(instance));
        }
        let (opened, _) = Instance::open(&self.root)?;
        Ok(Arc::clone(instance.insert(Arc::new(opened))))
    }
}

impl Instance {
    fn open(root: &Path) -> io::Result<(Self, bool)> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let opening = options.open(root.join(format!("{PREFIX}#0")))?;
        opening.lock()?;
        let crashed = sweep(root)?;
        let id = format!("{:016x}", OsRng.try_next_u64().map_err(io::Error::other)?);
        let lock = options.open(root.join(format!("{PREFIX}-{id}#0")))?;
        lock.try_lock()?;
        Ok((Self { root: root.to_path_buf(), id, next: AtomicU64::new(1), _lock: lock }, crashed))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // If it stays, the next instance takes this one for crashed, which costs it some syncs and no data.
        let _ = fs::remove_file(self.root.join(format!("{PREFIX}-{}#0", self.id)));
    }
}

impl Staged {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file, once.
    pub(super) fn take_file(&mut self) -> io::Result<File> {
        self.file.take().ok_or_else(|| io::Error::other("the staged file was taken already"))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is gone if it was renamed to its place; if it stays, the instance or a later sweep removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the files of instances that no longer hold their lock; answers whether there was one.
fn sweep(root: &Path) -> io::Result<bool> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root)? {
        if let Ok(name) = entry?.file_name().into_string()
            && let Some((id, number)) = parse(&name)
        {
            files.push((id.to_owned(), number == "0", name));
        }
    }
    // The lock file of an instance goes last: while it is there, a sweep that fails half-way can be made again.
    files.sort();
    let mut crashed = false;
    for instance in files.chunk_by(|a, b| a.0 == b.0) {
        let lock = root.join(format!("{PREFIX}-{}#0", instance[0].0));
        if is_alive(&lock)? {
            continue;
        }
        crashed = true;
        for (_, _, name) in instance {
            remove_if_there(&root.join(name))?;
        }
    }
    Ok(crashed)
}

fn parse(name: &str) -> Option<(&str, &str)> {
    let (id, number) = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split_once('#')?;
    let valid = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (valid && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some((id, number))
}

fn is_alive(lock: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).open(lock) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// An instance that ends well removes its own files, perhaps at this moment.
fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> usize {
        fs::read_dir(root).unwrap().count()
    }

    #[test]
    fn a_sweep_spares_the_living_and_removes_the_dead() {
        let root = tempfile::tempdir().unwrap();
        let dead = "durable-local-00000000000000ff";
        for number in 0..3 {
            fs::write(root.path().join(format!("{dead}#{number}")), "half").unwrap();
        }
        let (first, crashed) = Staging::open(root.path()).unwrap();
        assert!(crashed);
        let staged = first.stage().unwrap();
        let (second, crashed) = Staging::open(root.path()).unwrap();
        assert!(!crashed && staged.path().exists());
        assert_eq!(names(root.path()), 4, "the opening lock, two instances, one staged file");
        drop((staged, first, second));
        assert_eq!(names(root.path()), 1);
    }

    #[test]
    fn names_of_others_are_left_alone() {
        for name in ["durable-local#0", "durable-local-1#2", "durable-local-00000000000000ff", "x#1"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
