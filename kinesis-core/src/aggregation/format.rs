//! The aggregated form: magic, protobuf, MD5 of the protobuf.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | `F3 89 9A C2` |
//! | any | [`AggregatedRecord`], proto2 |
//! | 16 | MD5 of those |

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

/// What an aggregate begins with.
const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// Bytes of an MD5.
const DIGEST_BYTES: usize = 16;
/// What an aggregate has besides its protobuf.
pub(super) const FRAME_BYTES: usize = MAGIC.len() + DIGEST_BYTES;

/// User records, and their keys once each.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    pub(super) partition_key_table: Vec<String>,
    /// Decimal numbers.
    #[prost(string, repeated, tag = "2")]
    pub(super) explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(super) records: Vec<Entry>,
}

/// One user record: its keys by their places in the tables.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(uint64, required, tag = "1")]
    pub(super) partition_key_index: u64,
    #[prost(uint64, optional, tag = "2")]
    pub(super) explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", required, tag = "3")]
    pub(super) data: Bytes,
    #[prost(message, repeated, tag = "4")]
    pub(super) tags: Vec<Tag>,
}

/// Defined by the form and used by nobody; kept so that it is not taken for damage.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tag {
    #[prost(string, required, tag = "1")]
    key: String,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// The payload of an aggregate.
pub(super) fn encode(records: &AggregatedRecord) -> Bytes {
    let mut payload = Vec::with_capacity(FRAME_BYTES + records.encoded_len());
    payload.extend_from_slice(&MAGIC);
    payload.extend_from_slice(&records.encode_to_vec());
    let digest = Md5::digest(payload.get(MAGIC.len()..).unwrap_or_default());
    payload.extend_from_slice(&digest);
    payload.into()
}

/// The aggregate that a payload is, if it is one. Data are slices of it.
pub(super) fn decode(payload: &Bytes) -> Option<AggregatedRecord> {
    let digest_at = payload.len().checked_sub(DIGEST_BYTES).filter(|at| *at >= MAGIC.len())?;
    let (begin, digest) = (payload.get(..MAGIC.len())?, payload.get(digest_at..)?);
    let is_whole = begin == MAGIC && digest == Md5::digest(payload.get(MAGIC.len()..digest_at)?).as_slice();
    let records = is_whole.then(|| AggregatedRecord::decode(payload.slice(MAGIC.len()..digest_at)))?;
    records.ok()
}

/// Bytes of a field with a tag below 16 and a value of so many bytes.
pub(super) fn field_bytes(value: usize) -> usize {
    1 + prost::length_delimiter_len(value) + value
}
