//! Publishing: route, enqueue everywhere in one record, confirm.

use std::sync::Arc;

use super::effect::Effect;
use super::record::{Place, Record};
use super::{Engine, Step};
use crate::error::{Error, ReplyCode, Result};
use crate::message::Message;
use crate::name::{ExchangeName, RoutingKey};
use crate::queue::{Millis, QueueId, QueueSpec, Stored, weight};

impl Engine {
    pub(super) fn publish(
        &mut self,
        now: Millis,
        exchange: ExchangeName,
        routing_key: RoutingKey,
        message: Message,
        mandatory: bool,
        step: &mut Step,
    ) -> Result<()> {
        let topology = &self.state.topology;
        if topology.exchange(&exchange)?.is_internal() {
            return Err(Error::refused(format!("exchange {exchange:?} is internal: publish to one that leads to it")));
        }
        let reached = topology.route(&exchange, routing_key.as_str(), &message.properties().headers)?;
        if reached.is_empty() && mandatory {
            step.effects.push(Effect::Return { message });
            step.effects.push(Effect::Confirm { queues: 0 });
            return Ok(());
        }
        let body_bytes = message.body().len() as u64;
        let refuses = |id: &QueueId| self.state.queues.get(id).is_some_and(|queue| queue.refuses(body_bytes));
        let (full, open): (Vec<QueueId>, Vec<QueueId>) = reached.into_iter().partition(refuses);
        self.check_burial(&message, &open)?;
        let places = self.places(&open)?;
        if !places.is_empty() {
            let stored = Arc::new(Stored::new(exchange, routing_key, message, now));
            self.emit(&Record::Enqueued { stored, places }, step)?;
            self.touched.extend(&open);
        }
        step.effects.push(match full.first() {
            Some(id) => Effect::Refuse { queue: self.state.queue(*id)?.spec().name().clone() },
            None => Effect::Confirm { queues: open.len() },
        });
        Ok(())
    }

    /// Refuses a message that would enter a queue of which the journal does not know, and then be too large to leave it
    /// for the dead letters: it would have to be journaled whole.
    fn check_burial(&self, message: &Message, queues: &[QueueId]) -> Result<()> {
        if !message.is_persistent() || self.can_bury_whole(weight(message)) {
            return Ok(());
        }
        let stuck = queues.iter().filter_map(|id| Some(self.state.queues.get(id)?.spec()));
        let stuck = stuck.filter(|spec| !spec.is_durable() && spec.dead_letter_exchange().is_some());
        stuck.map(QueueSpec::name).next().map_or(Ok(()), |queue| {
            let message = format!(
                "a message of {} bytes for the transient queue {queue:?} would not fit a journal frame as a dead letter: \
                 send it as transient, or open the broker with larger segments",
                message.body().len()
            );
            Err(Error::limit(message).with_reply(ReplyCode::ContentTooLarge))
        })
    }

    /// The next place in each of the queues.
    pub(super) fn places(&self, queues: &[QueueId]) -> Result<Vec<Place>> {
        queues.iter().map(|id| Ok(Place { queue: *id, seq: self.state.queue(*id)?.next_seq() })).collect()
    }
}
