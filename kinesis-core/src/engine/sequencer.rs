//! What was submitted: the one place where commands are judged and get their order.
//!
//! Invariant: a command is checked against everything submitted before it, applied or not, and submitted under the same
//! lock; so what reaches the journal is never contradictory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use durable_core::ErrorKind;
use durable_core::journal::{Durability, Pending, Reservation};

use super::state::Catalog;
use crate::error::{Error, Result};
use crate::limits::{CONSUMERS_MAX, PRODUCERS_MAX, STREAMS_MAX};
use crate::put::Producer;
use crate::stream::{HashKey, ShardId, StreamName};

/// The shard of each hash key.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Last hash key of each open shard, ascending.
    ends: Vec<(HashKey, ShardId)>,
}

impl Routes {
    pub(crate) fn shard_of(&self, key: HashKey) -> Option<ShardId> {
        self.ends.get(self.ends.partition_point(|(end, _)| *end < key)).map(|(_, shard)| *shard)
    }

    pub(crate) fn new(mut ends: Vec<(HashKey, ShardId)>) -> Self {
        ends.sort_unstable();
        Self { ends }
    }
}

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
    routes: Arc<Routes>,
    producers: BTreeMap<String, u64>,
    consumers: std::collections::BTreeSet<String>,
}

/// How a batch is to be put, as long as nothing else is submitted that changes it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) routes: Arc<Routes>,
    /// How many of its first records the stream has already.
    pub(crate) known: usize,
}

impl Sequencer {
    /// What the applied state, at an opening, leaves.
    pub(crate) fn of(catalog: &Catalog) -> Self {
        let ordered = |(id, stream): (&u64, &Arc<super::state::StreamState>)| {
            let held = stream.held();
            let open = stream.shards.values().filter(|shard| shard.log().closed_at.is_none());
            let stream = OrderedStream {
                routes: Arc::new(Routes::new(open.map(|shard| (shard.range.ending, shard.stamp.id)).collect())),
                producers: held.producers.clone(),
                consumers: held.consumers.keys().cloned().collect(),
            };
            (*id, stream)
        };
        let streams = catalog.streams.iter().map(ordered).collect();
        Self { ordered: Mutex::new(Ordered { names: catalog.names.clone(), streams }) }
    }

    fn lock(&self) -> MutexGuard<'_, Ordered> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How `records` records of a producer are to be put.
    pub(crate) fn plan(&self, stream: u64, producer: Option<&Producer>, records: usize) -> Result<Plan> {
        self.lock().stream(stream)?.plan(producer, records)
    }

    /// Submits a put that was made by `plan`; `None` if another plan is needed by now.
    pub(crate) fn put(
        &self,
        stream: u64,
        plan: &Plan,
        producer: Option<(&Producer, usize)>,
        frame: (Reservation, Bytes, u32, Durability),
    ) -> Result<Option<Pending>> {
        let mut ordered = self.lock();
        let stream = ordered.stream(stream)?;
        let now = stream.plan(producer.map(|(producer, _)| producer), producer.map_or(0, |(_, records)| records))?;
        if !Arc::ptr_eq(&now.routes, &plan.routes) || now.known != plan.known {
            return Ok(None);
        }
        let (reservation, body, span, durability) = frame;
        let pending = reservation.submit(body, span, durability)?;
        if let Some((producer, records)) = producer
            && let Some(last) = producer.last(records)
        {
            stream.producers.insert(producer.id().to_owned(), last);
        }
        Ok(Some(pending))
    }

    /// Submits the creation of a stream whose shards are 0, 1, ... with these last hash keys.
    pub(crate) fn create(&self, name: &StreamName, ends: &[HashKey], frame: (Reservation, Bytes)) -> Result<Pending> {
        let mut ordered = self.lock();
        if ordered.names.contains_key(name) {
            let message = format!("stream '{name}' exists already; delete it first, or take it as it is");
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        if ordered.streams.len() >= STREAMS_MAX {
            return Err(Error::limit(format!("there are {STREAMS_MAX} streams; delete one before creating '{name}'")));
        }
        let pending = frame.0.submit(frame.1, 1, Durability::Journal)?;
        let ends = (0..).zip(ends).map(|(index, end)| (*end, ShardId::new(index))).collect();
        let stream = OrderedStream {
            routes: Arc::new(Routes::new(ends)),
            producers: BTreeMap::new(),
            consumers: std::collections::BTreeSet::new(),
        };
        ordered.names.insert(name.clone(), pending.position().0);
        ordered.streams.insert(pending.position().0, stream);
        Ok(pending)
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

    /// Submits a consumer's commit.
    pub(crate) fn commit(&self, stream: u64, consumer: &str, frame: (Reservation, Bytes)) -> Result<Pending> {
        let mut ordered = self.lock();
        let stream = ordered.stream(stream)?;
        if !stream.consumers.contains(consumer) && stream.consumers.len() >= CONSUMERS_MAX {
            let message = format!("the stream has {CONSUMERS_MAX} consumers; delete one before '{consumer}' commits");
            return Err(Error::limit(message));
        }
        let pending = frame.0.submit(frame.1, 1, Durability::Journal)?;
        stream.consumers.insert(consumer.to_owned());
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

    /// Submits a change of a stream that needs nothing but the stream.
    pub(crate) fn change(&self, stream: u64, frame: (Reservation, Bytes)) -> Result<Pending> {
        let mut ordered = self.lock();
        ordered.stream(stream)?;
        Ok(frame.0.submit(frame.1, 1, Durability::Journal)?)
    }
}

impl Ordered {
    fn stream(&mut self, id: u64) -> Result<&mut OrderedStream> {
        self.streams.get_mut(&id).ok_or_else(|| Error::not_found("the stream was deleted"))
    }
}

impl OrderedStream {
    fn plan(&self, producer: Option<&Producer>, records: usize) -> Result<Plan> {
        let known = match producer {
            None => 0,
            Some(producer) => {
                let last = self.producers.get(producer.id()).copied();
                if last.is_none() && self.producers.len() >= PRODUCERS_MAX {
                    let message =
                        format!("the stream knows {PRODUCERS_MAX} producers; '{}' is one too many", producer.id());
                    return Err(Error::limit(message));
                }
                producer.known(records, last)?
            }
        };
        Ok(Plan { routes: self.routes.clone(), known })
    }
}
