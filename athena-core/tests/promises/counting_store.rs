//! A store that counts what was really asked of it, independently of athena's own meter.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use tokio::sync::Semaphore;

#[derive(Debug)]
pub(crate) struct CountingStore {
    inner: Arc<dyn ObjectStore>,
    pub(crate) bytes: AtomicU64,
    pub(crate) gets: AtomicU64,
    pub(crate) lists: AtomicU64,
    /// Reads that came to the gate.
    pub(crate) waited: AtomicU64,
    /// Reads below this prefix wait for a permit each.
    gate: Option<(Path, Arc<Semaphore>)>,
    /// Writes of names that end so wait for a permit each, and fail once the gate is closed.
    gate_of_puts: Option<(&'static str, Arc<Semaphore>)>,
}

impl CountingStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let zero = || AtomicU64::new(0);
        Self { inner, bytes: zero(), gets: zero(), lists: zero(), waited: zero(), gate: None, gate_of_puts: None }
    }

    /// Reads below `prefix` go on only as `gate` lets them.
    pub(crate) fn gated(inner: Arc<dyn ObjectStore>, prefix: &str, gate: Arc<Semaphore>) -> Self {
        Self { gate: Some((Path::from(prefix), gate)), ..Self::new(inner) }
    }

    /// Writes of names that end in `ending` go on only as `gate` lets them, and fail once it is closed.
    pub(crate) fn gated_puts(inner: Arc<dyn ObjectStore>, ending: &'static str, gate: Arc<Semaphore>) -> Self {
        Self { gate_of_puts: Some((ending, gate)), ..Self::new(inner) }
    }

    pub(crate) fn take(&self) -> (u64, u64, u64) {
        (
            self.bytes.swap(0, Ordering::SeqCst),
            self.gets.swap(0, Ordering::SeqCst),
            self.lists.swap(0, Ordering::SeqCst),
        )
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counting {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for CountingStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if let Some((prefix, gate)) = &self.gate
            && location.prefix_matches(prefix)
        {
            self.waited.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
        }
        self.gets.fetch_add(1, Ordering::SeqCst);
        let result = self.inner.get_opts(location, options).await?;
        self.bytes.fetch_add(result.range.end - result.range.start, Ordering::SeqCst);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let parts = self.inner.get_ranges(location, ranges).await?;
        self.gets.fetch_add(ranges.len() as u64, Ordering::SeqCst);
        self.bytes.fetch_add(parts.iter().map(|part| part.len() as u64).sum(), Ordering::SeqCst);
        Ok(parts)
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if let Some((ending, gate)) = &self.gate_of_puts
            && location.as_ref().ends_with(ending)
        {
            self.waited.fetch_add(1, Ordering::SeqCst);
            let permit = gate.acquire().await;
            permit.map_err(|closed| Error::Generic { store: "gated", source: Box::new(closed) })?.forget();
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
