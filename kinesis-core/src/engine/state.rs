//! What is durable: the state that the journal's frames, applied in order, have made.
//!
//! Invariant: only [`State::apply`] changes it, in journal order, once per frame; readers see nothing that a crash could
//! take back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use durable_core::journal::{Frame, Position};

use super::command::{Command, Commit, NewStream, Put, Reshard};
use super::log::{Closing, ShardLog, ShardState};
use super::room::Room;
use super::time::seconds;
use crate::consumer::ConsumerState;
use crate::error::{Error, Result};
use crate::metrics::{Counters, StreamCounters};
use crate::segment::SegmentMeta;
use crate::stream::{HashKeyRange, OpenedShard, ShardId, StreamConfig, StreamName};
use crate::tail::{ShardStamp, TailEntry, entry_cost};

/// A stream as the engine holds it.
#[derive(Debug)]
pub(crate) struct StreamState {
    /// The position of the frame that created it: no other stream ever has it.
    pub(crate) id: u64,
    pub(crate) name: StreamName,
    pub(crate) created_ms: i64,
    pub(crate) deleted: AtomicBool,
    shards: RwLock<Arc<Shards>>,
    control: RwLock<Arc<Control>>,
    held: Mutex<Held>,
    pub(crate) counters: StreamCounters,
    /// Who delivers it.
    #[cfg(feature = "firehose")]
    pub(crate) claims: crate::firehose::claim::Claims,
}

/// The shards of a stream by id: open ones, and closed ones whose records retention has left.
pub(crate) type Shards = BTreeMap<ShardId, Arc<ShardState>>;

/// How a stream is set.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) config: StreamConfig,
    /// The number of the next new shard.
    pub(crate) next_shard: u32,
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
        control: Control,
        shards: Shards,
        held: Held,
    ) -> Self {
        Self {
            id,
            name,
            created_ms,
            deleted: AtomicBool::new(false),
            shards: RwLock::new(Arc::new(shards)),
            control: RwLock::new(Arc::new(control)),
            held: Mutex::new(held),
            counters: StreamCounters::default(),
            #[cfg(feature = "firehose")]
            claims: Default::default(),
        }
    }

    pub(crate) fn created(id: u64, new: NewStream) -> Self {
        let created_secs = seconds(new.created_ms);
        let shard = |(index, range): (u32, &HashKeyRange)| {
            let stamp = ShardStamp { id: ShardId::new(index), created_secs };
            (stamp.id, Arc::new(ShardState::new(stamp, *range, new.created_ms, id, ShardLog::default())))
        };
        let shards: Shards = (0..).zip(&new.shards).map(shard).collect();
        let next_shard = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let control = Control { config: new.config, next_shard };
        Self::new(id, new.name, new.created_ms, control, shards, Held::default())
    }

    /// The shards there are now.
    pub(crate) fn shards(&self) -> Arc<Shards> {
        self.shards.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the stream is set now.
    pub(crate) fn control(&self) -> Arc<Control> {
        self.control.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_control(&self, control: Control) {
        *self.control.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(control);
    }

    pub(super) fn set_shards(&self, shards: Shards) {
        *self.shards.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shards);
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn retention(&self) -> Duration {
        self.control().config.retention()
    }

    pub(crate) fn shard(&self, id: ShardId) -> Result<Arc<ShardState>> {
        self.shards()
            .get(&id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("stream '{}' has no shard {id}", self.name)))
    }

    /// Forgets closed shards of which retention left nothing and that were closed before `before_ms` and below `below`.
    pub(crate) fn expire(&self, before_ms: i64, below: Position) -> Vec<Arc<ShardState>> {
        let shards = self.shards();
        let gone = |shard: &Arc<ShardState>| {
            let log = shard.log();
            let closed = log.closed.is_some_and(|closing| closing.at_ms < before_ms && closing.at < below.0);
            closed && log.segments.is_empty() && log.oldest_unsealed_ms().is_none()
        };
        let expired: Vec<_> = shards.values().filter(|shard| gone(shard)).cloned().collect();
        if !expired.is_empty() {
            let mut left = Shards::clone(&shards);
            expired.iter().for_each(|shard| drop(left.remove(&shard.stamp.id)));
            self.set_shards(left);
        }
        expired
    }

    fn reshard(&self, position: Position, reshard: &Reshard) {
        let mut shards = Shards::clone(&self.shards());
        for opened in &reshard.opened {
            let stamp = ShardStamp { id: opened.id, created_secs: opened.created_secs };
            let mut shard = ShardState::new(stamp, opened.range, reshard.at_ms, position.0, ShardLog::default());
            (shard.parent, shard.adjacent_parent) = (Some(opened.parent), opened.adjacent_parent);
            shards.entry(opened.id).or_insert_with(|| Arc::new(shard));
        }
        for id in &reshard.closed {
            let Some(shard) = shards.get(id) else { continue };
            let children = reshard.opened.iter().filter(|child| child.has_parent(*id));
            let mut log = shard.log();
            log.closed = Some(Closing { at: position.0, at_ms: reshard.at_ms });
            log.children = children.map(OpenedShard::as_child).collect();
        }
        let closed: Vec<_> = reshard.closed.iter().filter_map(|id| shards.get(id).cloned()).collect();
        let next_shard = reshard.opened.iter().map(|opened| opened.id.index().saturating_add(1)).max();
        let control = self.control();
        let next_shard = next_shard.unwrap_or(0).max(control.next_shard);
        self.set_control(Control { next_shard, ..Control::clone(&control) });
        // The children are there before a reader learns of them.
        self.set_shards(shards);
        for shard in closed {
            shard.end.send_modify(|_| {});
        }
    }

    /// Refuses a stream that was deleted.
    pub(crate) fn check(&self) -> Result<()> {
        if self.deleted.load(Ordering::Acquire) {
            return Err(Error::not_found(format!("stream '{}' was deleted", self.name)));
        }
        Ok(())
    }

    /// Counts anew what comes in: recovery met records that came before.
    pub(crate) fn forget_incoming(&self) {
        self.counters.incoming_bytes.set(0);
        self.counters.incoming_records.set(0);
        for shard in self.shards().values() {
            shard.counters.incoming_bytes.set(0);
            shard.counters.incoming_records.set(0);
        }
    }

    /// Wakes all who wait for records.
    pub(crate) fn wake(&self) {
        for shard in self.shards().values() {
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
        self.apply_command(catalog, frame.position, &frame.body).map(|_| ())
    }

    /// Applies one command whose records begin at `position`; answers the position behind them.
    fn apply_command(&self, catalog: &mut Catalog, position: Position, body: &Bytes) -> Result<Position> {
        match Command::decode(body)? {
            Command::CreateStream(new) => {
                let stream = Arc::new(StreamState::created(position.0, new));
                catalog.names.insert(stream.name.clone(), stream.id);
                catalog.dirty.insert(Dirty::Stream(stream.id));
                catalog.dirty.extend(stream.shards().keys().map(|shard| Dirty::Shard(stream.id, *shard)));
                catalog.streams.insert(stream.id, stream);
            }
            Command::DeleteStream { stream } => catalog.delete(stream, &self.room, &self.unsealed_bytes)?,
            Command::Put(put) => {
                let records = put.records.len() as u64;
                self.apply_put(catalog, position, body, put)?;
                return Ok(Position(position.0 + records));
            }
            Command::Commit(commit) => catalog.commit(commit)?,
            Command::DeleteConsumer { stream, consumer } => {
                catalog.stream(stream)?.held().consumers.remove(&consumer);
                catalog.dirty.insert(Dirty::Consumer(stream, consumer));
            }
            Command::Change { stream, change } => {
                let state = catalog.stream(stream)?;
                let mut control = Control::clone(&state.control());
                control.config.apply(change);
                state.set_control(control);
                catalog.dirty.insert(Dirty::Stream(stream));
            }
            Command::Reshard { stream, reshard } => {
                catalog.stream(stream)?.reshard(position, &reshard);
                let changed = reshard.opened.iter().map(|opened| opened.id).chain(reshard.closed);
                catalog.dirty.extend(changed.map(|shard| Dirty::Shard(stream, shard)));
                catalog.dirty.insert(Dirty::Stream(stream));
            }
            Command::Transaction(parts) => {
                let mut next = position;
                for part in &parts {
                    next = self.apply_command(catalog, next, part)?;
                }
                return Ok(next);
            }
        }
        Ok(position)
    }

    fn apply_put(&self, catalog: &mut Catalog, position: Position, body: &Bytes, put: Put) -> Result<()> {
        let stream = catalog.stream(put.stream)?.clone();
        let shards = stream.shards();
        let (mut payload, mut cost) = (0, 0);
        for (index, run) in runs(position.0, &put.records) {
            let id = run.first().map_or(ShardId::new(0), |record| record.0);
            let shard = shards.get(&id).ok_or_else(|| Error::corrupt(format!("there is no shard {id}")))?;
            let mut log = shard.log();
            let mut run_bytes = 0;
            for (index, (_, offset)) in (index..).zip(run) {
                if index <= log.sealed_through {
                    // Recovery meets a frame again whose records a segment has already.
                    continue;
                }
                let bytes = super::command::framed_bytes(body, *offset)?;
                let (arrival_ms, frame) = (put.arrival_ms, body.clone());
                log.tail.push(TailEntry { index, arrival_ms, frame, offset: *offset, bytes });
                run_bytes += u64::from(bytes);
                cost += entry_cost(bytes as usize) as u64;
            }
            drop(log);
            payload += run_bytes;
            shard.counters.incoming_bytes.add(run_bytes);
            shard.counters.incoming_records.add(run.len() as u64);
            catalog.unsealed.insert((stream.id, id));
            shard.end.send_replace(index + run.len() as u64 - 1);
        }
        if let Some((id, number)) = put.producer {
            catalog.dirty.insert(Dirty::Producers(stream.id));
            stream.held().producers.insert(id, number);
        }
        self.unsealed_bytes.fetch_add(cost, Ordering::AcqRel);
        self.counters.incoming_records.add(put.records.len() as u64);
        self.counters.incoming_bytes.add(payload);
        stream.counters.incoming_records.add(put.records.len() as u64);
        stream.counters.incoming_bytes.add(payload);
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
        for shard in stream.shards().values() {
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
    stream.shards().values().flat_map(of).collect()
}
