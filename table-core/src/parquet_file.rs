//! Parquet files: batches to bytes, and a footer without the rest.

use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::{ArrowWriter, parquet_to_arrow_schema};
use parquet::basic;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::WriterProperties;

use crate::{Error, ErrorKind, Result};

/// How columns are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Zstandard, level 1.
    Zstd,
    /// Snappy: what every engine reads.
    #[default]
    Snappy,
    /// Not at all.
    None,
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "zstd" => Ok(Self::Zstd),
            "snappy" => Ok(Self::Snappy),
            "none" | "uncompressed" => Ok(Self::None),
            _ => Err(Error::invalid(format!("parquet compression \"{text}\" is not one of zstd, snappy, none"))),
        }
    }
}

/// How Parquet files are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParquetSettings {
    compression: Compression,
    row_group_rows: usize,
}

impl Default for ParquetSettings {
    /// Snappy, row groups of 1,048,576 rows.
    fn default() -> Self {
        Self { compression: Compression::default(), row_group_rows: 1 << 20 }
    }
}

impl ParquetSettings {
    /// How columns are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The most rows of a row group; at least 1.
    #[must_use]
    pub fn with_row_group_rows(mut self, rows: usize) -> Self {
        self.row_group_rows = rows.max(1);
        self
    }

    fn properties(&self) -> WriterProperties {
        let compression = match self.compression {
            Compression::Zstd => basic::Compression::ZSTD(basic::ZstdLevel::default()),
            Compression::Snappy => basic::Compression::SNAPPY,
            Compression::None => basic::Compression::UNCOMPRESSED,
        };
        WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(self.row_group_rows))
            .build()
    }
}

/// A whole Parquet file of these batches, in memory.
///
/// # Errors
///
/// `InvalidInput` if a batch has another schema.
///
/// ```
/// use std::sync::Arc;
/// use table_core::arrow::{array::{ArrayRef, Int64Array}, record_batch::RecordBatch};
/// use table_core::parquet_file::{ParquetSettings, write_parquet};
///
/// let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
/// let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
/// let file = write_parquet(batch.schema(), &[batch], &ParquetSettings::default()).unwrap();
/// assert!(file.starts_with(b"PAR1") && file.ends_with(b"PAR1"));
/// ```
pub fn write_parquet(schema: SchemaRef, batches: &[RecordBatch], settings: &ParquetSettings) -> Result<Bytes> {
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(settings.properties())).map_err(unwritable)?;
    for batch in batches {
        // Arrow's writer splits a batch by recursion, one level a row group.
        for start in (0..batch.num_rows()).step_by(settings.row_group_rows) {
            let rows = settings.row_group_rows.min(batch.num_rows() - start);
            writer.write(&batch.slice(start, rows)).map_err(unwritable)?;
        }
    }
    writer.close().map_err(unwritable)?;
    Ok(file.into())
}

fn unwritable(error: ParquetError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the batches cannot be written as one parquet file").with_source(error)
}

/// The first request reads so much of a file's end: enough for most footers.
pub const FOOTER_BYTES_FIRST: u64 = 64 * 1024;

/// The longest footer that is read.
pub const FOOTER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a Parquet file's footer says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Footer {
    /// The file's columns.
    pub schema: SchemaRef,
    /// Rows of all row groups.
    pub rows: u64,
    /// Row groups.
    pub row_groups: usize,
}

/// Reads the footer of a Parquet object by one ranged request, or two if it is long; the data is not read. Dropping the
/// future changes nothing.
///
/// # Errors
///
/// `Corrupt` if the object is no Parquet file; `LimitExceeded` past [`FOOTER_BYTES_MAX`]; `NotFound` or `Unavailable` as the
/// store says.
pub async fn read_footer(store: &dyn ObjectStore, object: &ObjectMeta) -> Result<Footer> {
    let corrupt = |error: ParquetError| {
        let message = format!("\"{}\" has no readable parquet footer", object.location);
        Error::new(ErrorKind::Corrupt, message).with_source(error)
    };
    let mut wanted = object.size.min(FOOTER_BYTES_FIRST);
    let metadata = loop {
        if wanted > object.size.min(FOOTER_BYTES_MAX) {
            let message = format!("\"{}\" claims a footer of {wanted} bytes of {}", object.location, object.size);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let tail = store.get_range(&object.location, object.size - wanted..object.size).await?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&tail, object.size) {
            Ok(()) => break reader.finish().map_err(corrupt)?,
            Err(ParquetError::NeedMoreData(more)) if more as u64 > wanted => wanted = more as u64,
            Err(error) => return Err(corrupt(error)),
        }
    };
    let file = metadata.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()).map_err(corrupt)?;
    let rows = u64::try_from(file.num_rows()).unwrap_or(0);
    Ok(Footer { schema: Arc::new(schema), rows, row_groups: metadata.num_row_groups() })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_footer_is_read_and_damage_is_named() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        let settings = ParquetSettings::default().with_row_group_rows(10).with_compression(Compression::Zstd);
        let file = write_parquet(batch.schema(), &[batch], &settings).unwrap();
        let (store, whole, cut) = (InMemory::new(), Path::from("whole"), Path::from("cut"));
        store.put(&whole, file.clone().into()).await.unwrap();
        store.put(&cut, file.slice(..file.len() - 1).into()).await.unwrap();
        let footer = read_footer(&store, &store.head(&whole).await.unwrap()).await.unwrap();
        assert_eq!((footer.rows, footer.row_groups), (100_000, 10_000));
        let error = read_footer(&store, &store.head(&cut).await.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("\"cut\""), "{error}");
    }
}
