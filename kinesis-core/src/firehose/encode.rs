//! Sealed records become the bytes of objects: data, and lines for those that failed.
//!
//! Invariant: records in = rows out + failed. The same records, format and schema give the same rows, so a second try
//! after a crash puts the same rows and the same failures under the same names.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use table_core::{BATCH_ROWS, Misfit, Origin, RowDecoder};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::buffer::{Buffer, Entry};
use super::error_output::{ErrorOutputType, FailedRecord, Failure, write_line};
use super::format::{Compression, OutputFormat, ParquetCompression, ParquetFormat, RecordsFormat, Separator};
use super::ledger::SealedObject;
use super::place::Part;
use crate::{Error, ErrorKind, Result};

/// How much goes into one block of Hadoop's Snappy: what its codec reads at once unless it is told otherwise.
const HADOOP_BLOCK_BYTES: usize = 256 * 1024;

/// The bytes of a sealed object and of its failed records.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// None without rows: no object is made.
    pub(super) data: Option<Bytes>,
    pub(super) rows: u64,
    pub(super) failed: BTreeMap<ErrorOutputType, FailedLines>,
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
    buffer: &Buffer,
    schema: Option<SchemaRef>,
    ended: DateTime<Utc>,
) -> Result<Encoded> {
    let mut encoder = Encoder { encoded: Encoded::default(), ended };
    let kept = |encoder: &mut Encoder| {
        let mut kept = Vec::with_capacity(buffer.len());
        for (entry, data, failure) in buffer.records() {
            match failure {
                Some(failure) => encoder.fail(entry, data, failure),
                None => kept.push((entry, data)),
            }
        }
        kept
    };
    let kept = kept(&mut encoder);
    match object.format {
        _ if kept.is_empty() => {}
        OutputFormat::Records(format) => {
            let name = object.path.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            encoder.concatenate(&kept, format, name)?;
        }
        OutputFormat::Parquet(format) => {
            let schema = schema.ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "the delivery stream's state has lost an object's schema")
            })?;
            encoder.convert(&kept, format, schema)?;
        }
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
            failure,
            attempts: 1,
            arrival: entry.arrival,
            data,
            sequence_number: &sequence_number,
            sub_sequence_number: (entry.part != Part::WHOLE).then_some(entry.part.number),
        };
        write_line(record, self.ended, &mut failed.lines);
    }

    fn concatenate(&mut self, records: &[(&Entry, &[u8])], format: RecordsFormat, name: &str) -> Result<()> {
        let bytes = match format.compression() {
            Compression::None => write_records(records, format.separator(), Vec::new()),
            Compression::Gzip => {
                let gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
                write_records(records, format.separator(), gzip).and_then(GzEncoder::finish)
            }
            Compression::Zip => zip(records, format.separator(), name),
            Compression::Snappy => {
                let snappy = snap::write::FrameEncoder::new(Vec::new());
                write_records(records, format.separator(), snappy)
                    .and_then(|snappy| snappy.into_inner().map_err(snap::write::IntoInnerError::into_error))
            }
            Compression::HadoopSnappy => {
                write_records(records, format.separator(), Vec::new()).and_then(|plain| hadoop_snappy(&plain))
            }
        };
        let bytes = bytes
            .map_err(|error| Error::new(ErrorKind::Internal, "records could not be compressed").with_source(error))?;
        self.encoded.rows = records.len() as u64;
        self.encoded.data = Some(bytes.into());
        Ok(())
    }

    fn convert(&mut self, records: &[(&Entry, &[u8])], format: ParquetFormat, schema: SchemaRef) -> Result<()> {
        let internal = |error| Error::new(ErrorKind::Internal, "parquet could not be written").with_source(error);
        let rows = RowDecoder::new(Arc::clone(&schema));
        let rows = rows.map_err(|error| Error::new(error.kind(), error.message().to_owned()).with_source(error))?;
        let mut rows = rows.with_misfit(Misfit::RejectRow);
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties(format))).map_err(internal)?;
        for chunk in records.chunks(BATCH_ROWS) {
            let refused: Vec<_> = chunk.iter().filter(|(_, data)| !rows.push_json(data, Origin::default())).collect();
            let decoded = rows.finish().map_err(|error| Error::new(error.kind(), error.message().to_owned()))?;
            for ((entry, data), reject) in refused.into_iter().zip(decoded.rejects) {
                let column = reject.column.map(|column| format!("column \"{column}\": ")).unwrap_or_default();
                self.fail(entry, data, &Failure::conversion(format!("{column}{}", reject.reason)));
            }
            self.encoded.rows += decoded.batch.num_rows() as u64;
            writer.write(&decoded.batch).map_err(internal)?;
        }
        if self.encoded.rows > 0 {
            self.encoded.data = Some(writer.into_inner().map_err(internal)?.into());
        }
        Ok(())
    }
}

fn properties(format: ParquetFormat) -> WriterProperties {
    let codec = match format.compression() {
        ParquetCompression::Snappy => Codec::SNAPPY,
        ParquetCompression::Gzip => Codec::GZIP(GzipLevel::default()),
        ParquetCompression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        ParquetCompression::Uncompressed => Codec::UNCOMPRESSED,
    };
    WriterProperties::builder().set_compression(codec).build()
}

/// An archive with one file, which is called as the object is, without its end.
fn zip(records: &[(&Entry, &[u8])], separator: Separator, name: &str) -> std::io::Result<Vec<u8>> {
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

fn write_records<W: Write>(records: &[(&Entry, &[u8])], separator: Separator, mut out: W) -> std::io::Result<W> {
    for (_, data) in records {
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
        }
    }

    fn buffer(records: &[&str]) -> Buffer {
        let mut buffer = Buffer::default();
        for (index, data) in (0..).zip(records) {
            let number = SequenceNumber::new(1, ShardId::new(0), index, 2);
            let failure = data.starts_with("fail").then(|| Failure::transform("no".to_owned()));
            buffer.push(number, Part::WHOLE, DateTime::UNIX_EPOCH, data.as_bytes(), failure, None);
        }
        buffer
    }

    #[test]
    fn records_that_do_not_fit_are_put_aside_and_the_rest_is_converted() {
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let format = OutputFormat::Parquet(ParquetFormat::new().with_compression(ParquetCompression::Zstd));
        let records =
            buffer(&[r#"{"a":1,"b":"x","c":0}"#, r#"{"a":"one"}"#, "{", r#"{"A":2}{}"#, r#"{"A":3}"#, "fail"]);
        let encoded = encode(&sealed(format), &records, Some(Arc::new(schema)), DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(encoded.rows, 2);
        let reader = ParquetRecordBatchReaderBuilder::try_new(encoded.data.unwrap()).unwrap().build().unwrap();
        assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
        let failed: Vec<_> = encoded.failed.iter().map(|(output, failed)| (*output, failed.records)).collect();
        use ErrorOutputType::{FormatConversionFailed, ProcessingFailed};
        assert_eq!(failed, [(ProcessingFailed, 1), (FormatConversionFailed, 3)]);
        assert!(encoded.failed[&FormatConversionFailed].first_reason.contains("column \"a\""));
    }

    #[test]
    fn every_compression_reads_back() {
        let long = "x".repeat(HADOOP_BLOCK_BYTES);
        let records = buffer(&["a", &long, "b"]);
        let plain = format!("a\n{long}\nb\n");
        let encoded = |compression| {
            let format = RecordsFormat::new().with_separator(Separator::Newline).with_compression(compression);
            let path = Some("p/x-1.zip".to_owned());
            let object = SealedObject { path, ..sealed(OutputFormat::Records(format)) };
            encode(&object, &records, None, DateTime::UNIX_EPOCH).unwrap().data.unwrap()
        };
        let mut text = String::new();
        snap::read::FrameDecoder::new(encoded(Compression::Snappy).as_ref()).read_to_string(&mut text).unwrap();
        assert!(text == plain);
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(encoded(Compression::Zip))).unwrap();
        text.clear();
        let mut file = archive.by_index(0).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(file.name().unwrap(), "x-1");
        assert!(text == plain);
        let blocks = encoded(Compression::HadoopSnappy);
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
        let encoded = encode(&sealed(OutputFormat::default()), &buffer(&["fail"]), None, DateTime::UNIX_EPOCH).unwrap();
        assert!(encoded.data.is_none() && encoded.rows == 0);
    }

    #[test]
    fn records_are_written_as_they_came() {
        let format = RecordsFormat::new().with_separator(Separator::Newline).with_compression(Compression::Gzip);
        let format = OutputFormat::Records(format);
        assert_eq!(format.extension(), ".gz");
        let encoded = encode(&sealed(format), &buffer(&["a", "b\n"]), None, DateTime::UNIX_EPOCH).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(encoded.data.unwrap().as_ref()).read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), encoded.rows), ("a\nb\n", 2));
        let plain = encode(&sealed(OutputFormat::default()), &buffer(&["a", "b"]), None, DateTime::UNIX_EPOCH).unwrap();
        assert_eq!(plain.data.unwrap().as_ref(), b"ab");
    }
}
