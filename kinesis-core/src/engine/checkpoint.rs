//! The parts of a checkpoint: what recovery needs besides the journal's frames.
//!
//! Invariant: a part says what holds below the checkpoint's position; applying the frames at or above it on top gives
//! the state as it was.
//!
//! | part | content |
//! |---|---|
//! | `stream/ID` | JSON of [`StreamPart`]; ID is the stream's, 20 digits |
//! | `shard/ID/SHARD` | JSON of [`ShardPart`]; SHARD has 10 digits |
//! | `consumer/ID/NAME` | the consumer as the frame of a commit |
//! | `producers/ID` | JSON: the last number of each producer |

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::PartChange;
use serde::{Deserialize, Serialize};

use super::command::{Command, Commit};
use super::log::{ShardLog, ShardState};
use super::state::{Catalog, Dirty, Held, StreamState};
use crate::consumer::ConsumerState;
use crate::error::{Error, Result};
use crate::segment::SegmentMeta;
use crate::stream::{ChildShard, HashKeyRange, ShardId, StreamName};
use crate::tail::ShardStamp;

/// Version of the parts; a later one is refused.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct StreamPart {
    format: u32,
    name: StreamName,
    created_ms: i64,
    retention_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShardPart {
    range: HashKeyRange,
    created_secs: u64,
    starting_index: u64,
    parent: Option<ShardId>,
    adjacent_parent: Option<ShardId>,
    closed_at: Option<u64>,
    children: Vec<ChildShard>,
    sealed_through: u64,
    trimmed_through: u64,
    segments: VecDeque<Arc<SegmentMeta>>,
}

/// The part's change: its bytes, or its removal if it is no more.
pub(crate) fn part(catalog: &Catalog, dirty: &Dirty) -> Result<PartChange> {
    let stream = |id: &u64| catalog.streams.get(id);
    match dirty {
        Dirty::Stream(id) => Ok((stream_name(*id), stream(id).map(|stream| stream_part(stream)).transpose()?)),
        Dirty::Shard(id, shard) => match stream(id).and_then(|stream| stream.shards.get(shard)) {
            Some(state) => shard_change(*id, state),
            None => Ok((shard_name(*id, *shard), None)),
        },
        Dirty::Consumer(id, name) => {
            let state = stream(id).and_then(|stream| stream.held().consumers.get(name).cloned());
            let part = state.map(|state| consumer_part(*id, name, state)).transpose()?;
            Ok((consumer_name(*id, name), part))
        }
        Dirty::Producers(id) => {
            let part = stream(id).map(|stream| json(&stream.held().producers)).transpose()?;
            Ok((producers_name(*id), part))
        }
    }
}

/// The part of a shard.
pub(crate) fn shard_change(stream: u64, shard: &ShardState) -> Result<PartChange> {
    Ok((shard_name(stream, shard.stamp.id), Some(shard_part(shard)?)))
}

/// Removes every part of a deleted stream.
pub(crate) fn removals(stream: &StreamState) -> Vec<PartChange> {
    let held = stream.held();
    let shards = stream.shards.keys().map(|shard| shard_name(stream.id, *shard));
    let consumers = held.consumers.keys().map(|name| consumer_name(stream.id, name));
    let names = [stream_name(stream.id), producers_name(stream.id)].into_iter().chain(shards).chain(consumers);
    names.map(|name| (name, None)).collect()
}

/// The streams that the parts describe.
pub(crate) fn streams(parts: &BTreeMap<String, Bytes>) -> Result<Vec<StreamState>> {
    let mut shards: BTreeMap<u64, BTreeMap<ShardId, Arc<ShardState>>> = BTreeMap::new();
    let mut held: BTreeMap<u64, Held> = BTreeMap::new();
    let mut streams = Vec::new();
    for (name, bytes) in parts {
        let unreadable = || Error::corrupt(format!("checkpoint part '{name}' is not one that this build reads"));
        let mut path = name.splitn(3, '/');
        let (kind, id) = (path.next(), path.next().and_then(|id| id.parse::<u64>().ok()).ok_or_else(unreadable)?);
        match (kind, path.next()) {
            (Some("stream"), None) => streams.push((id, parse::<StreamPart>(name, bytes)?)),
            (Some("producers"), None) => held.entry(id).or_default().producers = parse(name, bytes)?,
            (Some("consumer"), Some(consumer)) => {
                let state = parse_consumer(bytes)?;
                held.entry(id).or_default().consumers.insert(consumer.to_owned(), state);
            }
            (Some("shard"), Some(shard)) => {
                let shard = ShardId::new(shard.parse().map_err(|_| unreadable())?);
                let state = shard_state(shard, parse(name, bytes)?);
                shards.entry(id).or_default().insert(shard, Arc::new(state));
            }
            _ => return Err(unreadable()),
        }
    }
    let stream = |(id, part): (u64, StreamPart)| {
        if part.format > FORMAT {
            let message = format!("stream '{}' has format {}; this build reads {FORMAT}", part.name, part.format);
            return Err(Error::corrupt(message));
        }
        let (shards, held) = (shards.remove(&id).unwrap_or_default(), held.remove(&id).unwrap_or_default());
        Ok(StreamState::new(id, part.name, part.created_ms, part.retention_seconds, shards, held))
    };
    streams.into_iter().map(stream).collect()
}

fn stream_part(stream: &StreamState) -> Result<Bytes> {
    json(&StreamPart {
        format: FORMAT,
        name: stream.name.clone(),
        created_ms: stream.created_ms,
        retention_seconds: stream.retention().as_secs(),
    })
}

fn shard_part(shard: &ShardState) -> Result<Bytes> {
    let log = shard.log();
    json(&ShardPart {
        range: shard.range,
        created_secs: shard.stamp.created_secs,
        starting_index: shard.starting_index,
        parent: shard.parent,
        adjacent_parent: shard.adjacent_parent,
        closed_at: log.closed_at,
        children: log.children.clone(),
        sealed_through: log.sealed_through,
        trimmed_through: log.trimmed_through,
        segments: log.segments.clone(),
    })
}

fn shard_state(id: ShardId, part: ShardPart) -> ShardState {
    let log = ShardLog {
        sealed_through: part.sealed_through,
        evicted_through: part.sealed_through,
        trimmed_through: part.trimmed_through,
        closed_at: part.closed_at,
        children: part.children,
        segments: part.segments,
        ..ShardLog::default()
    };
    let stamp = ShardStamp { id, created_secs: part.created_secs };
    let mut shard = ShardState::new(stamp, part.range, part.starting_index, log);
    (shard.parent, shard.adjacent_parent) = (part.parent, part.adjacent_parent);
    shard
}

fn consumer_part(stream: u64, name: &str, state: ConsumerState) -> Result<Bytes> {
    let ConsumerState { positions, state } = state;
    Commit { stream, consumer: name.to_owned(), positions, state }.encode()
}

fn parse_consumer(bytes: &Bytes) -> Result<ConsumerState> {
    match Command::decode(bytes)? {
        Command::Commit(Commit { positions, state, .. }) => Ok(ConsumerState { positions, state }),
        _ => Err(Error::corrupt("a consumer's checkpoint part is not a commit")),
    }
}

fn json<T: Serialize>(part: &T) -> Result<Bytes> {
    serde_json::to_vec(part).map(Bytes::from).map_err(|error| {
        Error::new(durable_core::ErrorKind::Internal, "a checkpoint part has no JSON").with_source(error)
    })
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt(format!("checkpoint part '{name}' cannot be read")).with_source(error))
}

fn stream_name(id: u64) -> String {
    format!("stream/{id:020}")
}

fn shard_name(id: u64, shard: ShardId) -> String {
    format!("shard/{id:020}/{:010}", shard.index())
}

fn consumer_name(id: u64, name: &str) -> String {
    format!("consumer/{id:020}/{name}")
}

fn producers_name(id: u64) -> String {
    format!("producers/{id:020}")
}
