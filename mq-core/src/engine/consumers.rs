//! Who consumes, with how much credit, and what each holds. Forgotten at a restart. Pure.
//!
//! Invariant: a consumer holds at most `prefetch` deliveries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use super::command::{ConsumerId, DeliveryTag, Which};
use super::effect::{Effect, Handover};
use super::{Engine, Step};
use crate::ErrorKind;
use crate::error::{Error, ReplyCode, Result};
use crate::name::QueueName;
use crate::queue::{Entry, QueueId};

/// The most deliveries that a consumer may hold unsettled.
pub const PREFETCH_MAX: u16 = u16::MAX;
/// How many deliveries one cancellation gives back: their record fits any frame.
const GIVEN_BACK_MAX: usize = 1024;
/// Most consumers of a broker.
pub(crate) const CONSUMERS_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Consumers {
    all: BTreeMap<ConsumerId, Consumer>,
    by_queue: BTreeMap<QueueId, Rotation>,
    last: u64,
}

#[derive(Debug)]
struct Consumer {
    queue: QueueId,
    prefetch: usize,
    last_number: u64,
    /// Delivery numbers and the places of the messages in the queue.
    held: BTreeMap<u64, u64>,
    cancelled: bool,
}

/// The consumers of one queue, and those of them that can take more, in turn.
#[derive(Debug, Default)]
struct Rotation {
    members: BTreeSet<ConsumerId>,
    hungry: VecDeque<ConsumerId>,
}

/// A delivery that was held: where its message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    pub(crate) queue: QueueId,
    pub(crate) seq: u64,
    pub(crate) tag: DeliveryTag,
}

impl Consumers {
    pub(crate) fn of(&self, queue: QueueId) -> impl Iterator<Item = ConsumerId> {
        self.by_queue.get(&queue).into_iter().flat_map(|rotation| rotation.members.iter().copied())
    }

    fn add(&mut self, queue: QueueId, prefetch: u16) -> ConsumerId {
        self.last += 1;
        let id = ConsumerId(self.last);
        let (prefetch, held) = (usize::from(prefetch), BTreeMap::new());
        self.all.insert(id, Consumer { queue, prefetch, last_number: 0, held, cancelled: false });
        let rotation = self.by_queue.entry(queue).or_default();
        rotation.members.insert(id);
        rotation.hungry.push_back(id);
        id
    }

    /// Takes a consumer out of the rotation; what it holds stays held. Answers its queue.
    fn cancel(&mut self, id: ConsumerId) -> Option<QueueId> {
        let consumer = self.all.get_mut(&id).filter(|consumer| !consumer.cancelled)?;
        consumer.cancelled = true;
        let queue = consumer.queue;
        if consumer.held.is_empty() {
            self.all.remove(&id);
        }
        if let Some(rotation) = self.by_queue.get_mut(&queue) {
            rotation.members.remove(&id);
            rotation.hungry.retain(|hungry| *hungry != id);
            if rotation.members.is_empty() {
                self.by_queue.remove(&queue);
            }
        }
        Some(queue)
    }

    /// Takes consumers out of the rotation.
    pub(super) fn dismiss(&mut self, ids: &[ConsumerId]) {
        for id in ids {
            self.cancel(*id);
        }
    }

    /// Gives the message at `seq` to the next consumer that can take it.
    pub(crate) fn assign(&mut self, queue: QueueId, seq: u64) -> Option<DeliveryTag> {
        let rotation = self.by_queue.get_mut(&queue)?;
        let id = rotation.hungry.pop_front()?;
        let consumer = self.all.get_mut(&id)?;
        consumer.last_number += 1;
        consumer.held.insert(consumer.last_number, seq);
        if consumer.held.len() < consumer.prefetch {
            rotation.hungry.push_back(id);
        }
        Some(DeliveryTag { consumer: id, number: consumer.last_number })
    }

    pub(crate) fn is_hungry(&self, queue: QueueId) -> bool {
        self.by_queue.get(&queue).is_some_and(|rotation| !rotation.hungry.is_empty())
    }

    /// The deliveries that are meant, by place.
    pub(crate) fn find(&self, which: &Which) -> Result<Vec<Held>> {
        let mut held = match which {
            Which::One(tag) => vec![self.held(*tag).ok_or_else(|| unknown(*tag))?],
            Which::Through(tag) => {
                self.held(*tag).ok_or_else(|| unknown(*tag))?;
                let consumer = self.all.get(&tag.consumer).into_iter();
                let numbers =
                    consumer.flat_map(|consumer| consumer.held.range(..=tag.number).map(|(number, _)| *number));
                numbers.filter_map(|number| self.held(DeliveryTag { number, ..*tag })).collect()
            }
            Which::AnyOf(tags) => tags.iter().filter_map(|tag| self.held(*tag)).collect(),
        };
        held.sort_unstable();
        held.dedup();
        Ok(held)
    }

    /// What a consumer holds of the deliveries after `last_seen`: the first so many.
    pub(crate) fn unseen(&self, id: ConsumerId, last_seen: u64) -> Vec<Held> {
        let consumer = self.all.get(&id).into_iter();
        let numbers = consumer
            .flat_map(|consumer| consumer.held.range((Excluded(last_seen), Unbounded)).map(|(number, _)| *number));
        let mut held: Vec<Held> =
            numbers.take(GIVEN_BACK_MAX).filter_map(|number| self.held(DeliveryTag { consumer: id, number })).collect();
        held.sort_unstable();
        held
    }

    /// The queue that a consumer takes from.
    pub(crate) fn queue_of(&self, id: ConsumerId) -> Option<QueueId> {
        self.all.get(&id).map(|consumer| consumer.queue)
    }

    fn held(&self, tag: DeliveryTag) -> Option<Held> {
        let consumer = self.all.get(&tag.consumer)?;
        consumer.held.get(&tag.number).map(|seq| Held { queue: consumer.queue, seq: *seq, tag })
    }

    /// Forgets a delivery, which makes room for another.
    pub(crate) fn release(&mut self, held: &Held) {
        let id = held.tag.consumer;
        let Some(consumer) = self.all.get_mut(&id) else { return };
        let was_full = consumer.held.len() >= consumer.prefetch;
        consumer.held.remove(&held.tag.number);
        if consumer.cancelled {
            if consumer.held.is_empty() {
                self.all.remove(&id);
            }
        } else if was_full && let Some(rotation) = self.by_queue.get_mut(&held.queue) {
            rotation.hungry.push_back(id);
        }
    }
}

impl Engine {
    pub(super) fn consume(&mut self, name: &QueueName, prefetch: u16, step: &mut Step) -> Result<()> {
        let queue = self.state.topology.queue(name)?;
        if prefetch == 0 {
            return Err(Error::invalid(format!("a prefetch of 0 for queue {name:?}: it must be 1 to {PREFETCH_MAX}")));
        }
        if self.consumers.all.len() >= CONSUMERS_MAX {
            return Err(Error::limit(format!("the broker has {CONSUMERS_MAX} consumers: cancel some first")));
        }
        step.effects.push(Effect::Consuming(self.consumers.add(queue, prefetch)));
        self.touched.insert(queue);
        Ok(())
    }

    pub(super) fn cancel(&mut self, consumer: ConsumerId, last_seen: u64, step: &mut Step) -> Result<()> {
        let unseen = self.consumers.unseen(consumer, last_seen);
        let id = self.consumers.cancel(consumer);
        self.give_back(unseen, false, step)?;
        if !self.consumers.unseen(consumer, last_seen).is_empty() {
            step.effects.push(Effect::Unfinished);
        }
        let Some((id, queue)) = id.and_then(|id| Some((id, self.state.queues.get(&id)?))) else { return Ok(()) };
        if queue.spec().is_auto_delete() && self.consumer_count(id) == 0 {
            return self.remove_queue(id, step);
        }
        Ok(())
    }

    /// Cancels all consumers of a queue that is going away.
    pub(super) fn cancel_all(&mut self, queue: QueueId, step: &mut Step) {
        let ids: Vec<ConsumerId> = self.consumers.of(queue).collect();
        for id in ids {
            self.consumers.cancel(id);
            step.effects.push(Effect::Cancelled(id));
        }
    }
}

pub(crate) fn handover(tag: DeliveryTag, entry: &Entry) -> Effect {
    let (redelivered, returns) = (entry.redelivered, entry.returns);
    Effect::Deliver(Handover { tag, stored: std::sync::Arc::clone(&entry.stored), redelivered, returns })
}

fn unknown(tag: DeliveryTag) -> Error {
    let message = format!("unknown delivery tag {}: it was settled before", tag.number);
    Error::new(ErrorKind::Expired, message).with_reply(ReplyCode::PreconditionFailed)
}
