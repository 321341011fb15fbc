//! ORC files (feature `orc`), by a writer that has flat columns only.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::encode::RowWriter;
use super::format::OrcFormat;
use crate::{Error, Result};

/// Refuses a schema that the writer has not all types of, and every schema without the feature.
///
/// # Errors
///
/// `InvalidInput` that names the column.
pub(super) fn check_flat(schema: &Schema) -> Result<()> {
    if cfg!(not(feature = "orc")) {
        return Err(Error::invalid("ORC is written with the feature orc only: switch it on, or take Parquet"));
    }
    match schema.fields().iter().find(|field| !is_flat(field.data_type())) {
        Some(field) => {
            let (name, data_type) = (field.name(), field.data_type());
            Err(Error::invalid(format!("column \"{name}\" is {data_type}, which is not written as ORC: take Parquet")))
        }
        None => Ok(()),
    }
}

/// The schema with text for what the writer has no type for.
pub(super) fn flattened(schema: &Schema) -> SchemaRef {
    let flat = |field: &Arc<Field>| {
        if is_flat(field.data_type()) {
            return Arc::clone(field);
        }
        Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
    };
    let fields: Vec<_> = schema.fields().iter().map(flat).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn is_flat(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary => true,
        DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(|zone| zone == "UTC"),
        _ => false,
    }
}

#[cfg(not(feature = "orc"))]
pub(super) fn orc(_: OrcFormat) -> impl FnOnce(SchemaRef) -> Result<Unavailable> {
    |schema| check_flat(&schema).map(|()| Unavailable)
}

/// There is no writer without the feature.
#[cfg(not(feature = "orc"))]
pub(super) struct Unavailable;

#[cfg(not(feature = "orc"))]
impl RowWriter for Unavailable {
    fn write(&mut self, batch: &arrow_array::RecordBatch) -> Result<()> {
        check_flat(&batch.schema())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}

#[cfg(feature = "orc")]
pub(super) use writer::orc;

#[cfg(feature = "orc")]
mod writer {
    use std::io::Write;
    use std::sync::{Mutex, PoisonError};

    use arrow_array::RecordBatch;
    use orc_rust::arrow_writer::{ArrowWriter, ArrowWriterBuilder};
    use orc_rust::compression::CompressionType;
    use orc_rust::error::OrcError;

    use super::super::format::OrcCompression;
    use super::{Arc, OrcFormat, Result, RowWriter, SchemaRef, check_flat};
    use crate::{Error, ErrorKind};

    /// The writer takes what it writes to, and does not give it back.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(in super::super) struct OrcWriter {
        writer: ArrowWriter<Shared>,
        out: Shared,
    }

    pub(in super::super) fn orc(format: OrcFormat) -> impl FnOnce(SchemaRef) -> Result<OrcWriter> {
        move |schema| {
            check_flat(&schema)?;
            let out = Shared::default();
            let builder = ArrowWriterBuilder::new(out.clone(), schema);
            let builder = match format.compression() {
                OrcCompression::Snappy => builder.with_compression(CompressionType::Snappy),
                OrcCompression::Zlib => builder.with_compression(CompressionType::Zlib),
                OrcCompression::Zstd => builder.with_compression(CompressionType::Zstd),
                OrcCompression::Uncompressed => builder,
            };
            Ok(OrcWriter { writer: builder.try_build().map_err(no_orc)?, out })
        }
    }

    impl RowWriter for OrcWriter {
        fn write(&mut self, batch: &RecordBatch) -> Result<()> {
            self.writer.write(batch).map_err(no_orc)
        }

        fn finish(self) -> Result<Vec<u8>> {
            self.writer.close().map_err(no_orc)?;
            Ok(std::mem::take(&mut *self.out.0.lock().unwrap_or_else(PoisonError::into_inner)))
        }
    }

    fn no_orc(error: OrcError) -> Error {
        Error::new(ErrorKind::Internal, "ORC could not be written").with_source(error)
    }
}
