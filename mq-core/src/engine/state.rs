//! What the journal's records add up to: topology and queues. Live commands and recovery change it by the same function.
//!
//! Invariant: nothing but `apply` changes what is in a queue, so that replaying the records of a run yields its state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::bound::DEAD_BYTES;
use super::record::{Place, Record};
use crate::error::{Error, Result};
use crate::queue::{Entry, Messages, Millis, QueueId, QueueSpec, Stored, WorkQueue, stamp};
use crate::topology::{Destination, Topology};

/// Topology and queues.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) topology: Topology,
    pub(crate) queues: BTreeMap<QueueId, WorkQueue>,
    pub(crate) messages: Messages,
    next_queue: u64,
    /// Memory taken by all messages in all queues, roughly.
    bytes: usize,
    /// The largest persistent message that ever entered a queue of which the journal does not know, but which has a
    /// dead letter exchange: once dead, it may have to be journaled whole.
    unjournaled_weight_max: usize,
    /// When the oldest message of a queue expires.
    timers: BTreeSet<(Millis, QueueId)>,
    /// Whether the topology changed since the last checkpoint.
    pub(crate) topology_dirty: bool,
    /// Queues of which something changed since the last checkpoint.
    pub(crate) dirty: BTreeSet<QueueId>,
}

impl State {
    pub(crate) fn new() -> Result<Self> {
        let (queues, timers, dirty) = Default::default();
        Ok(Self {
            topology: Topology::new()?,
            queues,
            messages: Messages::default(),
            next_queue: QueueId::FIRST.0 + 1,
            bytes: 0,
            unjournaled_weight_max: 0,
            timers,
            topology_dirty: false,
            dirty,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn unjournaled_weight_max(&self) -> usize {
        self.unjournaled_weight_max
    }

    pub(crate) fn next_queue(&self) -> QueueId {
        QueueId(self.next_queue)
    }

    pub(crate) fn reserve_queues(&mut self, next: QueueId) {
        self.next_queue = self.next_queue.max(next.0);
    }

    pub(crate) fn queue(&self, id: QueueId) -> Result<&WorkQueue> {
        self.queues.get(&id).ok_or_else(|| unknown(id))
    }

    fn queue_mut(&mut self, id: QueueId) -> Result<&mut WorkQueue> {
        self.dirty.insert(id);
        self.queues.get_mut(&id).ok_or_else(|| unknown(id))
    }

    pub(crate) fn first_timer(&self) -> Option<Millis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The queues whose oldest message is due.
    pub(crate) fn due(&self, now: Millis) -> Vec<QueueId> {
        self.timers.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    /// Sets the queue's timer to what its oldest ready message asks for.
    pub(crate) fn set_timer(&mut self, id: QueueId) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let wanted = queue.front().and_then(|entry| entry.expires_at);
        if queue.timer != wanted {
            queue.timer.map(|at| self.timers.remove(&(at, id)));
            queue.timer = wanted;
            wanted.map(|at| self.timers.insert((at, id)));
        }
    }

    pub(crate) fn apply(&mut self, record: &Record) -> Result<()> {
        match record {
            Record::ExchangeDeclared(spec) => self.topology.declare_exchange(spec.clone()),
            Record::ExchangeDeleted(name) => self.topology.delete_exchange(name),
            Record::QueueDeclared { id, spec } => self.declare_queue(*id, spec.clone(), 0),
            Record::QueueDeleted(id) => self.delete_queue(*id)?,
            Record::Bound(binding) => self.topology.bind(binding.clone()),
            Record::Unbound(binding) => self.topology.unbind(binding.key()),
            Record::Enqueued { stored, places } => return self.enqueue(stored, places),
            Record::Delivered { queue, seqs } => return self.deliver(*queue, seqs),
            Record::Removed { queue, seqs } => return self.remove(*queue, seqs),
            Record::Returned { queue, counted, seqs } => return self.take_back(*queue, *counted, seqs),
            Record::Moved { from, reason, at, places } => {
                let spec = self.queue(from.queue)?.spec();
                let exchange = spec.dead_letter_exchange().ok_or_else(|| unknown(from.queue))?;
                let entry = self.queue(from.queue)?.entry(from.seq).ok_or_else(|| missing(from.queue, from.seq))?;
                let stored = Arc::new(stamp(&entry.stored, spec, exchange, *reason, *at));
                self.remove(from.queue, &[from.seq])?;
                return self.enqueue(&stored, places);
            }
            Record::Purged(id) => {
                let purged = self.queue_mut(*id)?.purge();
                purged.iter().for_each(|entry| self.forget(entry));
                return Ok(());
            }
            Record::Recovered => return self.recover(),
        }
        self.topology_dirty = true;
        Ok(())
    }

    pub(crate) fn declare_queue(&mut self, id: QueueId, spec: QueueSpec, next_seq: u64) {
        self.next_queue = self.next_queue.max(id.0 + 1);
        self.topology.declare_queue(spec.name().clone(), id);
        self.queues.insert(id, WorkQueue::new(spec, next_seq));
        self.dirty.insert(id);
    }

    fn delete_queue(&mut self, id: QueueId) -> Result<()> {
        let queue = self.queues.remove(&id).ok_or_else(|| unknown(id))?;
        queue.timer.map(|at| self.timers.remove(&(at, id)));
        queue.ready().chain(queue.unacked_entries()).for_each(|entry| self.forget(entry));
        self.topology.delete_queue(queue.spec().name());
        self.dirty.insert(id);
        Ok(())
    }

    /// Puts an entry back as a checkpoint has it.
    pub(crate) fn restore(&mut self, id: QueueId, entry: Entry, held: bool) -> Result<()> {
        self.bytes += entry.stored.enter();
        self.messages.enter(entry.id, &entry.stored);
        let queue = self.queue_mut(id)?;
        if held {
            queue.push_unacked(entry);
        } else {
            queue.push(entry);
        }
        Ok(())
    }

    fn enqueue(&mut self, stored: &Arc<Stored>, places: &[Place]) -> Result<()> {
        let message = self.messages.next();
        for place in places {
            let queue = self.queue_mut(place.queue)?;
            let entry = Entry::new(place.seq, message, Arc::clone(stored), queue.spec(), stored.at);
            let journaled = entry.journaled;
            let whole =
                !entry.journaled && stored.message.is_persistent() && queue.spec().dead_letter_exchange().is_some();
            queue.push(entry);
            if journaled {
                self.messages.enter(message, stored);
            }
            if whole {
                self.unjournaled_weight_max = self.unjournaled_weight_max.max(DEAD_BYTES + stored.weight());
            }
            self.bytes += stored.enter();
        }
        Ok(())
    }

    fn deliver(&mut self, id: QueueId, seqs: &[u64]) -> Result<()> {
        let queue = self.queue_mut(id)?;
        seqs.iter().try_for_each(|seq| queue.deliver(*seq).map(|_| ()).ok_or_else(|| missing(id, *seq)))
    }

    fn remove(&mut self, id: QueueId, seqs: &[u64]) -> Result<()> {
        for seq in seqs {
            let entry = self.queue_mut(id)?.remove(*seq).ok_or_else(|| missing(id, *seq))?;
            self.forget(&entry);
        }
        Ok(())
    }

    /// Gives up what an entry that has left its queue took.
    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.stored.leave();
        if entry.journaled {
            self.messages.leave(entry.id);
        }
    }

    fn take_back(&mut self, id: QueueId, counted: bool, seqs: &[u64]) -> Result<()> {
        let queue = self.queue_mut(id)?;
        let back = seqs.iter().find(|seq| !queue.take_back(**seq, counted));
        back.map_or(Ok(()), |seq| Err(missing(id, *seq)))
    }

    fn recover(&mut self) -> Result<()> {
        let held: Vec<(QueueId, Vec<u64>)> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.unacked_len() > 0)
            .map(|(id, queue)| (*id, queue.unacked_entries().map(|entry| entry.seq).collect()))
            .collect();
        held.iter().try_for_each(|(id, seqs)| self.take_back(*id, true, seqs))
    }

    /// What of a record the journal has to keep, asked before it is applied: what is not durable leaves no trace.
    pub(crate) fn durable_part(&self, record: &Record) -> Option<Record> {
        let keeps = |id: &QueueId| self.queues.get(id).is_some_and(|queue| queue.spec().is_durable());
        let keeps_exchange = |name| self.topology.exchange(name).is_ok_and(crate::topology::ExchangeSpec::is_durable);
        let journaled = |id: QueueId, seqs: &[u64]| -> Option<Vec<u64>> {
            let queue = self.queues.get(&id)?;
            let known = |seq: &u64| queue.entry(*seq).is_some_and(|entry| entry.journaled);
            let seqs: Vec<u64> = seqs.iter().copied().filter(known).collect();
            (!seqs.is_empty()).then_some(seqs)
        };
        let durable =
            |places: &[Place]| -> Vec<Place> { places.iter().copied().filter(|place| keeps(&place.queue)).collect() };
        match record {
            Record::ExchangeDeclared(spec) => spec.is_durable().then(|| record.clone()),
            Record::ExchangeDeleted(name) => keeps_exchange(name).then(|| record.clone()),
            Record::QueueDeclared { spec, .. } => spec.is_durable().then(|| record.clone()),
            Record::QueueDeleted(id) | Record::Purged(id) => keeps(id).then(|| record.clone()),
            Record::Bound(binding) | Record::Unbound(binding) => {
                let lasts = match binding.destination() {
                    Destination::Queue(id) => keeps(id),
                    Destination::Exchange(name) => keeps_exchange(name),
                };
                (lasts && keeps_exchange(binding.source())).then(|| record.clone())
            }
            Record::Enqueued { stored, places } => {
                let places = if stored.message.is_persistent() { durable(places) } else { Vec::new() };
                (!places.is_empty()).then(|| Record::Enqueued { stored: Arc::clone(stored), places })
            }
            Record::Delivered { queue, seqs } => {
                journaled(*queue, seqs).map(|seqs| Record::Delivered { queue: *queue, seqs })
            }
            Record::Removed { queue, seqs } => {
                journaled(*queue, seqs).map(|seqs| Record::Removed { queue: *queue, seqs })
            }
            Record::Returned { queue, counted, seqs } => {
                journaled(*queue, seqs).map(|seqs| Record::Returned { queue: *queue, counted: *counted, seqs })
            }
            Record::Moved { from, reason, at, places } => journaled(from.queue, &[from.seq]).map(|_| Record::Moved {
                from: *from,
                reason: *reason,
                at: *at,
                places: durable(places),
            }),
            Record::Recovered => Some(Record::Recovered),
        }
    }
}

fn unknown(id: QueueId) -> Error {
    Error::corrupt(format!("a record names queue number {}, which does not exist", id.0))
}

fn missing(id: QueueId, seq: u64) -> Error {
    Error::corrupt(format!("a record names message {seq} of queue number {}, which is not there", id.0))
}
