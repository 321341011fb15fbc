//! One result object and its description.
//!
//! | object | written by | holds |
//! |---|---|---|
//! | `<prefix>/<id>.csv` | [`ResultWriter`] | labels, then rows, every value quoted |
//! | `<prefix>/<id>.txt` | [`ResultWriter`] | lines, for SHOW, DESCRIBE and EXPLAIN |
//! | `<prefix>/<id>.csv.metadata`, `.txt.metadata` | [`ResultWriter::finish`] | JSON of [`ResultMetadata`], ours |
//!
//! Invariant: `row_starts[n]` is the offset of row `n * ROWS_PER_PAGE_MAX`, so that any page costs one ranged read.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::csv::{write_batch, write_header, write_text};
use super::page::ROWS_PER_PAGE_MAX;
use super::text::ColumnInfo;
use crate::error::{Error, ErrorKind, Result, Stage};

/// Bytes gathered before a part is sent: smaller results are one put.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ResultForm {
    /// Rows of a query.
    Csv,
    /// Lines of a statement about the catalog.
    Text,
}

impl ResultForm {
    /// The ending of the object's name.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Text => "txt",
        }
    }
}

/// What describes a result object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ResultMetadata {
    pub(crate) form: ResultForm,
    pub(crate) columns: Vec<ColumnInfo>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) row_starts: Vec<u64>,
}

impl ResultMetadata {
    pub(crate) async fn read(store: &dyn ObjectStore, result: &Path) -> Result<Self> {
        let bytes = store.get(&metadata_path(result)).await?.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("the description of result \"{result}\" is damaged; run the query again");
            Error::new(ErrorKind::Corrupt, Stage::Result, message).with_source(error)
        })
    }
}

fn metadata_path(result: &Path) -> Path {
    Path::from(format!("{result}.metadata"))
}

/// Writes one result object as batches come.
#[derive(Debug)]
pub(crate) struct ResultWriter {
    store: Arc<dyn ObjectStore>,
    path: Path,
    sink: BufWriter,
    metadata: ResultMetadata,
    /// Whether either object may be there by now.
    finishing: bool,
}

impl ResultWriter {
    pub(crate) async fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        schema: &Schema,
        form: ResultForm,
    ) -> Result<Self> {
        let columns = schema.fields().iter().map(|field| ColumnInfo::of(field)).collect();
        let metadata = ResultMetadata { form, columns, rows: 0, bytes: 0, row_starts: Vec::new() };
        let sink = BufWriter::with_capacity(Arc::clone(&store), path.clone(), PART_BYTES);
        let mut writer = Self { store, path, sink, metadata, finishing: false };
        if form == ResultForm::Csv {
            let mut header = Vec::new();
            write_header(&writer.metadata.columns, &mut header);
            writer.put(header).await?;
        }
        Ok(writer)
    }

    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut out = Vec::with_capacity(batch.num_rows() * 64);
        let ResultMetadata { rows, bytes, row_starts, form, .. } = &mut self.metadata;
        let row_began = |at: usize| {
            if rows.is_multiple_of(ROWS_PER_PAGE_MAX as u64) {
                row_starts.push(*bytes + at as u64);
            }
            *rows += 1;
        };
        match form {
            ResultForm::Csv => write_batch(batch, &mut out, row_began)?,
            ResultForm::Text => write_text(batch, &mut out, row_began)?,
        }
        self.put(out).await
    }

    /// Completes the object, then its description. Until then neither is visible. To be awaited to its end: what a store
    /// does with a write that nobody waits for any more is not known.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.finishing = true;
        self.sink.shutdown().await.map_err(|error| cannot_write(&self.path, error))?;
        let body = serde_json::to_vec(&self.metadata)
            .map_err(|error| Error::internal("a result's description does not serialise").with_source(error))?;
        let path = metadata_path(&self.path);
        self.store.put(&path, body.into()).await.map_err(|error| cannot_write(&path, error))?;
        Ok(())
    }

    /// Gives up: what was sent of the object is discarded, and what a failed [`finish`](Self::finish) left is deleted.
    pub(crate) async fn abort(mut self) {
        if !self.finishing {
            // Fails when nothing was sent yet, which leaves nothing to discard.
            let _ = self.sink.abort().await;
            return;
        }
        for path in [metadata_path(&self.path), self.path] {
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%path, ?error, "an incomplete result object could not be deleted"),
            }
        }
    }

    async fn put(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.metadata.bytes += bytes.len() as u64;
        self.sink.put(Bytes::from(bytes)).await.map_err(|error| cannot_write(&self.path, error))
    }
}

fn cannot_write(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = format!("result \"{path}\" could not be written; check the result store");
    Error::new(ErrorKind::Unavailable, Stage::Result, message).with_source(error)
}
