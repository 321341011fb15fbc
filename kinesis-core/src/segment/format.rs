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
//! created in, and the first and last index. A record batch is a *block*: the unit that is fetched and checked. The footer's
//! metadata has `kinesis.blocks`, a JSON array with a [`BlockMeta`] for each: a sparse index by sequence number and time.
//! Blocks may be compressed by buffer, as Arrow has it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{Block, CompressionType, convert::fb_to_schema, root_as_footer};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::rows::Rows;
use crate::error::{Error, Result};
use crate::stream::HashKey;

/// Version of the format; readers refuse a later one.
const FORMAT: &str = "1";
/// Rows of one record batch at most.
const BATCH_ROWS_MAX: usize = 64 * 1024;
/// A record batch is closed once its payload reaches this.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Where the footer has the blocks.
const BLOCKS_KEY: &str = "kinesis.blocks";
/// What an Arrow file ends with: the footer's length and the magic.
const TRAILER_BYTES: usize = 10;

/// How the blocks of segments are compressed, buffer by buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: readers get slices of the file.
    #[default]
    None,
    /// LZ4 frames: fast.
    Lz4,
    /// Zstandard: small.
    Zstd,
}

impl From<Compression> for Option<CompressionType> {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        }
    }
}

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

/// What the footer says about a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlockMeta {
    /// Index of its first record.
    pub(crate) first: u64,
    /// Index of its last record.
    pub(crate) last: u64,
    pub(crate) records: u64,
    /// Latest arrival of any of its records, milliseconds since 1970.
    pub(crate) latest_arrival_ms: i64,
    /// CRC32C of its bytes in the file.
    pub(crate) crc32c: u32,
}

/// The bytes of a segment.
#[derive(Debug)]
pub(crate) struct EncodedSegment {
    pub(crate) file: Vec<u8>,
    pub(crate) blocks: usize,
    /// Where the footer begins that ends the file.
    pub(crate) footer_at: usize,
}

/// The bytes of a segment of these rows, which are at least one and rise by index.
pub(crate) fn encode(owner: &SegmentOwner, rows: &[SegmentRow], compression: Compression) -> Result<EncodedSegment> {
    let payload: usize = rows.iter().map(|row| row.data.len() + row.partition_key.len() + 64).sum();
    let schema = schema(owner, rows);
    let write = || -> Result<EncodedSegment, ArrowError> {
        let options = IpcWriteOptions::default().try_with_compression(compression.into())?;
        let mut writer = FileWriter::try_new_with_options(Vec::with_capacity(payload + 8192), &schema, options)?;
        let mut blocks = Vec::new();
        for batch in batches(rows) {
            let begins = writer.get_ref().len();
            writer.write(&record_batch(&schema, batch)?)?;
            blocks.push(BlockMeta {
                first: batch.first().map_or(0, |row| row.index),
                last: batch.last().map_or(0, |row| row.index),
                records: batch.len() as u64,
                latest_arrival_ms: batch.iter().map(|row| row.arrival_ms).max().unwrap_or(0),
                crc32c: crc32c::crc32c(writer.get_ref().get(begins..).unwrap_or_default()),
            });
        }
        let json = serde_json::to_string(&blocks).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        writer.write_metadata(BLOCKS_KEY, json);
        let file = writer.into_inner()?;
        let footer_at = footer(&file)?.start;
        Ok(EncodedSegment { file, blocks: blocks.len(), footer_at })
    };
    write()
        .map_err(|error| Error::new(durable_core::ErrorKind::Internal, "a segment was not encoded").with_source(error))
}

/// Where the footer of a file, or of its end, lies in these bytes.
fn footer(end: &[u8]) -> Result<Range<usize>, ArrowError> {
    let trailer = end.len().checked_sub(TRAILER_BYTES).ok_or_else(|| damaged("too short"))?;
    let ending = end.get(trailer..).and_then(|ending| ending.first_chunk()).ok_or_else(|| damaged("too short"))?;
    let begins = trailer.checked_sub(read_footer_length(*ending)?).ok_or_else(|| damaged("no footer"))?;
    Ok(begins..trailer)
}

fn damaged(what: &str) -> ArrowError {
    ArrowError::IpcError(what.to_owned())
}

/// What a segment's footer says: its blocks, and how to read them.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    decoder: FileDecoder,
    blocks: Vec<(Block, BlockMeta)>,
}

impl SegmentIndex {
    /// The index that a file, or the end of one from its footer on, has.
    pub(crate) fn read(end: &[u8]) -> Result<Self, ArrowError> {
        let footer = root_as_footer(end.get(footer(end)?).unwrap_or_default())
            .map_err(|error| damaged(&format!("no footer: {error}")))?;
        let schema = fb_to_schema(footer.schema().ok_or_else(|| damaged("no schema"))?);
        if schema.metadata().get("kinesis.segment").map(String::as_str) != Some(FORMAT) {
            return Err(damaged("not a segment of a format that this build reads"));
        }
        let entry = footer.custom_metadata().into_iter().flatten().find(|entry| entry.key() == Some(BLOCKS_KEY));
        let metas: Option<Vec<BlockMeta>> = entry.and_then(|entry| serde_json::from_str(entry.value()?).ok());
        let blocks: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
        let metas = metas.filter(|metas| metas.len() == blocks.len()).unwrap_or_default();
        let decoder = FileDecoder::new(Arc::new(schema), footer.version());
        // The first files had no metas: such a one is read whole.
        let metas = metas.into_iter().map(Some).chain(std::iter::repeat(None));
        let unknown = BlockMeta { first: 0, last: u64::MAX, records: 0, latest_arrival_ms: i64::MAX, crc32c: 0 };
        let blocks =
            blocks.into_iter().zip(metas).map(|(block, meta)| (block, meta.unwrap_or_else(|| unknown.clone())));
        Ok(Self { decoder, blocks: blocks.collect() })
    }

    /// Its memory, about.
    pub(crate) fn bytes(&self) -> usize {
        512 + self.blocks.len() * size_of::<(Block, BlockMeta)>()
    }

    /// The place of the first block whose meta `wanted` holds of.
    pub(crate) fn find(&self, wanted: impl Fn(&BlockMeta) -> bool) -> Option<usize> {
        self.blocks.iter().position(|(_, meta)| wanted(meta))
    }

    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn meta(&self, place: usize) -> Option<&BlockMeta> {
        self.blocks.get(place).map(|(_, meta)| meta)
    }

    /// Where the bytes of a block lie in the file.
    pub(crate) fn range(&self, place: usize) -> Option<Range<u64>> {
        let (from, length) = extent(&self.blocks.get(place)?.0)?;
        Some(from as u64..(from + length) as u64)
    }

    /// The rows of the block at `place`, whose bytes these are.
    pub(crate) fn rows(&self, place: usize, bytes: Bytes) -> Result<Option<Rows>, ArrowError> {
        let (block, _) = self.blocks.get(place).ok_or_else(|| damaged("no such block"))?;
        let batch = self.decoder.read_record_batch(block, &Buffer::from(bytes))?;
        batch.map(|batch| read_columns(&batch).ok_or_else(|| damaged("other columns"))).transpose()
    }
}

/// The rows of a whole segment's bytes; their data are slices of them. The bytes were checked against their CRC32C before.
pub(crate) fn decode(file: &Bytes) -> Result<Vec<Rows>, ArrowError> {
    let index = SegmentIndex::read(file)?;
    let mut rows = Vec::with_capacity(index.len());
    for place in 0..index.len() {
        let range = index.range(place).ok_or_else(|| damaged("no batch"))?;
        let within = |at: u64| usize::try_from(at).ok().filter(|at| *at <= file.len());
        let (from, to) = within(range.start).zip(within(range.end)).ok_or_else(|| damaged("no batch"))?;
        rows.extend(index.rows(place, file.slice(from..to))?);
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
    let metadata: HashMap<_, _> = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Arc::new(Schema::new(columns()).with_metadata(metadata))
}

/// The columns of a segment.
pub(crate) fn columns() -> Vec<Field> {
    vec![
        Field::new("sequence_index", DataType::UInt64, false),
        Field::new("arrival", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("partition_key", DataType::Utf8, false),
        Field::new("hash_key", DataType::FixedSizeBinary(16), false),
        Field::new("data", DataType::Binary, false),
    ]
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

/// Rows as a batch of [`columns`].
pub(crate) fn record_batch(schema: &SchemaRef, rows: &[SegmentRow]) -> Result<RecordBatch, ArrowError> {
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

    fn whole(rows: &[SegmentRow], compression: Compression) -> Bytes {
        encode(&owner(), rows, compression).unwrap().file.into()
    }

    #[test]
    fn data_are_slices_of_the_file() {
        let file = whole(&[row(1, vec![7; 1000]), row(4, vec![8; 1000])], Compression::None);
        let rows = decode(&file).unwrap();
        assert_eq!(rows[0].indices.as_ref(), [1, 4]);
        assert!(file.as_ptr_range().contains(&rows[0].data.as_ptr()));
    }

    #[test]
    fn a_compressed_segment_holds_the_same_in_less() {
        let rows: Vec<_> = (0..50).map(|index| row(index, vec![7; 1000])).collect();
        let plain = whole(&rows, Compression::None);
        for compression in [Compression::Lz4, Compression::Zstd] {
            let file = whole(&rows, compression);
            assert!(file.len() * 4 < plain.len(), "{compression:?}: {} of {}", file.len(), plain.len());
            assert_eq!(decode(&file).unwrap()[0].data, decode(&plain).unwrap()[0].data);
        }
    }

    #[test]
    fn a_large_segment_has_several_blocks_that_are_read_alone() {
        let rows: Vec<_> = (0..9).map(|index| row(index * 10, vec![1; 3 << 20])).collect();
        let encoded = encode(&owner(), &rows, Compression::None).unwrap();
        let file = Bytes::from(encoded.file);
        let index = SegmentIndex::read(&file.slice(encoded.footer_at..)).unwrap();
        assert_eq!((encoded.blocks, index.len()), (5, 5));
        let mut indices = Vec::new();
        for place in 0..index.len() {
            let range = index.range(place).unwrap();
            let [from, to] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
            let block = file.slice(from..to);
            let meta = index.meta(place).unwrap();
            assert_eq!(crc32c::crc32c(&block), meta.crc32c);
            let rows = index.rows(place, block).unwrap().unwrap();
            assert_eq!((meta.first, meta.last), (rows.indices[0], *rows.indices.last().unwrap()));
            indices.extend_from_slice(&rows.indices);
        }
        assert_eq!(indices, (0..9).map(|index| index * 10).collect::<Vec<u64>>());
        assert_eq!(index.find(|block| block.last >= 35), Some(2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_cut_file_is_refused(cut in any::<prop::sample::Index>()) {
            let file = whole(&[row(1, vec![7; 300])], Compression::None);
            prop_assert!(decode(&file.slice(..cut.index(file.len()))).is_err());
        }
    }
}
