//! What is durable: the state that the journal's frames, applied in order, have made.
//!
//! Invariant: only [`State::apply`] changes it, in journal order, once per frame; readers see nothing that a crash could
//! take back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use durable_core::journal::{Frame, Position};

use super::command::{Command, Commit, NewStream, Put};
use super::log::{ShardLog, ShardState};
use super::room::Room;
use super::time::seconds;
use crate::consumer::ConsumerState;
use crate::error::{Error, Result};
use crate::metrics::Counters;
use crate::segment::SegmentMeta;
use crate::stream::{HashKeyRange, ShardId, StreamName};
use crate::tail::{ShardStamp, TailEntry, entry_cost};

/// A stream as the engine holds it.
#[derive(Debug)]
pub(crate) struct StreamState {
    /// The position of the frame that created it: no other stream ever has it.
    pub(crate) id: u64,
    pub(crate) name: StreamName,
    pub(crate) created_ms: i64,
    pub(crate) shards: BTreeMap<ShardId, Arc<ShardState>>,
    pub(crate) deleted: AtomicBool,
    retention_seconds: AtomicU64,
    held: Mutex<Held>,
    /// Who delivers it.
    #[cfg(feature = "firehose")]
    pub(crate) claims: crate::firehose::claim::Claims,
}

/// What others keep in a stream.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) consumers: BTreeMap<String, ConsumerState>,
    /// The last number that the stream knows of each producer.
    pub(crate) producers: BTreeMap<String, u64>,
}

/// A part of the checkpoint that is not as the last checkpoint has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dirty {
    /// The stream's description, without its shards.
    Stream(u64),
    Shard(u64, ShardId),
    Consumer(u64, String),
    Producers(u64),
}

/// Streams by id and by name, and what the next checkpoint has to write.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// Every frame below it is applied.
    pub(crate) applied: Position,
    pub(crate) streams: BTreeMap<u64, Arc<StreamState>>,
    pub(crate) names: BTreeMap<StreamName, u64>,
    pub(crate) dirty: BTreeSet<Dirty>,
    /// Shards that have records which are in no segment.
    pub(crate) unsealed: BTreeSet<(u64, ShardId)>,
    /// Streams that were deleted and still have objects and checkpoint parts.
    pub(crate) deleted: Vec<Arc<StreamState>>,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct State {
    catalog: Mutex<Catalog>,
    pub(crate) room: Room,
    pub(crate) counters: Arc<Counters>,
    /// Bytes in memory that are in no segment.
    pub(crate) unsealed_bytes: AtomicU64,
    /// At this many of them sealing begins.
    pub(crate) seal_at_bytes: u64,
    /// A frame that this build could not apply; the instance answers nothing else from then on.
    pub(crate) fault: OnceLock<String>,
}

impl StreamState {
    pub(crate) fn new(
        id: u64,
        name: StreamName,
        created_ms: i64,
        retention_seconds: u64,
        shards: BTreeMap<ShardId, Arc<ShardState>>,
        held: Held,
    ) -> Self {
        Self {
            id,
            name,
            created_ms,
            shards,
            deleted: AtomicBool::new(false),
            retention_seconds: AtomicU64::new(retention_seconds),
            held: Mutex::new(held),
            #[cfg(feature = "firehose")]
            claims: Default::default(),
        }
    }

    fn created(id: u64, new: &NewStream) -> Self {
        let created_secs = seconds(new.created_ms);
        let shard = |(index, range): (u32, &HashKeyRange)| {
            let stamp = ShardStamp { id: ShardId::new(index), created_secs };
            (stamp.id, Arc::new(ShardState::new(stamp, *range, id, ShardLog::default())))
        };
        let shards = (0..).zip(&new.shards).map(shard).collect();
        Self::new(id, new.name.clone(), new.created_ms, new.retention_seconds, shards, Held::default())
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn retention(&self) -> Duration {
        Duration::from_secs(self.retention_seconds.load(Ordering::Acquire))
    }

    pub(crate) fn shard(&self, id: ShardId) -> Result<&Arc<ShardState>> {
        self.shards.get(&id).ok_or_else(|| Error::not_found(format!("stream '{}' has no shard {id}", self.name)))
    }

    /// Refuses a stream that was deleted.
    pub(crate) fn check(&self) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::not_found(format!("stream '{}' was deleted", self.name)));
        }
        Ok(())
    }

    /// Wakes all who wait for records.
    pub(crate) fn wake(&self) {
        for shard in self.shards.values() {
            shard.end.send_modify(|_| {});
        }
    }
}

impl State {
    pub(crate) fn new(tail_bytes: usize, counters: Arc<Counters>) -> Self {
        Self {
            catalog: Mutex::default(),
            room: Room::new(tail_bytes),
            counters,
            unsealed_bytes: AtomicU64::new(0),
            seal_at_bytes: tail_bytes as u64 / 2,
            fault: OnceLock::new(),
        }
    }

    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies frames that became durable, and wakes the sealer if there is enough to seal.
    pub(crate) fn commit(&self, frames: &[Frame]) {
        if self.fault.get().is_some() {
            return;
        }
        if let Err(error) = self.apply(frames) {
            // The first one is the one to tell.
            let _ = self.fault.set(format!("{error:?}"));
        }
        let unsealed = self.unsealed_bytes.load(Ordering::Acquire);
        if unsealed >= self.seal_at_bytes || self.room.wanted() {
            self.room.work.notify_one();
        }
    }

    /// Applies frames in order; each one once.
    pub(crate) fn apply(&self, frames: &[Frame]) -> Result<()> {
        let mut catalog = self.catalog();
        for frame in frames {
            self.apply_frame(&mut catalog, frame).map_err(|error| {
                Error::corrupt(format!("the journal frame at position {} cannot be applied", frame.position))
                    .with_source(error)
            })?;
            catalog.applied = frame.end();
        }
        Ok(())
    }

    fn apply_frame(&self, catalog: &mut Catalog, frame: &Frame) -> Result<()> {
        match Command::decode(&frame.body)? {
            Command::CreateStream(new) => {
                let stream = Arc::new(StreamState::created(frame.position.0, &new));
                catalog.names.insert(new.name, stream.id);
                catalog.dirty.insert(Dirty::Stream(stream.id));
                catalog.dirty.extend(stream.shards.keys().map(|shard| Dirty::Shard(stream.id, *shard)));
                catalog.streams.insert(stream.id, stream);
            }
            Command::DeleteStream { stream } => catalog.delete(stream, &self.room, &self.unsealed_bytes)?,
            Command::Put(put) => self.apply_put(catalog, frame, put)?,
            Command::Commit(commit) => catalog.commit(commit)?,
            Command::DeleteConsumer { stream, consumer } => {
                catalog.stream(stream)?.held().consumers.remove(&consumer);
                catalog.dirty.insert(Dirty::Consumer(stream, consumer));
            }
            Command::SetRetention { stream, seconds } => {
                catalog.stream(stream)?.retention_seconds.store(seconds, Ordering::Release);
                catalog.dirty.insert(Dirty::Stream(stream));
            }
        }
        Ok(())
    }

    fn apply_put(&self, catalog: &mut Catalog, frame: &Frame, put: Put) -> Result<()> {
        let stream = catalog.stream(put.stream)?.clone();
        let (mut payload, mut cost) = (0, 0);
        for (index, run) in runs(frame.position.0, &put.records) {
            let shard = stream.shard(run.first().map_or(ShardId::new(0), |record| record.0))?;
            let mut log = shard.log();
            for (index, (_, offset)) in (index..).zip(run) {
                if index <= log.sealed_through {
                    // Recovery meets a frame again whose records a segment has already.
                    continue;
                }
                let bytes = super::command::framed_bytes(&frame.body, *offset)?;
                let (arrival_ms, frame) = (put.arrival_ms, frame.body.clone());
                log.tail.push(TailEntry { index, arrival_ms, frame, offset: *offset, bytes });
                payload += u64::from(bytes);
                cost += entry_cost(bytes as usize) as u64;
            }
            drop(log);
            catalog.unsealed.insert((stream.id, shard.stamp.id));
            shard.end.send_replace(index + run.len() as u64 - 1);
        }
        if let Some((id, number)) = put.producer {
            catalog.dirty.insert(Dirty::Producers(stream.id));
            stream.held().producers.insert(id, number);
        }
        self.unsealed_bytes.fetch_add(cost, Ordering::AcqRel);
        self.counters.incoming_records.add(put.records.len() as u64);
        self.counters.incoming_bytes.add(payload);
        Ok(())
    }
}

/// Cuts a batch into stretches of one shard each, with the index of each stretch's first record.
fn runs(position: u64, records: &[(ShardId, u32)]) -> impl Iterator<Item = (u64, &[(ShardId, u32)])> {
    records.chunk_by(|a, b| a.0 == b.0).scan(position, |next, run| {
        let index = *next;
        *next += run.len() as u64;
        Some((index, run))
    })
}

impl Catalog {
    pub(crate) fn stream(&self, id: u64) -> Result<&Arc<StreamState>> {
        self.streams.get(&id).ok_or_else(|| Error::corrupt(format!("there is no stream with id {id}")))
    }

    fn commit(&mut self, commit: Commit) -> Result<()> {
        let stream = self.stream(commit.stream)?.clone();
        let mut held = stream.held();
        let consumer = held.consumers.entry(commit.consumer.clone()).or_default();
        consumer.positions.extend(commit.positions);
        if let Some(state) = commit.state {
            // A copy: a small state must not keep the buffer that its whole group came in.
            consumer.state = Some(Bytes::copy_from_slice(&state));
        }
        self.dirty.insert(Dirty::Consumer(stream.id, commit.consumer));
        Ok(())
    }

    fn delete(&mut self, id: u64, room: &Room, unsealed_bytes: &AtomicU64) -> Result<()> {
        let stream = self.stream(id)?.clone();
        self.streams.remove(&id);
        self.names.remove(&stream.name);
        // A consumer that was deleted before still has a part of the checkpoint, which only this remembers.
        self.dirty.retain(|dirty| dirty.stream() != id || matches!(dirty, Dirty::Consumer(..)));
        self.unsealed.retain(|(stream, _)| *stream != id);
        stream.deleted.store(true, Ordering::Release);
        for shard in stream.shards.values() {
            let mut log = shard.log();
            unsealed_bytes.fetch_sub(log.unsealed_cost(u64::MAX), Ordering::AcqRel);
            log.sealed_through = u64::MAX;
            room.give_back(log.evict(0));
        }
        stream.wake();
        self.deleted.push(stream);
        Ok(())
    }
}

impl Dirty {
    pub(crate) fn stream(&self) -> u64 {
        match self {
            Self::Stream(id) | Self::Shard(id, _) | Self::Consumer(id, _) | Self::Producers(id) => *id,
        }
    }
}

/// The segments of a stream, with the shard that each belongs to.
pub(crate) fn segments(stream: &StreamState) -> Vec<(ShardId, Arc<SegmentMeta>)> {
    let of = |shard: &Arc<ShardState>| -> Vec<_> {
        shard.log().segments.iter().map(|segment| (shard.stamp.id, segment.clone())).collect()
    };
    stream.shards.values().flat_map(of).collect()
}
