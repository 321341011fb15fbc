//! Why a range of a file is read, told to the store beside the request.
//!
//! Invariant: every read that a [`HiveTable`](super::HiveTable) issues carries a [`ReadPurpose`] in its
//! `GetOptions::extensions`, so that a store that meters can tell footers from data, and what was needed from what
//! came along because two ranges were read as one.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};

/// What kind of bytes a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ReadCause {
    /// A file's footer: its schema and where everything lies.
    Footer,
    /// Page indexes and bloom filters, which say what need not be read.
    Index,
    /// The values themselves.
    Data,
}

/// What one request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadPurpose {
    /// What kind of bytes.
    pub cause: ReadCause,
    /// How many of the request's bytes were asked for; the rest are gaps between ranges that were read as one.
    pub bytes_needed: u64,
}

/// A read of one range, with its purpose beside it.
pub(super) fn read_options(range: Range<u64>, cause: ReadCause, bytes_needed: u64) -> GetOptions {
    let mut options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    options.extensions.insert(ReadPurpose { cause, bytes_needed });
    options
}

/// Bytes of an object that were read already, and where they begin.
pub(super) type Tail = (u64, Bytes);

/// A store all of whose reads are footers: for a reader that takes a store and cannot be told the purpose. It keeps
/// what it read last, since a guess at a footer's length reads some of the data before it.
#[derive(Debug)]
pub(super) struct FooterStore {
    inner: Arc<dyn ObjectStore>,
    tail: Mutex<Option<Tail>>,
}

impl FooterStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, tail: Mutex::default() }
    }

    /// The longest run of bytes that was read.
    pub(super) fn into_tail(self) -> Option<Tail> {
        self.tail.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for FooterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "footers of {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FooterStore {
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> object_store::Result<GetResult> {
        let bytes_needed = match &options.range {
            Some(GetRange::Bounded(range)) => range.end.saturating_sub(range.start),
            Some(GetRange::Suffix(length)) => *length,
            Some(GetRange::Offset(_)) | None => 0,
        };
        options.extensions.insert(ReadPurpose { cause: ReadCause::Footer, bytes_needed });
        let GetResult { payload, meta, range, attributes } = self.inner.get_opts(location, options).await?;
        let result = GetResult { payload, meta: meta.clone(), range: range.clone(), attributes: attributes.clone() };
        let bytes = result.bytes().await?;
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.as_ref().is_none_or(|(_, longest)| longest.len() < bytes.len()) {
            *tail = Some((range.start, bytes.clone()));
        }
        let payload = GetResultPayload::Stream(futures::stream::once(async move { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let mut parts = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            parts.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(parts)
    }

    async fn put_opts(&self, path: &Path, body: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(path, body, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
