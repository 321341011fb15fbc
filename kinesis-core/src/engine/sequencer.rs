//! What was submitted: the one place where commands are judged and get their order.
//!
//! Invariant: a command is checked against everything submitted before it, applied or not, and submitted under the same
//! lock; so what reaches the journal is never contradictory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use durable_core::ErrorKind;
use durable_core::journal::{Durability, Pending, Reservation};

use super::command::{Commit, NewStream};
use super::state::{Catalog, StreamState};
use crate::error::{Error, Result};
use crate::limits::{CONSUMERS_MAX, PRODUCERS_MAX, STREAMS_MAX};
use crate::put::PutBatch;
use crate::quota::Limits;
use crate::stream::{OpenShard, OpenShards, ShardId, StreamConfig, StreamMode, StreamName};

/// Streams as the commands submitted so far leave them.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    ordered: Mutex<Ordered>,
}

#[derive(Debug, Default)]
struct Ordered {
    names: BTreeMap<StreamName, u64>,
    streams: BTreeMap<u64, OrderedStream>,
}

#[derive(Debug)]
struct OrderedStream {
    shape: Arc<Shape>,
    producers: BTreeMap<String, u64>,
    consumers: BTreeSet<String>,
    /// Index of the newest record of each shard that has one.
    last: HashMap<ShardId, u64>,
}

/// How a stream is set and which of its shards are open: what control commands change.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) config: StreamConfig,
    pub(crate) open: OpenShards,
    /// The number of the next new shard.
    pub(crate) next_shard: u32,
}

/// How a batch is to be put, as long as nothing else is submitted that changes it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Arc<Shape>,
    /// How many of its first records the stream has already.
    pub(crate) known: usize,
}

/// A put whose turn it is: what it was planned on, and what it adds.
#[derive(Clone, Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) stream: u64,
    pub(crate) plan: Plan,
    pub(crate) batch: &'a PutBatch,
    /// The shard of each record that is put.
    pub(crate) shards: Vec<ShardId>,
}

impl Sequencer {
    /// What the applied state, at an opening, leaves.
    pub(crate) fn of(catalog: &Catalog) -> Self {
        let ordered = |(id, stream): (&u64, &Arc<StreamState>)| (*id, OrderedStream::of(stream));
        let streams = catalog.streams.iter().map(ordered).collect();
        Self { ordered: Mutex::new(Ordered { names: catalog.names.clone(), streams }) }
    }

    fn lock(&self) -> MutexGuard<'_, Ordered> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a batch is to be put.
    pub(crate) fn plan(&self, stream: u64, batch: &PutBatch) -> Result<Plan> {
        self.lock().stream(stream)?.plan(batch)
    }

    /// How a stream is set and which of its shards are open.
    pub(crate) fn shape(&self, stream: u64) -> Result<Arc<Shape>> {
        Ok(self.lock().stream(stream)?.shape.clone())
    }

    /// Submits a put; `None` if another plan is needed by now.
    pub(crate) fn put(&self, planned: &Planned<'_>, frame: (Reservation, Bytes, u32)) -> Result<Option<Pending>> {
        let mut ordered = self.lock();
        if !ordered.stream(planned.stream)?.holds(planned)? {
            return Ok(None);
        }
        let pending = frame.0.submit(frame.1, frame.2, planned.batch.durability)?;
        ordered.stream(planned.stream)?.take(planned, pending.position().0);
        Ok(Some(pending))
    }

    /// Submits puts and commits as one; `None` if another plan is needed by now.
    pub(crate) fn transact(
        &self,
        puts: &[Planned<'_>],
        commits: &[Commit],
        frame: (Reservation, Bytes, u32),
    ) -> Result<Option<Pending>> {
        let mut ordered = self.lock();
        for planned in puts {
            if !ordered.stream(planned.stream)?.holds(planned)? {
                return Ok(None);
            }
        }
        for commit in commits {
            ordered.stream(commit.stream)?.check_consumer(&commit.consumer)?;
        }
        let pending = frame.0.submit(frame.1, frame.2, Durability::Journal)?;
        let mut position = pending.position().0;
        for planned in puts {
            ordered.stream(planned.stream)?.take(planned, position);
            position += planned.shards.len() as u64;
        }
        for commit in commits {
            ordered.stream(commit.stream)?.consumers.insert(commit.consumer.clone());
        }
        Ok(Some(pending))
    }

    /// Submits the creation of a stream whose shards are 0, 1, ...
    pub(crate) fn create(&self, new: &NewStream, limits: &Limits, frame: (Reservation, Bytes)) -> Result<Pending> {
        let mut ordered = self.lock();
        let name = &new.name;
        if ordered.names.contains_key(name) {
            let message = format!("stream '{name}' exists already; delete it first, or take it as it is");
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        if ordered.streams.len() >= STREAMS_MAX {
            return Err(Error::limit(format!("there are {STREAMS_MAX} streams; delete one before creating '{name}'")));
        }
        if !name.is_internal() {
            ordered.check_account(None, new.config.mode, new.shards.len(), limits)?;
        }
        let pending = frame.0.submit(frame.1, 1, Durability::Journal)?;
        let id = pending.position().0;
        ordered.names.insert(name.clone(), id);
        ordered.streams.insert(id, OrderedStream::of(&StreamState::created(id, new.clone())));
        Ok(pending)
    }

    /// Submits a command that gives a stream another shape; `None` if it is no longer `before`.
    pub(crate) fn reshape(
        &self,
        stream: u64,
        before: &Arc<Shape>,
        after: Shape,
        limits: &Limits,
        frame: (Reservation, Bytes),
    ) -> Result<Option<Pending>> {
        let mut ordered = self.lock();
        if !Arc::ptr_eq(&ordered.stream(stream)?.shape, before) {
            return Ok(None);
        }
        if after.open.len() > before.open.len() || after.config.mode != before.config.mode {
            ordered.check_account(Some(stream), after.config.mode, after.open.len(), limits)?;
        }
        let stream = ordered.stream(stream)?;
        let pending = frame.0.submit(frame.1, 1, Durability::Journal)?;
        stream.shape = Arc::new(after);
        Ok(Some(pending))
    }

    /// Submits the deletion of a stream.
    pub(crate) fn delete(&self, stream: u64, frame: (Reservation, Bytes)) -> Result<Pending> {
        let mut ordered = self.lock();
        ordered.stream(stream)?;
        let pending = frame.0.submit(frame.1, 1, Durability::Journal)?;
        ordered.streams.remove(&stream);
        ordered.names.retain(|_, id| *id != stream);
        Ok(pending)
    }

    /// Submits the deletion of a consumer.
    pub(crate) fn delete_consumer(&self, stream: u64, consumer: &str, frame: (Reservation, Bytes)) -> Result<Pending> {
        let mut ordered = self.lock();
        let stream = ordered.stream(stream)?;
        if !stream.consumers.contains(consumer) {
            return Err(Error::not_found(format!("the stream has no consumer '{consumer}'")));
        }
        let pending = frame.0.submit(frame.1, 1, Durability::Journal)?;
        stream.consumers.remove(consumer);
        Ok(pending)
    }
}

impl Ordered {
    fn stream(&mut self, id: u64) -> Result<&mut OrderedStream> {
        self.streams.get_mut(&id).ok_or_else(|| Error::not_found("the stream was deleted"))
    }

    /// Refuses a stream, new or one there is, of this mode and so many shards, if the instance may not have it.
    fn check_account(&self, stream: Option<u64>, mode: StreamMode, shards: usize, limits: &Limits) -> Result<()> {
        let internal: BTreeSet<_> =
            self.names.iter().filter(|(name, _)| name.is_internal()).map(|(_, id)| id).collect();
        let others = self.streams.iter().filter(|(id, _)| Some(**id) != stream && !internal.contains(id));
        let others = others.map(|(_, other)| &other.shape).filter(|other| other.config.mode == mode);
        let (what, most, count) = match mode {
            StreamMode::OnDemand => ("streams on demand", limits.on_demand_streams, others.count() + 1),
            StreamMode::Provisioned => {
                ("open shards", limits.open_shards, others.map(|other| other.open.len()).sum::<usize>() + shards)
            }
        };
        match most {
            Some(most) if count > most as usize => {
                Err(Error::limit(format!("there would be {count} {what}; the limit is {most}")))
            }
            _ => Ok(()),
        }
    }
}

impl OrderedStream {
    fn of(stream: &StreamState) -> Self {
        let (shards, control, held) = (stream.shards(), stream.control(), stream.held());
        let open = shards.values().filter(|shard| shard.is_open()).map(|shard| OpenShard {
            id: shard.stamp.id,
            range: shard.range,
            created_secs: shard.stamp.created_secs,
        });
        let shape = Shape {
            config: control.config.clone(),
            open: OpenShards::new(open.collect()),
            next_shard: control.next_shard,
        };
        let last = shards.values().map(|shard| (shard.stamp.id, *shard.end.borrow()));
        Self {
            shape: Arc::new(shape),
            producers: held.producers.clone(),
            consumers: held.consumers.keys().cloned().collect(),
            last: last.filter(|(_, index)| *index > 0).collect(),
        }
    }

    fn plan(&self, batch: &PutBatch) -> Result<Plan> {
        let known = match &batch.producer {
            None => 0,
            Some(producer) => {
                let last = self.producers.get(producer.id()).copied();
                if last.is_none() && self.producers.len() >= PRODUCERS_MAX {
                    let message =
                        format!("the stream knows {PRODUCERS_MAX} producers; '{}' is one too many", producer.id());
                    return Err(Error::limit(message));
                }
                producer.known(batch.records.len(), last)?
            }
        };
        Ok(Plan { shape: self.shape.clone(), known })
    }

    /// Whether a put is still as it was planned.
    ///
    /// # Errors
    /// `Conflict` if it expects another record to be the newest of a shard.
    fn holds(&self, planned: &Planned<'_>) -> Result<bool> {
        let now = self.plan(planned.batch)?;
        for (shard, expected) in &planned.batch.expected {
            let (last, expected) = (self.last.get(shard).copied(), expected.map(|number| number.index()));
            if last != expected {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("{shard} has a newer record than the batch expects; read it to its tip and decide again"),
                ));
            }
        }
        Ok(Arc::ptr_eq(&now.shape, &planned.plan.shape) && now.known == planned.plan.known)
    }

    /// Takes up a put that was submitted at `position`.
    fn take(&mut self, planned: &Planned<'_>, position: u64) {
        for (index, shard) in (position..).zip(&planned.shards) {
            self.last.insert(*shard, index);
        }
        let batch = planned.batch;
        if let Some(producer) = &batch.producer
            && let Some(last) = producer.last(batch.records.len())
        {
            self.producers.insert(producer.id().to_owned(), last);
        }
    }

    fn check_consumer(&self, consumer: &str) -> Result<()> {
        if self.consumers.contains(consumer) || self.consumers.len() < CONSUMERS_MAX {
            return Ok(());
        }
        Err(Error::limit(format!("the stream has {CONSUMERS_MAX} consumers; delete one before '{consumer}' commits")))
    }
}
