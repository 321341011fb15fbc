//! Exchanges: what is declared about one, and the table by which it routes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::binding::{Binding, Destination};
use super::headers::{self, HeaderRule};
use super::topic::TopicTrie;
use crate::error::Result;
use crate::name::ExchangeName;
use crate::value::Table;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExchangeKind {
    /// To the bindings whose key equals the routing key.
    Direct,
    /// To every binding.
    Fanout,
    /// To the bindings whose pattern matches: `*` is one word, `#` any number of words, words are parted by dots.
    Topic,
    /// To the bindings whose arguments the message's headers match: `x-match` says `all` (default), `any`,
    /// `all-with-x` or `any-with-x`.
    Headers,
}

/// What to declare about an exchange. Durable unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeSpec {
    name: ExchangeName,
    kind: ExchangeKind,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alternate: Option<ExchangeName>,
}

impl ExchangeSpec {
    /// A durable exchange.
    ///
    /// # Errors
    /// `InvalidInput` if the name is longer than 255 bytes.
    pub fn new(name: &str, kind: ExchangeKind) -> Result<Self> {
        let name = ExchangeName::new(name)?;
        Ok(Self { name, kind, durable: true, auto_delete: false, internal: false, alternate: None })
    }

    /// Gone after a restart.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.durable = false;
        self
    }

    /// Deleted with its last binding.
    #[must_use]
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Reached only from other exchanges: publishing to it is refused.
    #[must_use]
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Where messages go that no binding takes (`alternate-exchange`). It need not exist yet.
    ///
    /// # Errors
    /// `InvalidInput` if the name is longer than 255 bytes.
    pub fn with_alternate(mut self, exchange: &str) -> Result<Self> {
        self.alternate = Some(ExchangeName::new(exchange)?);
        Ok(self)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ExchangeName {
        &self.name
    }

    /// How it routes.
    #[must_use]
    pub fn kind(&self) -> ExchangeKind {
        self.kind
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(crate) fn is_auto_delete(&self) -> bool {
        self.auto_delete
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.internal
    }

    pub(crate) fn alternate(&self) -> Option<&ExchangeName> {
        self.alternate.as_ref()
    }

    /// The first argument in which the two differ, as RabbitMQ names it.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differences = [
            ("type", self.kind != other.kind),
            ("durable", self.durable != other.durable),
            ("auto_delete", self.auto_delete != other.auto_delete),
            ("internal", self.internal != other.internal),
            ("alternate-exchange", self.alternate != other.alternate),
        ];
        differences.into_iter().find(|(_, differs)| *differs).map(|(argument, _)| argument)
    }
}

/// An exchange with its routing table.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) spec: ExchangeSpec,
    table: RoutingTable,
}

/// Destinations with how many bindings lead there: the same pair may be bound under several arguments.
pub(crate) type Destinations = BTreeMap<Destination, usize>;

#[derive(Debug)]
enum RoutingTable {
    Direct(BTreeMap<Box<str>, Destinations>),
    Fanout(Destinations),
    Topic(TopicTrie),
    Headers(Vec<HeaderRule>),
}

impl Exchange {
    pub(crate) fn new(spec: ExchangeSpec) -> Self {
        let table = match spec.kind {
            ExchangeKind::Direct => RoutingTable::Direct(BTreeMap::new()),
            ExchangeKind::Fanout => RoutingTable::Fanout(Destinations::new()),
            ExchangeKind::Topic => RoutingTable::Topic(TopicTrie::default()),
            ExchangeKind::Headers => RoutingTable::Headers(Vec::new()),
        };
        Self { spec, table }
    }

    pub(crate) fn kind(&self) -> ExchangeKind {
        self.spec.kind
    }

    pub(crate) fn bind(&mut self, binding: &Binding) {
        let destination = binding.destination();
        match &mut self.table {
            RoutingTable::Direct(by_key) => {
                let key = binding.routing_key().as_str();
                add(by_key.entry(key.into()).or_default(), destination);
            }
            RoutingTable::Fanout(all) => add(all, destination),
            RoutingTable::Topic(trie) => trie.insert(binding.routing_key().as_str(), destination),
            RoutingTable::Headers(rules) => rules.push(HeaderRule::new(binding)),
        }
    }

    pub(crate) fn unbind(&mut self, binding: &Binding) {
        let destination = binding.destination();
        match &mut self.table {
            RoutingTable::Direct(by_key) => {
                let key = binding.routing_key().as_str();
                if let Some(destinations) = by_key.get_mut(key) {
                    subtract(destinations, destination);
                    if destinations.is_empty() {
                        by_key.remove(key);
                    }
                }
            }
            RoutingTable::Fanout(all) => subtract(all, destination),
            RoutingTable::Topic(trie) => trie.remove(binding.routing_key().as_str(), destination),
            RoutingTable::Headers(rules) => rules.retain(|rule| rule.key() != binding.key()),
        }
    }

    /// Adds the destinations that match; one may come more than once.
    pub(crate) fn matching<'a>(&'a self, routing_key: &str, message: &Table, found: &mut Vec<&'a Destination>) {
        match &self.table {
            RoutingTable::Direct(by_key) => found.extend(by_key.get(routing_key).into_iter().flat_map(BTreeMap::keys)),
            RoutingTable::Fanout(all) => found.extend(all.keys()),
            RoutingTable::Topic(trie) => trie.matching(routing_key, found),
            RoutingTable::Headers(rules) => found.extend(headers::matching(rules, message)),
        }
    }
}

pub(crate) fn add(destinations: &mut Destinations, destination: &Destination) {
    *destinations.entry(destination.clone()).or_default() += 1;
}

pub(crate) fn subtract(destinations: &mut Destinations, destination: &Destination) {
    if let Some(bindings) = destinations.get_mut(destination) {
        *bindings -= 1;
        if *bindings == 0 {
            destinations.remove(destination);
        }
    }
}
