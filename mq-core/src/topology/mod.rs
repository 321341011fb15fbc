//! What is declared and how messages find their queues: exchanges, bindings, routing. Pure.
//!
//! Invariant: routing terminates whatever the bindings are, and yields each queue at most once.

mod binding;
mod exchange;
mod headers;
mod topic;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use binding::Destination;
pub(crate) use binding::{Binding, BindingKey};
use exchange::Exchange;
pub use exchange::{ExchangeKind, ExchangeSpec};

use crate::ErrorKind;
use crate::error::{Error, ReplyCode, Result};
use crate::name::{ExchangeName, QueueName, RESERVED_PREFIX};
use crate::queue::QueueId;
use crate::value::Table;

/// Most exchanges a broker holds.
pub const EXCHANGES_MAX: usize = 65_536;
/// Most bindings a broker holds.
pub const BINDINGS_MAX: usize = 1_048_576;

/// The exchanges that every broker has.
const PREDECLARED: [(&str, ExchangeKind); 6] = [
    ("", ExchangeKind::Direct),
    ("amq.direct", ExchangeKind::Direct),
    ("amq.fanout", ExchangeKind::Fanout),
    ("amq.topic", ExchangeKind::Topic),
    ("amq.headers", ExchangeKind::Headers),
    ("amq.match", ExchangeKind::Headers),
];

/// Exchanges, the names of queues, and what binds them.
#[derive(Debug)]
pub(crate) struct Topology {
    exchanges: BTreeMap<ExchangeName, Exchange>,
    queues: BTreeMap<QueueName, QueueId>,
    bindings: BTreeMap<BindingKey, Binding>,
    by_destination: BTreeMap<Destination, BTreeSet<BindingKey>>,
}

impl Topology {
    /// A broker's topology before anything is declared.
    pub(crate) fn new() -> Result<Self> {
        let mut exchanges = BTreeMap::new();
        for (name, kind) in PREDECLARED {
            exchanges.insert(ExchangeName::new(name)?, Exchange::new(ExchangeSpec::new(name, kind)?));
        }
        let (queues, bindings, by_destination) = Default::default();
        Ok(Self { exchanges, queues, bindings, by_destination })
    }

    pub(crate) fn queue(&self, name: &QueueName) -> Result<QueueId> {
        let missing = || Error::not_found(format!("no queue {name:?}: declare it first"));
        self.queues.get(name).copied().ok_or_else(missing)
    }

    pub(crate) fn find_queue(&self, name: &QueueName) -> Option<QueueId> {
        self.queues.get(name).copied()
    }

    pub(crate) fn exchange(&self, name: &ExchangeName) -> Result<&ExchangeSpec> {
        Ok(&self.look_up(name)?.spec)
    }

    /// The exchanges that were declared, by name.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &ExchangeSpec> {
        self.exchanges.values().map(|exchange| &exchange.spec).filter(|spec| !is_predeclared(spec.name()))
    }

    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values()
    }

    fn look_up(&self, name: &ExchangeName) -> Result<&Exchange> {
        let missing = || Error::not_found(format!("no exchange {name:?}: declare it first"));
        self.exchanges.get(name).ok_or_else(missing)
    }

    /// Whether declaring `spec` makes a new exchange; an equal one may exist already.
    pub(crate) fn check_declare(&self, spec: &ExchangeSpec) -> Result<bool> {
        let name = spec.name();
        if name.as_str().is_empty() {
            return Err(Error::refused("the default exchange cannot be declared"));
        }
        if let Some(existing) = self.exchanges.get(name) {
            return match existing.spec.difference(spec) {
                None => Ok(false),
                Some(argument) => Err(inequivalent(argument, &format!("exchange {name:?}"))),
            };
        }
        if name.as_str().starts_with(RESERVED_PREFIX) {
            let message = format!("exchange {name:?}: names that begin with {RESERVED_PREFIX:?} are the broker's");
            return Err(Error::refused(message));
        }
        if self.exchanges.len() >= EXCHANGES_MAX {
            return Err(Error::limit(format!("the broker holds {EXCHANGES_MAX} exchanges: delete some first")));
        }
        Ok(true)
    }

    /// Whether the exchange exists and may be deleted.
    pub(crate) fn check_delete(&self, name: &ExchangeName, only_if_unused: bool) -> Result<bool> {
        if is_predeclared(name) {
            return Err(Error::refused(format!("exchange {name:?} is the broker's own and cannot be deleted")));
        }
        if only_if_unused && self.bindings_from(name).next().is_some() {
            return Err(Error::new(ErrorKind::Conflict, format!("exchange {name:?} is in use: unbind it first"))
                .with_reply(ReplyCode::PreconditionFailed));
        }
        Ok(self.exchanges.contains_key(name))
    }

    /// Whether binding makes something new; the same binding may exist already.
    pub(crate) fn check_bind(&self, binding: &Binding) -> Result<bool> {
        self.check_ends(binding)?;
        if self.bindings.len() >= BINDINGS_MAX {
            return Err(Error::limit(format!("the broker holds {BINDINGS_MAX} bindings: unbind some first")));
        }
        if self.look_up(binding.source())?.kind() == ExchangeKind::Headers {
            headers::check(binding.arguments())?;
        }
        Ok(!self.bindings.contains_key(binding.key()))
    }

    /// Whether there is such a binding to remove.
    pub(crate) fn check_unbind(&self, binding: &Binding) -> Result<bool> {
        self.check_ends(binding)?;
        Ok(self.bindings.contains_key(binding.key()))
    }

    fn check_ends(&self, binding: &Binding) -> Result<()> {
        let is_default = |name: &ExchangeName| name.as_str().is_empty();
        let to_default = matches!(binding.destination(), Destination::Exchange(name) if is_default(name));
        if is_default(binding.source()) || to_default {
            return Err(Error::refused("the default exchange cannot be bound: each queue is bound by its name"));
        }
        self.look_up(binding.source())?;
        if let Destination::Exchange(name) = binding.destination() {
            self.look_up(name)?;
        }
        Ok(())
    }

    pub(crate) fn declare_exchange(&mut self, spec: ExchangeSpec) {
        self.exchanges.insert(spec.name().clone(), Exchange::new(spec));
    }

    /// Removes the exchange and every binding from or to it.
    pub(crate) fn delete_exchange(&mut self, name: &ExchangeName) {
        let outgoing: Vec<BindingKey> = self.bindings_from(name).map(|binding| binding.key().clone()).collect();
        outgoing.iter().for_each(|key| self.unbind(key));
        self.unbind_destination(&Destination::Exchange(name.clone()));
        self.exchanges.remove(name);
    }

    pub(crate) fn declare_queue(&mut self, name: QueueName, id: QueueId) {
        self.queues.insert(name, id);
    }

    /// Forgets the queue's name and every binding to it.
    pub(crate) fn delete_queue(&mut self, name: &QueueName) {
        if let Some(id) = self.queues.remove(name) {
            self.unbind_destination(&Destination::Queue(id));
        }
    }

    pub(crate) fn bind(&mut self, binding: Binding) {
        if let Some(exchange) = self.exchanges.get_mut(binding.source()) {
            exchange.bind(&binding);
            self.by_destination.entry(binding.destination().clone()).or_default().insert(binding.key().clone());
            self.bindings.insert(binding.key().clone(), binding);
        }
    }

    pub(crate) fn unbind(&mut self, key: &BindingKey) {
        let Some(binding) = self.bindings.remove(key) else { return };
        if let Some(exchange) = self.exchanges.get_mut(binding.source()) {
            exchange.unbind(&binding);
        }
        if let Some(keys) = self.by_destination.get_mut(binding.destination()) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_destination.remove(binding.destination());
            }
        }
    }

    /// The exchanges from which something is bound to `destination`.
    pub(crate) fn sources(&self, destination: &Destination) -> BTreeSet<ExchangeName> {
        let keys = self.by_destination.get(destination).into_iter().flatten();
        keys.map(|key| key.source().clone()).collect()
    }

    pub(crate) fn is_bound(&self, source: &ExchangeName) -> bool {
        self.bindings_from(source).next().is_some()
    }

    fn unbind_destination(&mut self, destination: &Destination) {
        let keys = self.by_destination.remove(destination).unwrap_or_default();
        keys.iter().for_each(|key| self.unbind(key));
    }

    fn bindings_from<'a>(&'a self, source: &'a ExchangeName) -> impl Iterator<Item = &'a Binding> {
        let from = BindingKey::first_of(source);
        self.bindings.range(from..).map(|(_, binding)| binding).take_while(move |found| found.source() == source)
    }

    /// The queues a message reaches: sorted, each once.
    pub(crate) fn route(&self, exchange: &ExchangeName, routing_key: &str, headers: &Table) -> Result<Vec<QueueId>> {
        if exchange.as_str().is_empty() {
            let queue = QueueName::new(routing_key)?;
            return Ok(self.queues.get(&queue).copied().into_iter().collect());
        }
        let mut route = Route::default();
        route.next.push(self.look_up(exchange)?);
        route.visited.insert(exchange);
        while let Some(exchange) = route.next.pop() {
            let mut found = Vec::new();
            exchange.matching(routing_key, headers, &mut found);
            let spill = exchange.spec.alternate().filter(|_| found.is_empty());
            let exchanges = found.iter().filter_map(|destination| match destination {
                Destination::Exchange(name) => Some(name),
                Destination::Queue(_) => None,
            });
            for name in exchanges.chain(spill) {
                if let Some((name, exchange)) = self.exchanges.get_key_value(name)
                    && route.visited.insert(name)
                {
                    route.next.push(exchange);
                }
            }
            route.queues.extend(found.into_iter().filter_map(|destination| match destination {
                Destination::Queue(id) => Some(*id),
                Destination::Exchange(_) => None,
            }));
        }
        route.queues.sort_unstable();
        route.queues.dedup();
        Ok(route.queues)
    }
}

#[derive(Default)]
struct Route<'a> {
    next: Vec<&'a Exchange>,
    visited: BTreeSet<&'a ExchangeName>,
    queues: Vec<QueueId>,
}

fn is_predeclared(name: &ExchangeName) -> bool {
    PREDECLARED.iter().any(|(predeclared, _)| *predeclared == name.as_str())
}

/// RabbitMQ's 406 on an unequal re-declare.
pub(crate) fn inequivalent(argument: &str, of: &str) -> Error {
    let message = format!("inequivalent arg {argument:?} for {of}: declare it as it is, or delete it first");
    Error::new(ErrorKind::AlreadyExists, message).with_reply(ReplyCode::PreconditionFailed)
}

#[cfg(test)]
mod tests;
