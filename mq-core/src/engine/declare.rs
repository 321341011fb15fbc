//! Commands that change the topology: they are checked as RabbitMQ checks them, then recorded.

use super::command::{BindingSpec, DeleteIf, Target};
use super::effect::Effect;
use super::record::Record;
use super::{Engine, Step};
use crate::ErrorKind;
use crate::error::{Error, ReplyCode, Result};
use crate::name::{ExchangeName, QueueName, RESERVED_PREFIX};
use crate::queue::{QueueId, QueueSpec};
use crate::topology::{Binding, Destination, ExchangeSpec, inequivalent};

/// Most queues that a broker holds.
pub(crate) const QUEUES_MAX: usize = 262_144;

impl Engine {
    pub(super) fn declare_exchange(&mut self, spec: ExchangeSpec, step: &mut Step) -> Result<()> {
        if self.state.topology.check_declare(&spec)? {
            self.emit(&Record::ExchangeDeclared(spec), step)?;
        }
        Ok(())
    }

    pub(super) fn delete_exchange(&mut self, name: &ExchangeName, condition: DeleteIf, step: &mut Step) -> Result<()> {
        let exists = self.state.topology.check_delete(name, condition == DeleteIf::Unused)?;
        if !exists {
            return Ok(());
        }
        let sources = self.state.topology.sources(&Destination::Exchange(name.clone()));
        self.emit(&Record::ExchangeDeleted(name.clone()), step)?;
        self.delete_unbound(sources, step)
    }

    pub(super) fn declare_queue(&mut self, spec: QueueSpec, server_named: bool, step: &mut Step) -> Result<()> {
        let name = spec.name();
        if let Some(id) = self.state.topology.find_queue(name) {
            let difference = self.state.queue(id)?.spec().difference(&spec);
            return difference.map_or(Ok(()), |argument| Err(inequivalent(argument, &format!("queue {name:?}"))));
        }
        if name.as_str().is_empty() {
            return Err(Error::invalid("a queue without a name: give it one"));
        }
        if name.as_str().starts_with(RESERVED_PREFIX) && !server_named {
            let message = format!("queue {name:?}: names that begin with {RESERVED_PREFIX:?} are the broker's");
            return Err(Error::refused(message));
        }
        if self.state.queues.len() >= QUEUES_MAX {
            return Err(Error::limit(format!("the broker holds {QUEUES_MAX} queues: delete some first")));
        }
        let id = self.state.next_queue();
        self.emit(&Record::QueueDeclared { id, spec }, step)
    }

    pub(super) fn delete_queue(&mut self, name: &QueueName, condition: DeleteIf, step: &mut Step) -> Result<()> {
        let Some(id) = self.state.topology.find_queue(name) else {
            step.effects.push(Effect::Removed { messages: 0 });
            return Ok(());
        };
        let queue = self.state.queue(id)?;
        let refusal = match condition {
            DeleteIf::Unused if self.consumer_count(id) > 0 => Some("has consumers"),
            DeleteIf::Empty if queue.ready_len() + queue.unacked_len() > 0 => Some("is not empty"),
            _ => None,
        };
        if let Some(reason) = refusal {
            let message = format!("queue {name:?} {reason}, and was to be deleted only if not");
            return Err(Error::new(ErrorKind::Conflict, message).with_reply(ReplyCode::PreconditionFailed));
        }
        step.effects.push(Effect::Removed { messages: queue.ready_len() });
        self.remove_queue(id, step)
    }

    pub(super) fn purge_queue(&mut self, name: &QueueName, step: &mut Step) -> Result<()> {
        let id = self.state.topology.queue(name)?;
        let messages = self.state.queue(id)?.ready_len();
        if messages > 0 {
            self.emit(&Record::Purged(id), step)?;
            self.touched.insert(id);
        }
        step.effects.push(Effect::Removed { messages });
        Ok(())
    }

    pub(super) fn bind(&mut self, spec: BindingSpec, step: &mut Step) -> Result<()> {
        let binding = self.resolve(spec)?;
        if self.state.topology.check_bind(&binding)? {
            self.emit(&Record::Bound(binding), step)?;
        }
        Ok(())
    }

    pub(super) fn unbind(&mut self, spec: BindingSpec, step: &mut Step) -> Result<()> {
        let binding = self.resolve(spec)?;
        if self.state.topology.check_unbind(&binding)? {
            let source = binding.source().clone();
            self.emit(&Record::Unbound(binding), step)?;
            self.delete_unbound([source], step)?;
        }
        Ok(())
    }

    /// Deletes a queue, its bindings and its consumers, and what deletes itself after that.
    pub(super) fn remove_queue(&mut self, id: QueueId, step: &mut Step) -> Result<()> {
        let sources = self.state.topology.sources(&Destination::Queue(id));
        self.cancel_all(id, step);
        self.emit(&Record::QueueDeleted(id), step)?;
        self.delete_unbound(sources, step)
    }

    /// Deletes those exchanges that delete themselves and have lost their last binding.
    fn delete_unbound(&mut self, sources: impl IntoIterator<Item = ExchangeName>, step: &mut Step) -> Result<()> {
        let mut candidates: Vec<ExchangeName> = sources.into_iter().collect();
        while let Some(name) = candidates.pop() {
            let topology = &self.state.topology;
            let goes = topology.exchange(&name).is_ok_and(ExchangeSpec::is_auto_delete) && !topology.is_bound(&name);
            if goes {
                candidates.extend(topology.sources(&Destination::Exchange(name.clone())));
                self.emit(&Record::ExchangeDeleted(name), step)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, spec: BindingSpec) -> Result<Binding> {
        let destination = match spec.target {
            Target::Queue(name) => Destination::Queue(self.state.topology.queue(&name)?),
            Target::Exchange(name) => Destination::Exchange(name),
        };
        crate::value::check(&spec.arguments, "arguments of a binding")?;
        Ok(Binding::new(spec.source, destination, spec.routing_key, spec.arguments))
    }
}
