//! Sealed records become the bytes of objects: data, and lines for those that failed.
//!
//! Invariant: records in = rows out + failed. The same records, format and schema give the same rows, so a second try
//! after a crash puts the same rows and the same failures under the same names.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use table_core::{BATCH_ROWS, Misfit, Origin, RowDecoder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::buffer::{Buffer, Entry};
use super::error_output::{ErrorOutputType, FailedRecord, Failure, write_line};
use super::format::{Compression, OutputFormat, ParquetCompression, ParquetFormat, RecordsFormat, Separator};
use super::ledger::SealedObject;
use super::orc::orc;
use super::place::Part;
use crate::{Error, ErrorKind, Result};

/// How much goes into one block of Hadoop's Snappy: what its codec reads at once unless it is told otherwise.
const HADOOP_BLOCK_BYTES: usize = 256 * 1024;

/// The bytes of a sealed object, of its failed records, and of what they came as.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) payload: Payload,
    pub(super) failed: BTreeMap<ErrorOutputType, FailedLines>,
    pub(super) backup: Option<Bytes>,
}

/// What is delivered of a sealed object.
#[derive(Debug, Default)]
pub(super) enum Payload {
    /// There are no rows: no object is made.
    #[default]
    Nothing,
    Object {
        data: Bytes,
        rows: u64,
    },
    /// For a destination that takes records one by one.
    Records(Vec<(Entry, Bytes)>),
}

/// What becomes of the records that have not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Records,
}

/// Lines of failed records.
#[derive(Debug, Default)]
pub(super) struct FailedLines {
    pub(super) lines: Vec<u8>,
    pub(super) records: u64,
    pub(super) first_reason: String,
}

/// Encodes the records of `buffer` as `object` promises; `ended` is when that was tried.
///
/// # Errors
///
/// `InvalidInput` if the schema has types that JSON is not decoded to, `Internal` if a writer fails.
pub(super) fn encode(
    object: &SealedObject,
    buffer: Buffer,
    schema: Option<SchemaRef>,
    shape: Shape,
    ended: DateTime<Utc>,
) -> Result<Encoded> {
    let mut encoder = Encoder { encoded: Encoded::default(), ended };
    if let Some(backup) = &object.backup {
        let format = RecordsFormat::new().with_compression(backup.compression);
        encoder.encoded.backup = Some(concatenate(buffer.sources(), format, &backup.path)?);
    }
    let mut kept = Vec::with_capacity(buffer.len());
    for (entry, data, failure) in buffer.records() {
        match failure {
            Some(failure) => encoder.fail(entry, data, failure),
            None => kept.push((entry, data)),
        }
    }
    match object.format {
        _ if kept.is_empty() || object.path.is_none() => {}
        _ if shape == Shape::Records => encoder.encoded.payload = Payload::Records(buffer.into_kept()),
        OutputFormat::Records(format) => {
            let records = kept.iter().map(|(_, data)| *data);
            let data = concatenate(records, format, object.path.as_deref().unwrap_or_default())?;
            encoder.encoded.payload = Payload::Object { data, rows: kept.len() as u64 };
        }
        OutputFormat::Parquet(format) => encoder.convert(&kept, parquet(format), needed(schema)?)?,
        OutputFormat::Orc(format) => encoder.convert(&kept, orc(format), needed(schema)?)?,
    }
    Ok(encoder.encoded)
}

struct Encoder {
    encoded: Encoded,
    ended: DateTime<Utc>,
}

impl Encoder {
    fn fail(&mut self, entry: &Entry, data: &[u8], failure: &Failure) {
        let failed = self.encoded.failed.entry(failure.output).or_default();
        if failed.records == 0 {
            failed.first_reason.clone_from(&failure.message);
        }
        failed.records += 1;
        let sequence_number = entry.sequence_number.to_string();
        let record = FailedRecord {
            output: failure.output,
            code: failure.code,
            message: &failure.message,
            attempts: 1,
            arrival: entry.arrival,
            data,
            sequence_number: &sequence_number,
            sub_sequence_number: (entry.part != Part::WHOLE).then_some(entry.part.number),
            members: &[],
        };
        write_line(record, self.ended, &mut failed.lines);
    }

    fn convert<W: RowWriter>(
        &mut self,
        records: &[(&Entry, &[u8])],
        writer: impl FnOnce(SchemaRef) -> Result<W>,
        schema: SchemaRef,
    ) -> Result<()> {
        let rows = RowDecoder::new(Arc::clone(&schema));
        let rows = rows.map_err(|error| Error::new(error.kind(), error.message().to_owned()).with_source(error))?;
        let mut rows = rows.with_misfit(Misfit::RejectRow);
        let mut writer = writer(schema)?;
        let mut rows_kept = 0;
        for chunk in records.chunks(BATCH_ROWS) {
            let refused: Vec<_> = chunk.iter().filter(|(_, data)| !rows.push_json(data, Origin::default())).collect();
            let decoded = rows.finish().map_err(|error| Error::new(error.kind(), error.message().to_owned()))?;
            for ((entry, data), reject) in refused.into_iter().zip(decoded.rejects) {
                let column = reject.column.map(|column| format!("column \"{column}\": ")).unwrap_or_default();
                self.fail(entry, data, &Failure::conversion(format!("{column}{}", reject.reason)));
            }
            rows_kept += decoded.batch.num_rows() as u64;
            writer.write(&decoded.batch)?;
        }
        if rows_kept > 0 {
            let data = writer.finish()?.into();
            self.encoded.payload = Payload::Object { data, rows: rows_kept };
        }
        Ok(())
    }
}

/// The bytes of the object at `path` that holds these records.
fn concatenate<'a>(records: impl Iterator<Item = &'a [u8]>, format: RecordsFormat, path: &str) -> Result<Bytes> {
    let separator = format.separator();
    let bytes = match format.compression() {
        Compression::None => write_records(records, separator, Vec::new()),
        Compression::Gzip => {
            let gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
            write_records(records, separator, gzip).and_then(GzEncoder::finish)
        }
        Compression::Zip => zip(records, separator, path.rsplit('/').next().unwrap_or_default()),
        Compression::Snappy => {
            let snappy = snap::write::FrameEncoder::new(Vec::new());
            write_records(records, separator, snappy)
                .and_then(|snappy| snappy.into_inner().map_err(snap::write::IntoInnerError::into_error))
        }
        Compression::HadoopSnappy => {
            write_records(records, separator, Vec::new()).and_then(|plain| hadoop_snappy(&plain))
        }
    };
    let failed = |error| Error::new(ErrorKind::Internal, "records could not be compressed").with_source(error);
    bytes.map(Bytes::from).map_err(failed)
}

fn needed(schema: Option<SchemaRef>) -> Result<SchemaRef> {
    schema.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the delivery stream's state has lost an object's schema"))
}

/// Batches in, the bytes of a file out.
pub(super) trait RowWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    fn finish(self) -> Result<Vec<u8>>;
}

impl RowWriter for ArrowWriter<Vec<u8>> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        Self::write(self, batch).map_err(no_parquet)
    }

    fn finish(self) -> Result<Vec<u8>> {
        self.into_inner().map_err(no_parquet)
    }
}

fn no_parquet(error: ParquetError) -> Error {
    Error::new(ErrorKind::Internal, "parquet could not be written").with_source(error)
}

fn parquet(format: ParquetFormat) -> impl FnOnce(SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
    let codec = match format.compression() {
        ParquetCompression::Snappy => Codec::SNAPPY,
        ParquetCompression::Gzip => Codec::GZIP(GzipLevel::default()),
        ParquetCompression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        ParquetCompression::Uncompressed => Codec::UNCOMPRESSED,
    };
    let properties = WriterProperties::builder().set_compression(codec).build();
    move |schema| ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(no_parquet)
}

/// An archive with one file, which is called as the object is, without its end.
fn zip<'a>(records: impl Iterator<Item = &'a [u8]>, separator: Separator, name: &str) -> std::io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(name.strip_suffix(".zip").unwrap_or(name), SimpleFileOptions::default())?;
    Ok(write_records(records, separator, archive)?.finish()?.into_inner())
}

/// Blocks, each with its length before and after compression in front of it, big-endian.
fn hadoop_snappy(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = snap::raw::Encoder::new();
    let mut out = Vec::new();
    for block in plain.chunks(HADOOP_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        for bytes in [block.len(), compressed.len()] {
            out.extend(u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
        }
        out.extend(compressed);
    }
    Ok(out)
}

fn write_records<'a, W: Write>(
    records: impl Iterator<Item = &'a [u8]>,
    separator: Separator,
    mut out: W,
) -> std::io::Result<W> {
    for data in records {
        out.write_all(data)?;
        if separator == Separator::Newline && !data.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use arrow_schema::{DataType, Field, Schema};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::super::buffer::Push;
    use super::*;
    use crate::stream::{SequenceNumber, ShardId};

    fn sealed(format: OutputFormat) -> SealedObject {
        SealedObject {
            path: Some("x".to_owned()),
            errors: BTreeMap::new(),
            failed: None,
            partition: super::super::event::PartitionKeys::default(),
            format,
            schema: None,
            records: 0,
            bytes: 0,
            members: BTreeMap::new(),
            unpacking: super::super::unpack::Unpacking::default(),
            backup: None,
        }
    }

    fn buffer(records: &[&str]) -> Buffer {
        let mut buffer = Buffer::default();
        for (index, data) in (0..).zip(records) {
            let record = Push {
                sequence_number: SequenceNumber::new(1, ShardId::new(0), index, 2),
                part: Part::WHOLE,
                arrival: DateTime::UNIX_EPOCH,
                data: data.as_bytes(),
                source: None,
                previous: None,
                signature: None,
            };
            buffer.push(record, data.starts_with("fail").then(|| Failure::transform("no".to_owned())));
        }
        buffer
    }

    fn encoded(object: &SealedObject, buffer: Buffer, schema: Option<SchemaRef>) -> Encoded {
        encode(object, buffer, schema, Shape::Object, DateTime::UNIX_EPOCH).unwrap()
    }

    fn object(encoded: Encoded) -> (Bytes, u64) {
        match encoded.payload {
            Payload::Object { data, rows } => (data, rows),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_that_do_not_fit_are_put_aside_and_the_rest_is_converted() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let format = OutputFormat::Parquet(ParquetFormat::new().with_compression(ParquetCompression::Zstd));
        let records =
            buffer(&[r#"{"a":1,"b":"x","c":0}"#, r#"{"a":"one"}"#, "{", r#"{"A":2}{}"#, r#"{"A":3}"#, "fail"]);
        let encoded = encoded(&sealed(format), records, Some(Arc::new(schema)));
        let failed: Vec<_> = encoded.failed.iter().map(|(output, failed)| (*output, failed.records)).collect();
        use ErrorOutputType::{FormatConversionFailed, ProcessingFailed};
        assert_eq!(failed, [(ProcessingFailed, 1), (FormatConversionFailed, 3)]);
        assert!(encoded.failed[&FormatConversionFailed].first_reason.contains("column \"a\""));
        let (data, rows) = object(encoded);
        assert_eq!(rows, 2);
        let reader = ParquetRecordBatchReaderBuilder::try_new(data).unwrap().build().unwrap();
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    }

    #[test]
    fn every_compression_reads_back() {
        let long = "x".repeat(HADOOP_BLOCK_BYTES);
        let records = ["a", &long, "b"];
        let plain = format!("a\n{long}\nb\n");
        let compressed = |compression| {
            let format = RecordsFormat::new().with_separator(Separator::Newline).with_compression(compression);
            let path = Some("p/x-1.zip".to_owned());
            let sealed = SealedObject { path, ..sealed(OutputFormat::Records(format)) };
            object(encoded(&sealed, buffer(&records), None)).0
        };
        let mut text = String::new();
        snap::read::FrameDecoder::new(compressed(Compression::Snappy).as_ref()).read_to_string(&mut text).unwrap();
        assert!(text == plain);
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(compressed(Compression::Zip))).unwrap();
        text.clear();
        let mut file = archive.by_index(0).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(file.name().unwrap(), "x-1");
        assert!(text == plain);
        let blocks = compressed(Compression::HadoopSnappy);
        let (mut rest, mut text) = (blocks.as_ref(), Vec::new());
        while let Some((lengths, block)) = rest.split_first_chunk::<8>() {
            let [plain, compressed] =
                [0, 4].map(|at| u32::from_be_bytes(lengths[at..at + 4].try_into().unwrap()) as usize);
            let block = &block[..compressed];
            text.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
            assert!(plain <= HADOOP_BLOCK_BYTES);
            rest = &rest[8 + compressed..];
        }
        assert!(text == plain.as_bytes());
    }

    #[test]
    fn nothing_but_failures_makes_no_object() {
        let encoded = encoded(&sealed(OutputFormat::default()), buffer(&["fail"]), None);
        assert!(matches!(encoded.payload, Payload::Nothing));
    }

    #[test]
    fn records_are_written_as_they_came() {
        let format = RecordsFormat::new().with_separator(Separator::Newline).with_compression(Compression::Gzip);
        let format = OutputFormat::Records(format);
        assert_eq!(format.extension(), ".gz");
        let (data, rows) = object(encoded(&sealed(format), buffer(&["a", "b\n"]), None));
        let mut text = String::new();
        flate2::read::GzDecoder::new(data.as_ref()).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), rows), ("a\nb\n", 2));
        let (plain, _) = object(encoded(&sealed(OutputFormat::default()), buffer(&["a", "b"]), None));
        assert_eq!(plain.as_ref(), b"ab");
    }
}
