//! The parts of a checkpoint: what recovery needs besides the journal's frames.
//!
//! Invariant: a part says what holds below the checkpoint's position; applying the frames at or above it on top gives
//! the state as it was.
//!
//! | part | content |
//! |---|---|
//! | `stream/ID` | JSON of [`StreamPart`]; ID is the stream's, 20 digits |
//! | `shard/ID/SHARD` | JSON of [`ShardPart`]; SHARD has 10 digits |
//! | `segments/ID/SHARD/GROUP` | JSON: a full group of the shard's segments, older than those in the shard's part; GROUP has 10 digits |
//! | `consumer/ID/NAME` | the consumer as the frame of a commit |
//! | `producers/ID` | JSON: the last number of each producer |

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::PartChange;
use serde::{Deserialize, Serialize};

use super::command::{Command, Commit};
use super::log::{Closing, ShardLog, ShardState};
use super::state::{Catalog, Control, Dirty, Held, Shards, StreamState};
use crate::consumer::ConsumerState;
use crate::error::{Error, Result};
use crate::segment::{Group, SegmentList, SegmentMeta};
use crate::stream::{ChildShard, HashKeyRange, ShardId, StreamConfig, StreamName};
use crate::tail::ShardStamp;

/// Version of the parts; a later one is refused.
const FORMAT: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct StreamPart {
    format: u32,
    name: StreamName,
    created_ms: i64,
    /// The number of the next new shard. Version 1 had none, and no shard that was not one of the first.
    #[serde(default)]
    next_shard: u32,
    #[serde(flatten)]
    config: StreamConfig,
}

#[derive(Debug, Serialize, Deserialize)]
struct ShardPart {
    range: HashKeyRange,
    created_secs: u64,
    /// Version 1 had only the second.
    #[serde(default)]
    opened_ms: Option<i64>,
    starting_index: u64,
    parent: Option<ShardId>,
    adjacent_parent: Option<ShardId>,
    #[serde(default)]
    closed: Option<Closing>,
    children: Vec<ChildShard>,
    sealed_through: u64,
    trimmed_through: u64,
    /// How many segments the shard had before the first of `segments`.
    #[serde(default)]
    segments_before: u64,
    /// Those that are in no full group.
    segments: Vec<Arc<SegmentMeta>>,
}

/// The part's change: its bytes, or its removal if it is no more. None for a shard, which has
/// [several](shard_changes).
pub(crate) fn part(catalog: &Catalog, dirty: &Dirty) -> Result<Option<PartChange>> {
    let stream = |id: &u64| catalog.streams.get(id);
    Ok(match dirty {
        Dirty::Shard(..) => None,
        Dirty::Stream(id) => Some((stream_name(*id), stream(id).map(|stream| stream_part(stream)).transpose()?)),
        Dirty::Consumer(id, name) => {
            let state = stream(id).and_then(|stream| stream.held().consumers.get(name).cloned());
            let part = state.map(|state| consumer_part(*id, name, state)).transpose()?;
            Some((consumer_name(*id, name), part))
        }
        Dirty::Producers(id) => {
            let part = stream(id).map(|stream| json(&stream.held().producers)).transpose()?;
            Some((producers_name(*id), part))
        }
    })
}

/// The parts of a shard that are not as the checkpoint has them.
pub(crate) fn shard_changes(stream: u64, shard: &ShardState) -> Result<Vec<PartChange>> {
    let id = shard.stamp.id;
    let (gone, new) = shard.log().segments.changed_groups();
    let mut changes = vec![(shard_name(stream, id), Some(shard_part(shard)?))];
    changes.extend(gone.into_iter().map(|group| (group_name(stream, id, group), None)));
    for (group, segments) in new {
        changes.push((group_name(stream, id, group), Some(json(&segments)?)));
    }
    Ok(changes)
}

/// Removes every part of a shard.
pub(crate) fn shard_removals(stream: u64, shard: &ShardState) -> Vec<PartChange> {
    let id = shard.stamp.id;
    let groups = shard.log().segments.known_groups();
    let names = groups.map(|group| group_name(stream, id, group)).chain([shard_name(stream, id)]);
    names.map(|name| (name, None)).collect()
}

/// Removes every part of a deleted stream.
pub(crate) fn removals(stream: &StreamState) -> Vec<PartChange> {
    let held = stream.held();
    let mut changes: Vec<_> = stream.shards().values().flat_map(|shard| shard_removals(stream.id, shard)).collect();
    let consumers = held.consumers.keys().map(|name| consumer_name(stream.id, name));
    let names = [stream_name(stream.id), producers_name(stream.id)].into_iter().chain(consumers);
    changes.extend(names.map(|name| (name, None)));
    changes
}

/// The streams that the parts describe.
pub(crate) fn streams(parts: &BTreeMap<String, Bytes>) -> Result<Vec<StreamState>> {
    let mut shards: BTreeMap<(u64, ShardId), ShardPart> = BTreeMap::new();
    let mut groups: BTreeMap<(u64, ShardId), Vec<Group>> = BTreeMap::new();
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
                shards.insert((id, shard), parse(name, bytes)?);
            }
            (Some("segments"), Some(group)) => {
                let (shard, group) = group.split_once('/').ok_or_else(unreadable)?;
                let shard = ShardId::new(shard.parse().map_err(|_| unreadable())?);
                let group = group.parse().map_err(|_| unreadable())?;
                // By name, so in order.
                groups.entry((id, shard)).or_default().push((group, parse(name, bytes)?));
            }
            _ => return Err(unreadable()),
        }
    }
    let mut states: BTreeMap<u64, Shards> = BTreeMap::new();
    for ((stream, id), part) in shards {
        let state = shard_state(id, part, groups.remove(&(stream, id)).unwrap_or_default());
        states.entry(stream).or_default().insert(id, Arc::new(state));
    }
    let stream = |(id, part): (u64, StreamPart)| {
        if part.format > FORMAT {
            let message = format!("stream '{}' has format {}; this build reads {FORMAT}", part.name, part.format);
            return Err(Error::corrupt(message));
        }
        let (shards, held) = (states.remove(&id).unwrap_or_default(), held.remove(&id).unwrap_or_default());
        let first_free = shards.keys().last().map_or(0, |shard| shard.index() + 1);
        let control = Control { config: part.config, next_shard: part.next_shard.max(first_free) };
        Ok(StreamState::new(id, part.name, part.created_ms, control, shards, held))
    };
    streams.into_iter().map(stream).collect()
}

fn stream_part(stream: &StreamState) -> Result<Bytes> {
    json(&StreamPart {
        format: FORMAT,
        name: stream.name.clone(),
        created_ms: stream.created_ms,
        next_shard: stream.control().next_shard,
        config: stream.control().config.clone(),
    })
}

fn shard_part(shard: &ShardState) -> Result<Bytes> {
    let log = shard.log();
    let (segments_before, segments) = log.segments.open_group();
    json(&ShardPart {
        range: shard.range,
        created_secs: shard.stamp.created_secs,
        opened_ms: Some(shard.opened_ms),
        starting_index: shard.starting_index,
        parent: shard.parent,
        adjacent_parent: shard.adjacent_parent,
        closed: log.closed,
        children: log.children.clone(),
        sealed_through: log.sealed_through,
        trimmed_through: log.trimmed_through,
        segments_before,
        segments,
    })
}

fn shard_state(id: ShardId, part: ShardPart, groups: Vec<Group>) -> ShardState {
    let ShardPart { segments_before, segments, trimmed_through, .. } = part;
    let log = ShardLog {
        sealed_through: part.sealed_through,
        evicted_through: part.sealed_through,
        trimmed_through,
        closed: part.closed,
        children: part.children,
        segments: SegmentList::of_checkpoint(groups, segments_before, segments, trimmed_through),
        ..ShardLog::default()
    };
    let stamp = ShardStamp { id, created_secs: part.created_secs };
    let opened_ms = part.opened_ms.unwrap_or_else(|| i64::try_from(part.created_secs).unwrap_or(0) * 1000);
    let mut shard = ShardState::new(stamp, part.range, opened_ms, part.starting_index, log);
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

fn group_name(id: u64, shard: ShardId, group: u64) -> String {
    format!("segments/{id:020}/{:010}/{group:010}", shard.index())
}

fn consumer_name(id: u64, name: &str) -> String {
    format!("consumer/{id:020}/{name}")
}

fn producers_name(id: u64) -> String {
    format!("producers/{id:020}")
}
