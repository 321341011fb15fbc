//! A sealed segment: an Arrow IPC file, uncompressed, that any Arrow reader opens.
//!
//! Invariant: nothing is read out of a segment whose length and CRC32C are not those its shard's checkpoint names.
//!
//! | column | type | content |
//! |---|---|---|
//! | `sequence_index` | `UInt64` | rises; with the shard and the arrival it makes the sequence number |
//! | `arrival` | `Timestamp(ms, UTC)` | when the record was put |
//! | `partition_key` | `Utf8` | the key |
//! | `hash_key` | `FixedSizeBinary(16)` | the routing hash, big-endian |
//! | `data` | `Binary` | the payload |
//!
//! The schema's metadata names the format (`kinesis.segment` = 1), the stream, the shard, the second the shard was
//! created in, and the first and last index.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::FileWriter;
use arrow_ipc::{Block, convert::fb_to_schema, root_as_footer};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;

use super::rows::Rows;
use crate::error::{Error, Result};
use crate::stream::HashKey;

/// Version of the format; readers refuse a later one.
const FORMAT: &str = "1";
/// Rows of one record batch at most.
const BATCH_ROWS_MAX: usize = 64 * 1024;
/// A record batch is closed once its payload reaches this.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// What an Arrow file ends with: the footer's length and the magic.
const TRAILER_BYTES: usize = 10;

/// A record on its way into a segment.
#[derive(Clone, Debug)]
pub(crate) struct SegmentRow {
    pub(crate) index: u64,
    pub(crate) arrival_ms: i64,
    pub(crate) partition_key: crate::read::PartitionKey,
    pub(crate) hash_key: HashKey,
    pub(crate) data: Bytes,
}

/// Whose segment it is.
#[derive(Clone, Debug)]
pub(crate) struct SegmentOwner {
    pub(crate) stream: String,
    pub(crate) shard: String,
    pub(crate) shard_created_secs: u64,
}

/// The bytes of a segment of these rows, which are at least one and rise by index.
pub(crate) fn encode(owner: &SegmentOwner, rows: &[SegmentRow]) -> Result<Vec<u8>> {
    let payload: usize = rows.iter().map(|row| row.data.len() + row.partition_key.len() + 64).sum();
    let schema = schema(owner, rows);
    let write = || -> Result<Vec<u8>, ArrowError> {
        let mut writer = FileWriter::try_new(Vec::with_capacity(payload + 8192), &schema)?;
        for batch in batches(rows) {
            writer.write(&record_batch(&schema, batch)?)?;
        }
        writer.into_inner()
    };
    write()
        .map_err(|error| Error::new(durable_core::ErrorKind::Internal, "a segment was not encoded").with_source(error))
}

/// The rows of a segment's bytes; their data are slices of them. The bytes were checked against their CRC32C before.
pub(crate) fn decode(file: Bytes) -> Result<Vec<Rows>, ArrowError> {
    let file = Buffer::from(file);
    let damaged = |what: &str| ArrowError::IpcError(what.to_owned());
    let trailer = file.len().checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("too short"))?;
    let ending = file.get(trailer..).and_then(|ending| ending.first_chunk()).ok_or_else(|| damaged("too short"))?;
    let footer_at = trailer.checked_sub(read_footer_length(*ending)?).ok_or_else(|| damaged("no footer"))?;
    let footer = root_as_footer(file.get(footer_at..trailer).unwrap_or_default())
        .map_err(|error| damaged(&format!("no footer: {error}")))?;
    let schema = fb_to_schema(footer.schema().ok_or_else(|| damaged("no schema"))?);
    if schema.metadata().get("kinesis.segment").map(String::as_str) != Some(FORMAT) {
        return Err(damaged("not a segment of a format that this build reads"));
    }
    let decoder = FileDecoder::new(Arc::new(schema), footer.version());
    let mut rows = Vec::new();
    for block in footer.recordBatches().into_iter().flatten() {
        let (offset, length) =
            extent(block).filter(|(at, len)| at + len <= file.len()).ok_or_else(|| damaged("no batch"))?;
        let batch = decoder.read_record_batch(block, &file.slice_with_length(offset, length))?;
        rows.extend(batch.map(|batch| read_columns(&batch).ok_or_else(|| damaged("other columns"))).transpose()?);
    }
    Ok(rows)
}

fn extent(block: &Block) -> Option<(usize, usize)> {
    let length = i64::from(block.metaDataLength()).checked_add(block.bodyLength())?;
    let (offset, length) = (usize::try_from(block.offset()).ok()?, usize::try_from(length).ok()?);
    offset.checked_add(length).map(|_| (offset, length))
}

fn read_columns(batch: &RecordBatch) -> Option<Rows> {
    let column = |name: &str| batch.column_by_name(name);
    let keys = column("partition_key")?.as_string_opt::<i32>()?;
    let data = column("data")?.as_binary_opt::<i32>()?;
    Some(Rows {
        indices: column("sequence_index")?.as_primitive_opt::<UInt64Type>()?.values().clone(),
        arrivals: column("arrival")?.as_primitive_opt::<TimestampMillisecondType>()?.values().clone(),
        keys: share(keys.values()),
        key_offsets: keys.offsets().clone(),
        hashes: column("hash_key")?.as_fixed_size_binary_opt().filter(|hashes| hashes.value_length() == 16)?.clone(),
        data: share(data.values()),
        data_offsets: data.offsets().clone(),
    })
}

/// The same memory as `Bytes`.
fn share(buffer: &Buffer) -> Bytes {
    struct Shared(Buffer);
    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    Bytes::from_owner(Shared(buffer.clone()))
}

fn schema(owner: &SegmentOwner, rows: &[SegmentRow]) -> SchemaRef {
    let index = |row: Option<&SegmentRow>| row.map_or(0, |row| row.index).to_string();
    let metadata = [
        ("kinesis.segment", FORMAT.to_owned()),
        ("kinesis.stream", owner.stream.clone()),
        ("kinesis.shard", owner.shard.clone()),
        ("kinesis.shard_created_secs", owner.shard_created_secs.to_string()),
        ("kinesis.first_index", index(rows.first())),
        ("kinesis.last_index", index(rows.last())),
    ];
    let fields = vec![
        Field::new("sequence_index", DataType::UInt64, false),
        Field::new("arrival", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("partition_key", DataType::Utf8, false),
        Field::new("hash_key", DataType::FixedSizeBinary(16), false),
        Field::new("data", DataType::Binary, false),
    ];
    let metadata: HashMap<_, _> = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Arc::new(Schema::new(fields).with_metadata(metadata))
}

/// Cuts rows into record batches.
fn batches(rows: &[SegmentRow]) -> impl Iterator<Item = &[SegmentRow]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut payload = 0;
        let full = rest.iter().take(BATCH_ROWS_MAX).position(|row| {
            payload += row.data.len() + row.partition_key.len();
            payload >= BATCH_BYTES
        });
        let (batch, after) = rest.split_at(full.map_or(rest.len().min(BATCH_ROWS_MAX), |last| last + 1));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

fn record_batch(schema: &SchemaRef, rows: &[SegmentRow]) -> Result<RecordBatch, ArrowError> {
    let key_bytes = rows.iter().map(|row| row.partition_key.len()).sum();
    let data_bytes = rows.iter().map(|row| row.data.len()).sum();
    let mut keys = StringBuilder::with_capacity(rows.len(), key_bytes);
    let mut hashes = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
    let mut data = BinaryBuilder::with_capacity(rows.len(), data_bytes);
    for row in rows {
        keys.append_value(row.partition_key.as_str());
        hashes.append_value(row.hash_key.0.to_be_bytes())?;
        data.append_value(&row.data);
    }
    let arrivals: Vec<_> = rows.iter().map(|row| row.arrival_ms).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.index))),
        Arc::new(TimestampMillisecondArray::from(arrivals).with_timezone("UTC")),
        Arc::new(keys.finish()),
        Arc::new(hashes.finish()),
        Arc::new(data.finish()),
    ];
    RecordBatch::try_new(schema.clone(), columns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::read::PartitionKey;

    fn owner() -> SegmentOwner {
        SegmentOwner { stream: "s".into(), shard: "shardId-000000000000".into(), shard_created_secs: 1 }
    }

    fn row(index: u64, data: Vec<u8>) -> SegmentRow {
        let key = format!("key-{index}");
        let hash_key = HashKey::of(&key);
        SegmentRow { index, arrival_ms: 5, partition_key: PartitionKey::new(key.into()), hash_key, data: data.into() }
    }

    #[test]
    fn data_are_slices_of_the_file() {
        let file = Bytes::from(encode(&owner(), &[row(1, vec![7; 1000]), row(4, vec![8; 1000])]).unwrap());
        let rows = decode(file.clone()).unwrap();
        assert_eq!(rows[0].indices.as_ref(), [1, 4]);
        assert!(file.as_ptr_range().contains(&rows[0].data.as_ptr()));
    }

    #[test]
    fn a_large_segment_has_several_batches() {
        let rows: Vec<_> = (0..9).map(|index| row(index, vec![1; 5 << 20])).collect();
        let decoded = decode(encode(&owner(), &rows).unwrap().into()).unwrap();
        assert_eq!(decoded.iter().map(|rows| rows.indices.len()).collect::<Vec<_>>(), [4, 4, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_cut_file_is_refused(cut in any::<prop::sample::Index>()) {
            let file = Bytes::from(encode(&owner(), &[row(1, vec![7; 300])]).unwrap());
            prop_assert!(decode(file.slice(..cut.index(file.len()))).is_err());
        }
    }
}
