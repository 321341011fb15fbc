//! Text files (CSV, JSON lines) as a DataFusion source, over this crate's own readers.
//!
//! Invariant: a file is read in order, in ranges of [`CHUNK_BYTES`], on a thread of its own that holds at most a few
//! chunks and batches; dropping the stream stops the reads. It is none of the runtime's blocking threads, since it waits for
//! the store, which may need one itself. A crawled table reads here as it does everywhere else.

use std::any::Any;
use std::io::{self, Read};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use durable_core::ErrorKind;
use futures::{FutureExt, StreamExt};
use object_store::{ObjectMeta, ObjectStore};
use tokio::sync::mpsc;

use super::purpose::{ReadCause, read_options};
use crate::csv::{CsvReader, CsvSettings};
use crate::json::JsonReader;
use crate::{Decoded, Error, Format, TableDef};

/// Bytes of one read.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Chunks, and batches, that wait to be taken.
const WAITING_MAX: usize = 2;

/// Stack of a file's thread: enough for the deepest type, unoptimised. It is touched only as it is used.
const THREAD_STACK_BYTES: usize = 8 * 1024 * 1024;

/// Endings of files that would have to be unpacked first.
const PACKED: [&str; 9] = [".gz", ".bz2", ".zst", ".lz4", ".snappy", ".deflate", ".xz", ".zip", ".tar"];

/// Metric: rows that were not data and are missing from the answer.
pub const ROWS_REJECTED: &str = "rows_rejected";

/// Metric: values that were none of their column's type and read as NULL.
pub const VALUES_NULLED: &str = "values_nulled";

/// A source of text files of one table.
#[derive(Clone)]
pub(super) struct TextSource {
    def: Arc<TableDef>,
    schema: TableSchema,
    store: Arc<dyn ObjectStore>,
    projection: SplitProjection,
    metrics: ExecutionPlanMetricsSet,
    batch_rows: Option<usize>,
}

impl TextSource {
    pub(super) fn new(def: Arc<TableDef>, schema: TableSchema, store: Arc<dyn ObjectStore>) -> Self {
        let projection = SplitProjection::unprojected(&schema);
        Self { def, schema, store, projection, metrics: ExecutionPlanMetricsSet::new(), batch_rows: None }
    }
}

impl FileSource for TextSource {
    fn create_file_opener(
        &self,
        _store: Arc<dyn ObjectStore>,
        _config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let opener = TextOpener {
            def: Arc::clone(&self.def),
            store: Arc::clone(&self.store),
            columns: self.projection.file_indices.clone(),
            batch_rows: self.batch_rows.unwrap_or(crate::BATCH_ROWS),
            rejected: MetricBuilder::new(&self.metrics).counter(ROWS_REJECTED, partition),
            nulled: MetricBuilder::new(&self.metrics).counter(VALUES_NULLED, partition),
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), self.schema.file_schema())
    }

    fn table_schema(&self) -> &TableSchema {
        &self.schema
    }

    fn with_batch_size(&self, batch_rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_rows: Some(batch_rows), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        match self.def.format {
            Format::Json => "json",
            _ => "csv",
        }
    }

    fn supports_repartitioning(&self) -> bool {
        // A header belongs to the whole file, and a quoted value may hold a line end: no file is cut.
        false
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

struct TextOpener {
    def: Arc<TableDef>,
    store: Arc<dyn ObjectStore>,
    columns: Vec<usize>,
    batch_rows: usize,
    rejected: Count,
    nulled: Count,
}

impl FileOpener for TextOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let file = file.object_meta;
        refuse_packed(&file)?;
        let (chunks, input) = mpsc::channel(WAITING_MAX);
        let (batches, output) = mpsc::channel(WAITING_MAX);
        let decode = self.decode(&file, input, batches)?;
        let store = Arc::clone(&self.store);
        Ok(async move {
            let fetching = SpawnedTask::spawn(fetch(store, file, chunks));
            let thread = std::thread::Builder::new().name("decode".to_owned()).stack_size(THREAD_STACK_BYTES);
            thread.spawn(decode).map_err(no_thread)?;
            let next = |(mut output, fetching): (mpsc::Receiver<_>, _)| async move {
                output.recv().await.map(|batch| (batch, (output, fetching)))
            };
            let state = (output, fetching);
            Ok(futures::stream::unfold(state, next).boxed())
        }
        .boxed())
    }
}

impl TextOpener {
    /// The work of the file's thread: chunks in, batches out, until either end is closed.
    fn decode(
        &self,
        file: &ObjectMeta,
        input: mpsc::Receiver<object_store::Result<Bytes>>,
        output: mpsc::Sender<Result<RecordBatch>>,
    ) -> Result<impl FnOnce() + Send + 'static + use<>> {
        let (name, left) = (file.location.to_string(), file.size);
        let schema = self.def.file_schema();
        let columns = self.columns.clone();
        let settings = CsvSettings::from_properties(&self.def.properties).map_err(external)?;
        let settings = settings.with_batch_rows(self.batch_rows);
        let (format, batch_rows) = (self.def.format, self.batch_rows);
        let (rejected, nulled) = (self.rejected.clone(), self.nulled.clone());
        Ok(move || {
            let input = Chunks { input, chunk: Bytes::new(), left };
            let open = || match format {
                Format::Json => json(input, name.clone(), &schema, &columns, batch_rows),
                _ => csv(input, name.clone(), schema, columns, settings),
            };
            send(&name, open, &output, |decoded| {
                rejected.add(decoded.rejects.len());
                nulled.add(decoded.nulled.values().map(|count| usize::try_from(*count).unwrap_or(usize::MAX)).sum());
            });
        })
    }
}

/// Sends what a file holds until nobody takes it; a panic ends in an error like any other.
fn send(
    name: &str,
    open: impl FnOnce() -> crate::Result<Batches>,
    output: &mpsc::Sender<Result<RecordBatch>>,
    count: impl Fn(&Decoded),
) {
    let sending = AssertUnwindSafe(|| {
        let batches = open().unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        for decoded in batches {
            let batch = decoded.map(|decoded| {
                count(&decoded);
                decoded.batch
            });
            if output.blocking_send(batch.map_err(external)).is_err() {
                return;
            }
        }
    });
    if let Err(panic) = std::panic::catch_unwind(sending) {
        // Nobody may be left to hear of it.
        let _ = output.blocking_send(Err(external(panicked(name, panic.as_ref()))));
    }
}

fn panicked(name: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let why = text.unwrap_or("no reason given");
    Error::new(ErrorKind::Internal, format!("the decoder failed on file \"{name}\": {why}"))
}

fn no_thread(error: io::Error) -> DataFusionError {
    let message = "no thread could be started to read a text file on: raise the limit of threads";
    external(Error::new(ErrorKind::Unavailable, message).with_source(error))
}

type Batches = Box<dyn Iterator<Item = crate::Result<Decoded>>>;

/// Keys that are not asked for are skipped as the lines are read.
fn json(
    input: Chunks,
    name: String,
    schema: &SchemaRef,
    columns: &[usize],
    batch_rows: usize,
) -> crate::Result<Batches> {
    let schema = Arc::new(schema.project(columns)?);
    let reader = JsonReader::new(io::BufReader::new(input), name, schema)?;
    Ok(Box::new(reader.with_batch_rows(batch_rows)))
}

/// A header is matched against all columns of the table, so that a file without those asked for still is one of it.
fn csv(
    input: Chunks,
    name: String,
    schema: SchemaRef,
    columns: Vec<usize>,
    settings: CsvSettings,
) -> crate::Result<Batches> {
    let reader = CsvReader::new(input, name, schema, settings)?;
    Ok(Box::new(reader.map(move |decoded| {
        let mut decoded = decoded?;
        decoded.batch = decoded.batch.project(&columns)?;
        Ok(decoded)
    })))
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

fn refuse_packed(file: &ObjectMeta) -> Result<()> {
    let name = file.location.filename().unwrap_or_default().to_lowercase();
    match PACKED.iter().find(|ending| name.ends_with(*ending)) {
        None => Ok(()),
        Some(ending) => {
            let message = format!("file \"{}\" is packed ({ending}), which is not read yet: unpack it", file.location);
            Err(external(Error::new(ErrorKind::InvalidInput, message)))
        }
    }
}

/// Sends the file's ranges in order, as fast as they are taken.
async fn fetch(store: Arc<dyn ObjectStore>, file: ObjectMeta, chunks: mpsc::Sender<object_store::Result<Bytes>>) {
    let mut at = 0;
    while at < file.size {
        let end = file.size.min(at + CHUNK_BYTES);
        // Wait for room before reading: what nobody takes is not read.
        let Ok(room) = chunks.reserve().await else { return };
        let options = read_options(at..end, ReadCause::Data, end - at);
        let chunk = match store.get_opts(&file.location, options).await {
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        room.send(chunk);
        if failed {
            return;
        }
        at = end;
    }
}

/// The chunks as one input.
struct Chunks {
    input: mpsc::Receiver<object_store::Result<Bytes>>,
    chunk: Bytes,
    /// Bytes that are still to come.
    left: u64,
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.input.blocking_recv() {
                None if self.left > 0 => {
                    return Err(io::Error::other(format!("the file ends {} bytes early", self.left)));
                }
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
            self.left = self.left.saturating_sub(self.chunk.len() as u64);
        }
        let length = out.len().min(self.chunk.len());
        self.chunk.split_to(length).copy_to_slice(out.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_decoder_is_an_error_that_names_the_file() {
        let (output, mut batches) = mpsc::channel(WAITING_MAX);
        let open = || -> crate::Result<Batches> { Ok(Box::new(std::iter::once_with(|| panic!("a bug")))) };
        send("t/a.csv", open, &output, |_| ());
        drop(output);
        let error = batches.blocking_recv().unwrap().unwrap_err().to_string();
        assert!(error.contains("\"t/a.csv\": a bug"), "{error}");
        assert!(batches.blocking_recv().is_none());
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let (chunks, input) = mpsc::channel(WAITING_MAX);
        chunks.blocking_send(Ok(Bytes::from_static(b"a,b"))).unwrap();
        drop(chunks);
        let mut text = String::new();
        let mut input = Chunks { input, chunk: Bytes::new(), left: 5 };
        let error = input.read_to_string(&mut text).unwrap_err().to_string();
        assert_eq!((text.as_str(), error.as_str()), ("a,b", "the file ends 2 bytes early"));
    }
}
