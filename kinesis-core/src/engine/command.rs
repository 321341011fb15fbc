//! What a journal frame says. All numbers are little-endian except hash keys and sequence numbers, which are big-endian.
//!
//! Invariant: what [`Command::decode`] accepts is within its bytes, and any bytes at all are decoded or refused without
//! a panic.
//!
//! | bytes | content | in |
//! |---|---|---|
//! | 1 | version, 1 | all |
//! | 1 | kind: 1 create stream, 2 delete stream, 3 put, 4 commit, 5 delete consumer, 6 retention (no longer written), 7 change, 8 reshard, 9 transaction | all |
//! | rest | JSON of [`NewStream`] | create stream |
//! | 8 | stream: the position of the frame that created it | all but create stream and transaction |
//! | 8 | arrival, milliseconds since 1970 | put |
//! | 1 + n | producer's name, none if empty | put |
//! | 8 | number of the producer's last event here | put with a producer |
//! | 4 | count of records; each record's index is the frame's position plus its place here | put |
//! | 4, 16, 2, 4 | shard, hash key, length of partition key, length of data | put, each record |
//! | n, n | partition key, data | put, each record |
//! | 1 + n | consumer's name | commit, delete consumer |
//! | 4 | count of positions | commit |
//! | 4, 24 | shard, sequence number | commit, each position |
//! | 1 | whether state follows (0 or 1), to the frame's end | commit |
//! | 8 | seconds | retention |
//! | rest | JSON of [`Change`] | change |
//! | rest | JSON of [`Reshard`] | reshard |
//! | 4 | count of frames | transaction |
//! | 4, n | length, frame: a put or a commit | transaction, each frame |

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::read::PartitionKey;
use crate::stream::{Change, HashKey, HashKeyRange, OpenedShard, SequenceNumber, ShardId, StreamConfig, StreamName};

const VERSION: u8 = 1;
const CREATE_STREAM: u8 = 1;
const DELETE_STREAM: u8 = 2;
const PUT: u8 = 3;
const COMMIT: u8 = 4;
const DELETE_CONSUMER: u8 = 5;
const SET_RETENTION: u8 = 6;
const CHANGE: u8 = 7;
const RESHARD: u8 = 8;
const TRANSACTION: u8 = 9;
/// Bytes in front of a record's partition key.
pub(crate) const RECORD_HEADER_BYTES: usize = 26;

/// One decoded frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    CreateStream(NewStream),
    DeleteStream {
        stream: u64,
    },
    Put(Put),
    Commit(Commit),
    DeleteConsumer {
        stream: u64,
        consumer: String,
    },
    Change {
        stream: u64,
        change: Change,
    },
    Reshard {
        stream: u64,
        reshard: Reshard,
    },
    /// Puts and commits that happen together: their frames.
    Transaction(Vec<Bytes>),
}

/// A stream as it is created; its shards are numbered from 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewStream {
    pub(crate) name: StreamName,
    pub(crate) created_ms: i64,
    pub(crate) shards: Vec<HashKeyRange>,
    #[serde(flatten)]
    pub(crate) config: StreamConfig,
}

/// Shards that are opened and, after that, shards that are closed; one may be both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reshard {
    pub(crate) at_ms: i64,
    pub(crate) opened: Vec<OpenedShard>,
    pub(crate) closed: Vec<ShardId>,
}

/// A put, whose records are read one by one out of the frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Put {
    pub(crate) stream: u64,
    pub(crate) arrival_ms: i64,
    pub(crate) producer: Option<(String, u64)>,
    /// Shard and offset of each record.
    pub(crate) records: Vec<(ShardId, u32)>,
}

/// A consumer's positions and state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    pub(crate) stream: u64,
    pub(crate) consumer: String,
    pub(crate) positions: BTreeMap<ShardId, SequenceNumber>,
    pub(crate) state: Option<Bytes>,
}

/// A record on its way into a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutedRecord<'a> {
    pub(crate) shard: ShardId,
    pub(crate) hash_key: HashKey,
    pub(crate) partition_key: &'a str,
    pub(crate) data: &'a [u8],
}

impl RoutedRecord<'_> {
    pub(crate) fn payload_bytes(&self) -> usize {
        self.partition_key.len() + self.data.len()
    }
}

/// A record as it lies in a frame: slices of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FramedRecord {
    pub(crate) hash_key: HashKey,
    pub(crate) partition_key: PartitionKey,
    pub(crate) data: Bytes,
}

/// The frame of a put.
pub(crate) fn encode_put(
    stream: u64,
    arrival_ms: i64,
    producer: Option<(&str, u64)>,
    records: &[RoutedRecord<'_>],
) -> Result<Bytes> {
    let payload: usize = records.iter().map(RoutedRecord::payload_bytes).sum();
    let mut body = BytesMut::with_capacity(payload + records.len() * RECORD_HEADER_BYTES + 160);
    begin(&mut body, PUT, stream);
    body.put_i64_le(arrival_ms);
    put_name(&mut body, producer.map_or("", |(id, _)| id))?;
    if let Some((_, number)) = producer {
        body.put_u64_le(number);
    }
    body.put_u32_le(length(records.len())?);
    for record in records {
        body.put_u32_le(record.shard.index());
        body.put_u128(record.hash_key.0);
        body.put_u16_le(u16::try_from(record.partition_key.len()).map_err(|_| too_long())?);
        body.put_u32_le(length(record.data.len())?);
        body.put_slice(record.partition_key.as_bytes());
        body.put_slice(record.data);
    }
    Ok(body.freeze())
}

/// The record that begins at `offset` of a put's frame.
pub(crate) fn framed_record(frame: &Bytes, offset: u32) -> Result<FramedRecord> {
    let mut cursor = Cursor { frame, at: usize::try_from(offset).unwrap_or(usize::MAX) };
    cursor.u32()?;
    let hash_key = HashKey(cursor.u128()?);
    let (key_bytes, data_bytes) = (cursor.u16()?, cursor.u32()?);
    let partition_key = PartitionKey::new(cursor.slice(usize::from(key_bytes))?);
    let data = cursor.slice(usize::try_from(data_bytes).unwrap_or(usize::MAX))?;
    Ok(FramedRecord { hash_key, partition_key, data })
}

/// Bytes of partition key and data of the record that begins at `offset` of a put's frame.
pub(crate) fn framed_bytes(frame: &Bytes, offset: u32) -> Result<u32> {
    let mut cursor = Cursor { frame, at: usize::try_from(offset).unwrap_or(usize::MAX) };
    cursor.skip(20)?;
    let (key_bytes, data_bytes) = (cursor.u16()?, cursor.u32()?);
    data_bytes.checked_add(u32::from(key_bytes)).ok_or_else(damaged)
}

impl Commit {
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let mut body = BytesMut::new();
        begin(&mut body, COMMIT, self.stream);
        put_name(&mut body, &self.consumer)?;
        body.put_u32_le(length(self.positions.len())?);
        for (shard, number) in &self.positions {
            body.put_u32_le(shard.index());
            body.put_slice(&number.to_bytes());
        }
        body.put_u8(u8::from(self.state.is_some()));
        body.put_slice(self.state.as_deref().unwrap_or_default());
        Ok(body.freeze())
    }
}

impl Command {
    /// The frame of any command but a put, which [`encode_put`] makes without copying its records twice.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let mut body = BytesMut::new();
        match self {
            Self::CreateStream(new) => {
                body.put_slice(&[VERSION, CREATE_STREAM]);
                put_json(&mut body, new)?;
            }
            Self::DeleteStream { stream } => begin(&mut body, DELETE_STREAM, *stream),
            Self::Put(_) => return Err(Error::new(durable_core::ErrorKind::Internal, "a put is not encoded twice")),
            Self::Commit(commit) => return commit.encode(),
            Self::DeleteConsumer { stream, consumer } => {
                begin(&mut body, DELETE_CONSUMER, *stream);
                put_name(&mut body, consumer)?;
            }
            Self::Change { stream, change } => {
                begin(&mut body, CHANGE, *stream);
                put_json(&mut body, change)?;
            }
            Self::Reshard { stream, reshard } => {
                begin(&mut body, RESHARD, *stream);
                put_json(&mut body, reshard)?;
            }
            Self::Transaction(frames) => {
                body.put_slice(&[VERSION, TRANSACTION]);
                body.put_u32_le(length(frames.len())?);
                for frame in frames {
                    body.put_u32_le(length(frame.len())?);
                    body.put_slice(frame);
                }
            }
        }
        Ok(body.freeze())
    }

    /// Reads a frame; its slices share the frame's buffer.
    pub(crate) fn decode(frame: &Bytes) -> Result<Self> {
        let mut cursor = Cursor { frame, at: 0 };
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(Error::corrupt(format!("a journal frame has version {version}; this build reads {VERSION}")));
        }
        let kind = cursor.u8()?;
        match kind {
            CREATE_STREAM => return parse(cursor.rest()).map(Self::CreateStream),
            TRANSACTION => return decode_transaction(&mut cursor).map(Self::Transaction),
            _ => {}
        }
        let stream = cursor.u64()?;
        match kind {
            DELETE_STREAM => Ok(Self::DeleteStream { stream }),
            PUT => decode_put(stream, &mut cursor).map(Self::Put),
            COMMIT => decode_commit(stream, &mut cursor).map(Self::Commit),
            DELETE_CONSUMER => Ok(Self::DeleteConsumer { stream, consumer: cursor.name()? }),
            SET_RETENTION => Ok(Self::Change { stream, change: Change::RetentionSeconds(cursor.u64()?) }),
            CHANGE => Ok(Self::Change { stream, change: parse(cursor.rest())? }),
            RESHARD => Ok(Self::Reshard { stream, reshard: parse(cursor.rest())? }),
            _ => Err(Error::corrupt(format!("a journal frame has the unknown kind {kind}"))),
        }
    }
}

fn decode_put(stream: u64, cursor: &mut Cursor<'_>) -> Result<Put> {
    let arrival_ms = i64::from_le_bytes(cursor.array()?);
    let id = cursor.name()?;
    let producer = if id.is_empty() { None } else { Some((id, cursor.u64()?)) };
    let count = cursor.count(RECORD_HEADER_BYTES)?;
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = u32::try_from(cursor.at).map_err(|_| damaged())?;
        let shard = ShardId::new(cursor.u32()?);
        cursor.skip(16)?;
        let (key_bytes, data_bytes) = (usize::from(cursor.u16()?), cursor.u32()?);
        cursor.skip(key_bytes)?;
        cursor.skip(usize::try_from(data_bytes).unwrap_or(usize::MAX))?;
        records.push((shard, offset));
    }
    if cursor.rest().is_empty() { Ok(Put { stream, arrival_ms, producer, records }) } else { Err(damaged()) }
}

fn decode_commit(stream: u64, cursor: &mut Cursor<'_>) -> Result<Commit> {
    let consumer = cursor.name()?;
    let mut positions = BTreeMap::new();
    for _ in 0..cursor.count(4 + SequenceNumber::BYTES)? {
        let shard = ShardId::new(cursor.u32()?);
        positions.insert(shard, SequenceNumber::from_bytes(cursor.array()?).map_err(|_| damaged())?);
    }
    let state = match cursor.u8()? {
        0 if cursor.rest().is_empty() => None,
        1 => Some(cursor.slice(cursor.rest().len())?),
        _ => return Err(damaged()),
    };
    Ok(Commit { stream, consumer, positions, state })
}

fn decode_transaction(cursor: &mut Cursor<'_>) -> Result<Vec<Bytes>> {
    let count = cursor.count(4)?;
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
        frames.push(cursor.slice(bytes)?);
    }
    if cursor.rest().is_empty() { Ok(frames) } else { Err(damaged()) }
}

fn put_json<T: Serialize>(body: &mut BytesMut, value: &T) -> Result<()> {
    serde_json::to_writer(body.writer(), value)
        .map_err(|error| Error::new(durable_core::ErrorKind::Internal, "a command has no JSON").with_source(error))
}

fn parse<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| Error::corrupt("a journal frame has JSON that this build does not read").with_source(error))
}

fn begin(body: &mut BytesMut, kind: u8, stream: u64) {
    body.put_slice(&[VERSION, kind]);
    body.put_u64_le(stream);
}

fn put_name(body: &mut BytesMut, name: &str) -> Result<()> {
    body.put_u8(u8::try_from(name.len()).map_err(|_| too_long())?);
    body.put_slice(name.as_bytes());
    Ok(())
}

fn length(bytes: usize) -> Result<u32> {
    u32::try_from(bytes).map_err(|_| too_long())
}

fn too_long() -> Error {
    Error::invalid("a record or name is too long for a journal frame")
}

fn damaged() -> Error {
    Error::corrupt("a journal frame ends early or holds what no writer writes")
}

/// Reads forward; every step checks that it stays inside.
struct Cursor<'a> {
    frame: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.frame.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) -> Result<()> {
        if bytes > self.rest().len() {
            return Err(damaged());
        }
        self.at += bytes;
        Ok(())
    }

    fn slice(&mut self, bytes: usize) -> Result<Bytes> {
        let from = self.at;
        self.skip(bytes)?;
        Ok(self.frame.slice(from..self.at))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let array = *self.rest().first_chunk().ok_or_else(damaged)?;
        self.at += N;
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u128(&mut self) -> Result<u128> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    /// A count of things that take at least `bytes` each, refused if they cannot all be there.
    fn count(&mut self, bytes: usize) -> Result<usize> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count.saturating_mul(bytes) > self.rest().len() { Err(damaged()) } else { Ok(count) }
    }

    fn name(&mut self) -> Result<String> {
        let bytes = usize::from(self.u8()?);
        let name = self.slice(bytes)?;
        String::from_utf8(name.to_vec()).map_err(|_| damaged())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(records: &[(u32, u128, String, Vec<u8>)], producer: Option<(&str, u64)>) -> Bytes {
        let routed: Vec<_> = records
            .iter()
            .map(|(shard, hash, key, data)| RoutedRecord {
                shard: ShardId::new(*shard),
                hash_key: HashKey(*hash),
                partition_key: key,
                data,
            })
            .collect();
        encode_put(7, 1_767_225_600_123, producer, &routed).unwrap()
    }

    #[test]
    fn a_record_is_a_slice_of_its_frame() {
        let frame = put(&[(3, 9, "key".into(), b"data".to_vec())], Some(("file", 41)));
        let Command::Put(put) = Command::decode(&frame).unwrap() else { panic!("not a put") };
        assert_eq!(put.producer, Some(("file".into(), 41)));
        let record = framed_record(&frame, put.records[0].1).unwrap();
        assert_eq!((record.partition_key.as_str(), &record.data[..]), ("key", &b"data"[..]));
        assert!(frame.as_ptr_range().contains(&record.data.as_ptr()));
    }

    #[test]
    fn control_frames_round_trip() {
        let new = NewStream {
            name: "flights".parse().unwrap(),
            created_ms: 5,
            shards: HashKeyRange::split_evenly(3),
            config: StreamConfig::default(),
        };
        let range = HashKeyRange { starting: HashKey(0), ending: HashKey::MAX };
        let [parent, other, id] = [0, 1, 2].map(ShardId::new);
        let opened = OpenedShard { id, range, created_secs: 7, parent, adjacent_parent: Some(other) };
        let reshard = Reshard { at_ms: 5, opened: vec![opened], closed: vec![parent, other] };
        let number = SequenceNumber::new(1, ShardId::new(2), 3, 4);
        for command in [
            Command::CreateStream(new),
            Command::DeleteStream { stream: 9 },
            Command::DeleteConsumer { stream: 9, consumer: "c".into() },
            Command::Change { stream: 9, change: Change::RetentionSeconds(90_000) },
            Command::Reshard { stream: 9, reshard },
            Command::Transaction(vec![Bytes::from_static(b"put"), Bytes::new()]),
            Command::Commit(Commit {
                stream: 9,
                consumer: "firehose".into(),
                positions: BTreeMap::from([(ShardId::new(2), number)]),
                state: Some(Bytes::from_static(b"")),
            }),
        ] {
            assert_eq!(Command::decode(&command.encode().unwrap()).unwrap(), command);
        }
    }

    proptest! {
        #[test]
        fn puts_round_trip(
            records in prop::collection::vec((any::<u32>(), any::<u128>(), ".{1,20}", prop::collection::vec(any::<u8>(), 0..50)), 0..20),
            cut in any::<prop::sample::Index>(),
        ) {
            let frame = put(&records, None);
            let Ok(Command::Put(put)) = Command::decode(&frame) else { panic!("not a put") };
            prop_assert_eq!(put.records.len(), records.len());
            for ((shard, offset), expected) in put.records.iter().zip(&records) {
                let record = framed_record(&frame, *offset).unwrap();
                let (hash, key) = (record.hash_key.0, record.partition_key.to_string());
                prop_assert_eq!(&(shard.index(), hash, key, record.data.to_vec()), expected);
            }
            let short = frame.slice(..cut.index(frame.len()));
            prop_assert!(Command::decode(&short).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..11) {
            if bytes.len() > 1 {
                (bytes[0], bytes[1]) = (VERSION, kind);
            }
            let frame = Bytes::from(bytes);
            if let Ok(Command::Put(put)) = Command::decode(&frame) {
                for (_, offset) in put.records {
                    prop_assert!(framed_record(&frame, offset).is_ok());
                }
            }
        }
    }
}
