//! An object store that counts what one query reads, and refuses a read that would pass the query's limit.
//!
//! Invariant: the bytes counted are the bytes that the store was asked for and delivered; with a limit, a read whose
//! length is known beforehand is refused before it is issued, so the count never passes the limit.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, coalesce_ranges,
};
use serde::{Deserialize, Serialize};
use table_core::provider::{ReadCause, ReadPurpose};

/// What a query asked of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReadStatistics {
    /// Bytes transferred for file footers.
    pub footer_bytes: u64,
    /// Bytes transferred for page indexes and bloom filters.
    pub index_bytes: u64,
    /// Bytes transferred for the columns and rows themselves, with the gaps between ranges that were read as one.
    pub data_bytes: u64,
    /// Of all these, the bytes of the gaps: transferred, but not asked for.
    pub gap_bytes: u64,
    /// Reads of objects or ranges of them.
    pub gets: u64,
    /// Listings of a prefix.
    pub lists: u64,
}

impl ReadStatistics {
    /// All bytes that crossed from the store, whatever for.
    #[must_use]
    pub fn bytes_transferred(&self) -> u64 {
        self.footer_bytes + self.index_bytes + self.data_bytes
    }

    /// The bytes that the plan asked for: transferred, less the gaps.
    #[must_use]
    pub fn bytes_scanned(&self) -> u64 {
        self.bytes_transferred() - self.gap_bytes
    }
}

/// The counters of one query.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u64,
    reserved: AtomicU64,
    footer: AtomicU64,
    index: AtomicU64,
    data: AtomicU64,
    gap: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    refused: AtomicBool,
}

impl Meter {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            limit: limit.unwrap_or(u64::MAX),
            reserved: zero(),
            footer: zero(),
            index: zero(),
            data: zero(),
            gap: zero(),
            gets: zero(),
            lists: zero(),
            refused: AtomicBool::new(false),
        }
    }

    pub(crate) fn statistics(&self) -> ReadStatistics {
        ReadStatistics {
            footer_bytes: self.footer.load(Ordering::Relaxed),
            index_bytes: self.index.load(Ordering::Relaxed),
            data_bytes: self.data.load(Ordering::Relaxed),
            gap_bytes: self.gap.load(Ordering::Relaxed),
            gets: self.gets.load(Ordering::Relaxed),
            lists: self.lists.load(Ordering::Relaxed),
        }
    }

    /// Whether a read was refused for the limit.
    pub(crate) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: u64) -> object_store::Result<()> {
        let fits = |reserved: u64| reserved.checked_add(bytes).filter(|total| *total <= self.limit);
        match self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(reserved) => {
                self.refused.store(true, Ordering::Relaxed);
                let source = format!("{reserved} bytes are read and {bytes} more would pass {}", self.limit);
                Err(object_store::Error::Generic { store: "athena", source: source.into() })
            }
        }
    }

    fn release(&self, bytes: u64) {
        self.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn count(&self, purpose: Option<ReadPurpose>, bytes: u64) {
        let counter = match purpose.map(|purpose| purpose.cause) {
            Some(ReadCause::Footer) => &self.footer,
            Some(ReadCause::Index) => &self.index,
            _ => &self.data,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
        let needed = purpose.map_or(bytes, |purpose| purpose.bytes_needed);
        self.gap.fetch_add(bytes.saturating_sub(needed), Ordering::Relaxed);
    }
}

/// The store as one query sees it: read-only and counted.
#[derive(Debug)]
pub(crate) struct MeteredStore {
    inner: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

impl MeteredStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl fmt::Display for MeteredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metered {}", self.inner)
    }
}

fn read_only<T>() -> object_store::Result<T> {
    let source = "a query only reads".into();
    Err(object_store::Error::Generic { store: "athena", source })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for MeteredStore {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        read_only()
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        read_only()
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let purpose = options.extensions.get::<ReadPurpose>().copied();
        self.meter.gets.fetch_add(1, Ordering::Relaxed);
        if options.head {
            return self.inner.get_opts(location, options).await;
        }
        let known = match &options.range {
            Some(GetRange::Bounded(range)) => range.end.saturating_sub(range.start),
            Some(GetRange::Suffix(length)) => *length,
            Some(GetRange::Offset(_)) | None => 0,
        };
        self.meter.reserve(known)?;
        let result = self.inner.get_opts(location, options).await.inspect_err(|_| self.meter.release(known))?;
        let actual = result.range.end - result.range.start;
        if actual > known {
            // The length was not known beforehand: the body, not yet read, is dropped when it does not fit.
            self.meter.reserve(actual - known).inspect_err(|_| self.meter.release(known))?;
        } else {
            self.meter.release(known - actual);
        }
        self.meter.count(purpose, actual);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        // One counted read per request that is really made: the gaps between near ranges are transferred too.
        let fetch = |range: Range<u64>| async move {
            let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
            self.get_opts(location, options).await?.bytes().await
        };
        coalesce_ranges(ranges, fetch, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        futures::stream::once(async { read_only() }).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.meter.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.meter.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.meter.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        read_only()
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> object_store::Result<()> {
        read_only()
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_read_that_would_pass_the_limit_is_not_issued() {
        let inner = Arc::new(InMemory::new());
        let path = Path::from("a");
        inner.put(&path, vec![7u8; 100].into()).await.unwrap();
        let meter = Arc::new(Meter::new(Some(60)));
        let store = MeteredStore::new(inner, Arc::clone(&meter));
        assert_eq!(store.get_range(&path, 0..50).await.unwrap().len(), 50);
        store.get_range(&path, 50..61).await.unwrap_err();
        assert!(meter.refused());
        assert_eq!(store.get_range(&path, 50..60).await.unwrap().len(), 10);
        assert_eq!(meter.statistics().bytes_transferred(), 60);
        store.get(&path).await.unwrap_err();
        assert_eq!(
            meter.statistics().bytes_transferred(),
            60,
            "a body of unknown length that does not fit is not counted"
        );
    }
}
