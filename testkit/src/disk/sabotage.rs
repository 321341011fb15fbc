//! Disks that lie, one way each: with them the promise under test must break, or the test proves nothing.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use durable_core::Disk;
use durable_core::disk::{DiskFile, DiskLock, OpenMode};

/// Which lie a [`Sabotaged`] disk tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sabotage {
    /// Syncs of files and directories do nothing and succeed.
    NoSync,
    /// Syncs of files do nothing and succeed.
    NoFileSync,
    /// Syncs of directories do nothing and succeed.
    NoDirSync,
    /// Failed writes and syncs report success.
    HiddenErrors,
}

/// A disk that passes every call on, except for one lie.
#[derive(Clone, Debug)]
pub struct Sabotaged {
    inner: Arc<dyn Disk>,
    sabotage: Sabotage,
}

impl Sabotaged {
    /// Sabotages `inner`.
    pub fn new(inner: impl Disk + 'static, sabotage: Sabotage) -> Self {
        Self { inner: Arc::new(inner), sabotage }
    }
}

impl Disk for Sabotaged {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.sabotage {
            Sabotage::NoSync | Sabotage::NoDirSync => Ok(()),
            Sabotage::NoFileSync => self.inner.sync_dir(path),
            Sabotage::HiddenErrors => self.inner.sync_dir(path).or(Ok(())),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SabotagedFile { inner: self.inner.open(path, mode)?, sabotage: self.sabotage }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct SabotagedFile {
    inner: Box<dyn DiskFile>,
    sabotage: Sabotage,
}

impl DiskFile for SabotagedFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let result = self.inner.write_at(offset, slices);
        if self.sabotage == Sabotage::HiddenErrors { Ok(()) } else { result }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        match self.sabotage {
            Sabotage::NoSync | Sabotage::NoFileSync => Ok(()),
            Sabotage::NoDirSync => self.inner.sync_data(),
            Sabotage::HiddenErrors => self.inner.sync_data().or(Ok(())),
        }
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.inner.set_len(bytes)
    }
}
