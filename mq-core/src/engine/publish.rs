//! Publishing: route, enqueue everywhere in one record, confirm.

use std::sync::Arc;

use super::effect::Effect;
use super::record::{Place, Record};
use super::{Engine, Step};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::name::{ExchangeName, RoutingKey};
use crate::queue::{Millis, QueueId, Stored};

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

    /// The next place in each of the queues.
    pub(super) fn places(&self, queues: &[QueueId]) -> Result<Vec<Place>> {
        queues.iter().map(|id| Ok(Place { queue: *id, seq: self.state.queue(*id)?.next_seq() })).collect()
    }
}
