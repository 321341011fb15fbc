//! How a Parquet file's ranges are read: footer first, then what the query needs of it.
//!
//! Invariant: every read says what it is for, and no byte is read that was not asked for but the gaps of at most
//! [`GAP_BYTES_MAX`] between near ranges, and a footer's guessed length. What came along with a footer is not read again.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};

use super::purpose::{FooterStore, ReadCause, Tail, read_options};

/// Two ranges no further apart than this are read as one: a request costs more than so many bytes.
pub(super) const GAP_BYTES_MAX: u64 = 64 * 1024;

/// Ranges of one file that are read at a time.
const RANGES_AT_A_TIME: usize = 8;

/// Makes readers over one store.
#[derive(Debug)]
pub(super) struct Readers {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    footer_bytes_guess: usize,
}

impl Readers {
    /// Readers of files with so many columns. The guess reads a usual footer in one request and little beside it.
    pub(super) fn new(store: Arc<dyn ObjectStore>, footers: Arc<FileMetadataCache>, columns: usize) -> Self {
        Self { store, footers, footer_bytes_guess: (1024 + 384 * columns).min(64 * 1024) }
    }
}

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        _hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        Ok(Box::new(Reader {
            store: Arc::clone(&self.store),
            footers: Arc::clone(&self.footers),
            footer_bytes_guess: self.footer_bytes_guess,
            file: file.object_meta,
            data_end: None,
            tail: None,
        }))
    }
}

struct Reader {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    footer_bytes_guess: usize,
    file: ObjectMeta,
    /// Where the last column chunk ends; indexes lie behind. Known once the footer is.
    data_end: Option<u64>,
    /// The end of the file, if the footer was read now and not found in memory.
    tail: Option<Tail>,
}

impl Reader {
    fn cause(&self, range: &Range<u64>) -> ReadCause {
        if self.data_end.is_some_and(|end| range.start >= end) { ReadCause::Index } else { ReadCause::Data }
    }

    /// The part of a range that was not read along with the footer.
    fn unread(&self, range: &Range<u64>) -> Range<u64> {
        let read_from = self.tail.as_ref().map_or(u64::MAX, |(start, _)| *start);
        range.start..range.end.min(read_from.max(range.start))
    }

    async fn read(&self, ranges: &[Range<u64>]) -> parquet::errors::Result<Vec<Bytes>> {
        let unread: Vec<_> = ranges.iter().map(|range| self.unread(range)).filter(|range| !range.is_empty()).collect();
        let joined = join(&unread);
        let mut reads = Vec::with_capacity(joined.len());
        for part in &joined {
            let options = read_options(part.range.clone(), self.cause(&part.range), part.bytes_needed);
            let (store, path) = (Arc::clone(&self.store), self.file.location.clone());
            reads.push(async move { store.get_opts(&path, options).await?.bytes().await });
        }
        let parts: Vec<Bytes> =
            futures::stream::iter(reads).buffered(RANGES_AT_A_TIME).try_collect().await.map_err(external)?;
        ranges.iter().map(|range| self.assemble(&joined, &parts, range)).collect()
    }

    /// The bytes of a range: from what was read now, from the tail that the footer brought along, or both.
    fn assemble(&self, joined: &[Joined], parts: &[Bytes], range: &Range<u64>) -> parquet::errors::Result<Bytes> {
        let unread = self.unread(range);
        if unread.end == range.end {
            return cut(joined, parts, range);
        }
        let (start, tail) = self.tail.as_ref().ok_or_else(|| past_the_end(range))?;
        let rest = slice(tail, *start, &(unread.end..range.end)).ok_or_else(|| past_the_end(range))?;
        if unread.is_empty() {
            return Ok(rest);
        }
        let mut whole = Vec::with_capacity(rest.len() + usize::try_from(unread.end - unread.start).unwrap_or(0));
        whole.extend_from_slice(&cut(joined, parts, &unread)?);
        whole.extend_from_slice(&rest);
        Ok(whole.into())
    }
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        async move { self.read(std::slice::from_ref(&range)).await?.pop().ok_or_else(|| past_the_end(&range)) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            let store = FooterStore::new(Arc::clone(&self.store));
            let metadata = DFParquetMetadata::new(&store, &self.file)
                .with_metadata_size_hint(Some(self.footer_bytes_guess))
                .with_file_metadata_cache(Some(Arc::clone(&self.footers)))
                .with_page_index_policy(options.map(ArrowReaderOptions::column_index_policy))
                .fetch_metadata()
                .await
                .map_err(|error| named(&self.file, error))?;
            self.tail = store.into_tail();
            let chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
            self.data_end = chunks.map(ColumnChunkMetaData::byte_range).map(|(start, length)| start + length).max();
            Ok(metadata)
        }
        .boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// A damaged file's error names the file; a store's keeps its own kind.
fn named(file: &ObjectMeta, error: DataFusionError) -> ParquetError {
    match error {
        DataFusionError::ParquetError(parquet) if !matches!(*parquet, ParquetError::External(_)) => {
            let message = format!("file \"{}\" is not readable as parquet: {parquet}", file.location);
            ParquetError::External(Box::new(crate::Error::new(durable_core::ErrorKind::Corrupt, message)))
        }
        error => ParquetError::External(Box::new(error)),
    }
}

/// Ranges that are read as one.
struct Joined {
    range: Range<u64>,
    bytes_needed: u64,
}

fn join(ranges: &[Range<u64>]) -> Vec<Joined> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Joined> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.range.end.saturating_add(GAP_BYTES_MAX) => {
                last.bytes_needed += range.end.saturating_sub(range.start.max(last.range.end));
                last.range.end = last.range.end.max(range.end);
            }
            _ => joined.push(Joined { bytes_needed: range.end - range.start, range }),
        }
    }
    joined
}

fn cut(joined: &[Joined], parts: &[Bytes], range: &Range<u64>) -> parquet::errors::Result<Bytes> {
    let at = joined.partition_point(|part| part.range.start <= range.start).checked_sub(1);
    let whole = at.and_then(|at| Some((joined.get(at)?, parts.get(at)?)));
    let bytes = whole.and_then(|(part, bytes)| slice(bytes, part.range.start, range));
    bytes.ok_or_else(|| past_the_end(range))
}

/// A range of bytes that begin at `start`, if they hold it.
fn slice(bytes: &Bytes, start: u64, range: &Range<u64>) -> Option<Bytes> {
    let from = usize::try_from(range.start.checked_sub(start)?).ok()?;
    let to = usize::try_from(range.end.checked_sub(start)?).ok()?;
    (from <= to && to <= bytes.len()).then(|| bytes.slice(from..to))
}

fn past_the_end(range: &Range<u64>) -> ParquetError {
    ParquetError::EOF(format!("bytes {range:?} are past the end of the file: it was cut or replaced"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_read_as_one_and_far_ones_are_not() {
        let far = GAP_BYTES_MAX * 2;
        let ranges = [far..far + 10, 0..10, 20..30, 25..40];
        let joined = join(&ranges);
        let read: Vec<_> = joined.iter().map(|part| (part.range.clone(), part.bytes_needed)).collect();
        assert_eq!(read, [(0..40, 30), (far..far + 10, 10)]);
        let parts = [Bytes::from_iter(0..40), Bytes::from_iter(100..110)];
        assert_eq!(cut(&joined, &parts, &(20..30)).unwrap(), Bytes::from_iter(20..30));
        assert_eq!(cut(&joined, &parts, &(far..far + 10)).unwrap(), parts[1]);
        assert!(cut(&joined, &parts, &(far..far + 11)).is_err());
    }
}
