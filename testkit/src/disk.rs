//! A disk in memory that keeps after a crash only what it must.
//!
//! Invariant: after [`SimDisk::crash`] a byte survives for certain only if [`DiskFile::sync_data`] returned after it was
//! written, and a name only if [`Disk::sync_dir`] returned after it was made. Of the rest any subset survives: each
//! 512-byte sector, each length and each change of names on its own, in any order. A rename is one change: it
//! survives whole or not at all. After a failed sync, what it should have saved stays unsafe although reads still show it,
//! whatever later syncs say, until it is written again.
//!
//! Everything random comes from the seed, so the same calls leave the same bytes.

mod image;
mod sabotage;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable_core::Disk;
use durable_core::disk::{DiskFile, DiskLock, OpenMode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use image::Image;
pub use image::SECTOR;
pub use sabotage::{Sabotage, Sabotaged};

/// A simulated disk. Clones share it; [`SimDisk::fork`] copies it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How often each kind of call was made since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls of any kind, failed ones included.
    pub calls: u64,
    /// Reads of a file.
    pub reads: u64,
    /// Writes to a file.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of a file.
    pub file_syncs: u64,
    /// Syncs of a directory.
    pub dir_syncs: u64,
    /// Names made, renamed and removed.
    pub name_changes: u64,
    /// Calls that failed because they were told to.
    pub injected: u64,
    /// Calls that failed because the disk was full.
    pub full: u64,
    /// Unsynced sectors, lengths and names that a crash discarded.
    pub discarded: u64,
    /// Unsynced sectors, lengths and names that a crash kept all the same.
    pub kept: u64,
}

#[derive(Clone, Debug)]
struct State {
    rng: StdRng,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<NameChange>,
    images: BTreeMap<u64, Image>,
    next_image: u64,
    /// Rises with every crash: what was open before is dead.
    generation: u64,
    locks: BTreeSet<PathBuf>,
    capacity: u64,
    failing: Vec<Failing>,
    counts: Counts,
}

/// One step that a crash keeps or discards whole.
#[derive(Clone, Debug)]
struct NameChange {
    sets: Vec<(PathBuf, Option<u64>)>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    from: u64,
    until: u64,
    kind: io::ErrorKind,
}

impl SimDisk {
    /// An empty disk without a bound. The seed decides what a crash keeps and where a failed write stops.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            dirs: BTreeSet::from([PathBuf::from("/"), PathBuf::new()]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            images: BTreeMap::new(),
            next_image: 0,
            generation: 0,
            locks: BTreeSet::new(),
            capacity: u64::MAX,
            failing: Vec::new(),
            counts: Counts::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The power fails: unsynced bytes and names survive or not, open files and locks are gone, and calls on them
    /// fail. Injected failures end; the capacity stays.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// The process dies and the machine does not: open files and locks are gone, everything written stays.
    pub fn kill(&self) {
        self.lock().forget_process();
    }

    /// A copy that goes its own way, with nothing open and no lock held.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.lock().clone();
        state.forget_process();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Bounds the bytes of all files together; past it, writing fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Fails the call that comes after `skip` others with an input/output error, and no other.
    pub fn fail_call(&self, skip: u64) {
        self.lock().fail(skip, 1, io::ErrorKind::Other);
    }

    /// Fails every call after the next `skip` with `kind`, until [`SimDisk::heal`].
    pub fn fail_calls_from(&self, skip: u64, kind: io::ErrorKind) {
        self.lock().fail(skip, u64::MAX, kind);
    }

    /// Ends injected failures.
    pub fn heal(&self) {
        self.lock().failing.clear();
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The files there are, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// The bytes of a file as a read would show them.
    #[must_use]
    pub fn bytes(&self, file: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.lock();
        Some(state.images[state.names.get(file.as_ref())?].live().to_vec())
    }

    /// Puts a file there, durably and with its directories, replacing what had the name.
    pub fn install(&self, file: impl AsRef<Path>, bytes: &[u8]) {
        let file = file.as_ref();
        let mut state = self.lock();
        state.dirs.extend(file.ancestors().skip(1).map(Path::to_path_buf));
        let image = state.new_image(Image::durable(bytes));
        state.names.insert(file.to_path_buf(), image);
        state.durable_names.insert(file.to_path_buf(), image);
    }

    /// Damages a file silently, on the medium as well: inverts the bits of `mask` in the byte at `offset`.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, file: impl AsRef<Path>, offset: usize, mask: u8) {
        let mut state = self.lock();
        let image = state.names[file.as_ref()];
        state.images.get_mut(&image).expect("every name has an image").flip(offset, mask);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.call()?;
        Ok(state)
    }
}

impl State {
    fn crash(&mut self) {
        // Extremes find what the middle does not: everything lost, everything kept.
        let odds = [0.0, 0.05, 0.5, 0.95, 1.0][self.rng.random_range(0..5)];
        for change in std::mem::take(&mut self.pending) {
            let kept = self.rng.random_bool(odds);
            self.counts.kept += u64::from(kept);
            self.counts.discarded += u64::from(!kept);
            if kept {
                apply(&mut self.durable_names, change);
            }
        }
        for image in self.images.values_mut() {
            let (kept, discarded) = image.crash(&mut self.rng, odds);
            self.counts.kept += kept;
            self.counts.discarded += discarded;
        }
        self.names.clone_from(&self.durable_names);
        let reachable: BTreeSet<u64> = self.names.values().copied().collect();
        self.images.retain(|image, _| reachable.contains(image));
        self.forget_process();
    }

    fn forget_process(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.failing.clear();
    }

    fn fail(&mut self, skip: u64, count: u64, kind: io::ErrorKind) {
        let from = self.counts.calls + skip;
        self.failing.push(Failing { from, until: from.saturating_add(count), kind });
    }

    /// Counts a call, and fails it if it was told to.
    fn call(&mut self) -> io::Result<()> {
        let number = self.counts.calls;
        self.counts.calls += 1;
        match self.failing.iter().find(|failing| (failing.from..failing.until).contains(&number)) {
            Some(failing) => {
                self.counts.injected += 1;
                Err(io::Error::new(failing.kind, "injected by the simulated disk"))
            }
            None => Ok(()),
        }
    }

    fn new_image(&mut self, image: Image) -> u64 {
        self.next_image += 1;
        self.images.insert(self.next_image, image);
        self.next_image
    }

    fn change_names(&mut self, sets: Vec<(PathBuf, Option<u64>)>) {
        self.counts.name_changes += 1;
        let change = NameChange { sets };
        apply(&mut self.names, change.clone());
        self.pending.push(change);
    }

    fn existing(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        let known = path.parent().is_some_and(|dir| self.dirs.contains(dir));
        if known { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// How many of `wanted` bytes from `offset` on fit, where `image` is taken out of the images.
    fn fit(&mut self, image: &Image, offset: u64, wanted: usize) -> usize {
        if self.capacity == u64::MAX {
            return wanted;
        }
        let own = image.live().len() as u64;
        let others = self.names.values().filter_map(|image| self.images.get(image));
        let used = own + others.map(|image| image.live().len() as u64).sum::<u64>();
        let grown = (offset + wanted as u64).saturating_sub(own);
        let missing = grown.saturating_sub(self.capacity.saturating_sub(used));
        self.counts.full += u64::from(missing > 0);
        wanted.saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX))
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: NameChange) {
    for (path, image) in change.sets {
        match image {
            Some(image) => names.insert(path, image),
            None => names.remove(&path),
        };
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        state.dirs.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.counts.dir_syncs += 1;
        state.call()?;
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let touches = |change: &mut NameChange| change.sets.iter().any(|(name, _)| name.parent() == Some(path));
        let synced: Vec<NameChange> = state.pending.extract_if(.., touches).collect();
        synced.into_iter().for_each(|change| apply(&mut state.durable_names, change));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.begin()?;
        if !state.dirs.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.begin()?;
        let image = match mode {
            OpenMode::CreateNew if state.names.contains_key(path) => return Err(io::ErrorKind::AlreadyExists.into()),
            OpenMode::CreateNew => {
                state.check_parent(path)?;
                let image = state.new_image(Image::default());
                state.change_names(vec![(path.to_path_buf(), Some(image))]);
                image
            }
            _ => state.existing(path)?,
        };
        let writable = mode != OpenMode::Read;
        Ok(Box::new(SimFile { disk: self.clone(), image, generation: state.generation, writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        let image = state.existing(from)?;
        state.check_parent(to)?;
        state.change_names(vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(image))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        state.existing(path)?;
        state.change_names(vec![(path.to_path_buf(), None)]);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.begin()?;
        state.check_parent(path)?;
        if !state.names.contains_key(path) {
            let image = state.new_image(Image::default());
            state.change_names(vec![(path.to_path_buf(), Some(image))]);
        }
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_path_buf(), generation: state.generation }))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    image: u64,
    generation: u64,
    writable: bool,
}

impl SimFile {
    /// Runs `work` on the image, if the file was not closed by a crash.
    fn with<T>(&self, work: impl FnOnce(&mut State, &mut Image) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock();
        let mut image = match state.images.remove(&self.image) {
            Some(image) if state.generation == self.generation => image,
            image => {
                // After a crash the number may still be another's to use.
                image.and_then(|image| state.images.insert(self.image, image));
                return Err(io::Error::other("the simulated machine crashed since this file was opened"));
            }
        };
        let result = work(&mut state, &mut image);
        state.images.insert(self.image, image);
        result
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        self.with(|state, image| {
            state.call()?;
            Ok(image.live().len() as u64)
        })
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|state, image| {
            state.counts.reads += 1;
            state.call()?;
            Ok(image.read(offset, buffer))
        })
    }

    fn write_at(&mut self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.check_writable()?;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.with(|state, image| {
            state.counts.writes += 1;
            let result = state.call();
            let mut whole = bytes.len();
            if result.is_err() {
                whole = state.rng.random_range(0..=whole);
            }
            let fits = state.fit(image, offset, whole);
            image.write(offset, &bytes[..fits]);
            state.counts.bytes_written += fits as u64;
            result.and(if fits < whole { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) })
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.with(|state, image| {
            state.counts.file_syncs += 1;
            let result = state.call();
            if result.is_ok() {
                image.sync();
            } else {
                image.fail_sync();
            }
            result
        })
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        self.with(|state, image| {
            state.call()?;
            let length = usize::try_from(bytes).map_err(io::Error::other)?;
            if state.fit(image, 0, length) < length {
                return Err(io::ErrorKind::StorageFull.into());
            }
            image.set_len(length);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    generation: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.generation == self.generation {
            state.locks.remove(&self.path);
        }
    }
}
