//! The one seam through which journals reach a local disk.
//!
//! Nothing written here is durable before [`DiskFile::sync_data`], and no name (created, renamed, removed) before
//! [`Disk::sync_dir`] of its directory: a simulated disk may persist any subset of what was not yet synced, in any
//! order, and the code above must survive it.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenMode {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write.
    Write,
    /// A file that must not exist yet, to read and write.
    CreateNew,
}

/// File and directory operations. Calls block; a journal makes them on threads of its own.
pub trait Disk: Debug + Send + Sync {
    /// Creates `path` and its missing ancestors. Returns after each new name was synced into its parent, and so was the
    /// newest that was there: a process that was killed may have left it unsynced.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `path` durable: files created, renamed and removed there.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in `path`, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, or `AlreadyExists` for [`OpenMode::CreateNew`].
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file, replacing what has that name.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Locks `path`, creating it, until the answer is dropped or the process ends.
    ///
    /// # Errors
    /// `WouldBlock` if another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on as far as the file reaches, and says how far.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `slices`, one after another, from `offset` on.
    ///
    /// # Errors
    /// As the operating system reports them; part of the bytes may have been written.
    fn write_at(&mut self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Makes what was written durable, and the length with it.
    ///
    /// # Errors
    /// As the operating system reports them. What was written since the last sync may then be lost at any time,
    /// whatever a later sync says.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes the file at least so long, and takes the room for it: writing there later cannot find the disk full. What
    /// is added reads as zeros. By default it writes them.
    ///
    /// # Errors
    /// `StorageFull` if there is no such room; else as the operating system reports them.
    fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        let size = self.size()?;
        write_zeros(self, size, bytes)
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes zeros from `from` up to `to`.
pub(crate) fn write_zeros<F: DiskFile + ?Sized>(file: &mut F, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_at(at, &mut [IoSlice::new(&ZEROS[..length])])?;
        at += length as u64;
    }
    Ok(())
}

/// A held lock: dropping it frees the name.
pub trait DiskLock: Debug + Send + Sync {}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut ancestor = Some(path);
        while let Some(directory) = ancestor.filter(|directory| !directory.as_os_str().is_empty()) {
            missing.push(directory);
            if directory.is_dir() {
                break;
            }
            ancestor = directory.parent();
        }
        for directory in missing.into_iter().rev() {
            match fs::create_dir(directory) {
                Err(error) if !directory.is_dir() => return Err(error),
                _ => {}
            }
            match directory.parent() {
                // A root has no parent to be synced into.
                None => {}
                Some(parent) if parent.as_os_str().is_empty() => self.sync_dir(Path::new("."))?,
                Some(parent) => self.sync_dir(parent)?,
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Windows has no handle of a directory to sync; its file systems journal names themselves.
        if cfg!(windows) { Ok(()) } else { File::open(path)?.sync_all() }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Box::new(SystemFile { file: options.open(path)?, offset: 0 }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(SystemLock { file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct SystemFile {
    file: File,
    /// Where the operating system's own offset stands, so that sequential access needs no seek.
    offset: u64,
}

impl SystemFile {
    fn seek_to(&mut self, offset: u64) -> io::Result<()> {
        if self.offset != offset {
            self.file.seek(SeekFrom::Start(offset))?;
            self.offset = offset;
        }
        Ok(())
    }
}

impl DiskFile for SystemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.seek_to(offset)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.seek_to(offset)?;
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&mut self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Err(error) if error == rustix::io::Errno::OPNOTSUPP => {
                // As file systems without extents do.
                let size = self.size()?;
                write_zeros(self, size, bytes)
            }
            allocated => Ok(allocated?),
        }
    }
}

#[derive(Debug)]
struct SystemLock {
    file: File,
}

impl DiskLock for SystemLock {}

impl Drop for SystemLock {
    fn drop(&mut self) {
        // Closing the file alone would leave it locked while a child that is just being spawned still has a copy of it.
        let _ = self.file.unlock();
    }
}
