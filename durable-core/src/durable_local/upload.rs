//! A multipart upload: parts written into one staged file, named when complete.
//!
//! Invariant: an object appears only if every part that was asked for was written; a part whose future was dropped or
//! failed fails the completion rather than leaving a hole of zeros.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::staging::Staged;
use super::{Shared, blocking, failed, place};

pub(super) struct Upload {
    shared: Arc<Shared>,
    target: PathBuf,
    /// Absent once completed or aborted.
    staged: Option<Arc<Mutex<Parts>>>,
    offset: u64,
    asked: usize,
}

struct Parts {
    file: File,
    staged: Staged,
    written: usize,
}

impl Upload {
    pub(super) fn new(shared: Arc<Shared>, target: PathBuf, mut staged: Staged) -> Result<Self> {
        let file = staged.take_file().map_err(|error| failed("staging", &target, error))?;
        let parts = Parts { file, staged, written: 0 };
        Ok(Self { shared, target, staged: Some(Arc::new(Mutex::new(parts))), offset: 0, asked: 0 })
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("target", &self.target).field("bytes", &self.offset).finish_non_exhaustive()
    }
}

impl Parts {
    fn write(&mut self, offset: u64, data: &PutPayload) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        data.iter().try_for_each(|slice| self.file.write_all(slice))?;
        self.written += 1;
        Ok(())
    }

    fn complete(&self, shared: &Shared, target: &std::path::Path, asked: usize) -> Result<PutResult> {
        if self.written != asked {
            let told = format!("{} of {asked} parts were written: start the upload again", self.written);
            return Err(failed("completing the upload of", target, io::Error::other(told)));
        }
        let synced = self.file.sync_all().and_then(|()| self.file.metadata());
        let metadata = synced.map_err(|error| failed("writing", target, error))?;
        place::place(shared, &self.staged, target, false)?;
        Ok(PutResult { e_tag: Some(place::e_tag(&metadata)), version: None })
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.offset;
        self.offset += data.content_length() as u64;
        self.asked += 1;
        let (staged, target) = (self.staged.clone(), self.target.clone());
        async move {
            let staged = staged.ok_or_else(|| ended(&target))?;
            let write = move || {
                let mut parts = staged.lock().unwrap_or_else(PoisonError::into_inner);
                parts.write(offset, &data).map_err(|error| failed("writing", &target, error))
            };
            blocking(write).await
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(|| ended(&self.target))?;
        let (shared, target, asked) = (Arc::clone(&self.shared), self.target.clone(), self.asked);
        let complete = move || {
            let parts = staged.lock().unwrap_or_else(PoisonError::into_inner);
            parts.complete(&shared, &target, asked)
        };
        blocking(complete).await
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged.take().ok_or_else(|| ended(&self.target))?;
        // Removing the file is a system call on a disk, so it happens where blocking does no harm.
        blocking(move || {
            drop(staged);
            Ok(())
        })
        .await
    }
}

fn ended(target: &std::path::Path) -> object_store::Error {
    failed("uploading", target, io::Error::other("the upload was completed or aborted before"))
}
