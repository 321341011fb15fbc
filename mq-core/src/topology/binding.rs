//! A binding: from an exchange to a queue or another exchange, under a key and arguments, which together identify it.

use bytes::Bytes;

use crate::codec::Writer;
use crate::name::{ExchangeName, RoutingKey};
use crate::queue::QueueId;
use crate::value::{self, Table};

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination {
    /// A queue.
    Queue(QueueId),
    /// Another exchange, which routes on.
    Exchange(ExchangeName),
}

/// What makes a binding itself and not another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BindingKey {
    source: ExchangeName,
    destination: Destination,
    routing_key: RoutingKey,
    /// Encoded, since floating point numbers have no order.
    arguments: Bytes,
}

impl BindingKey {
    /// Sorts before every other binding of `source`.
    pub(crate) fn first_of(source: &ExchangeName) -> Self {
        let destination = Destination::Queue(QueueId::FIRST);
        Self { source: source.clone(), destination, routing_key: RoutingKey::default(), arguments: Bytes::new() }
    }

    pub(crate) fn source(&self) -> &ExchangeName {
        &self.source
    }
}

/// A binding with its arguments in the clear.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Binding {
    key: BindingKey,
    arguments: Table,
}

impl Binding {
    pub(crate) fn new(
        source: ExchangeName,
        destination: Destination,
        routing_key: RoutingKey,
        arguments: Table,
    ) -> Self {
        let mut encoded = Writer::default();
        value::encode_table(&arguments, &mut encoded);
        Self { key: BindingKey { source, destination, routing_key, arguments: encoded.finish() }, arguments }
    }

    pub(crate) fn key(&self) -> &BindingKey {
        &self.key
    }

    pub(crate) fn source(&self) -> &ExchangeName {
        &self.key.source
    }

    pub(crate) fn destination(&self) -> &Destination {
        &self.key.destination
    }

    pub(crate) fn routing_key(&self) -> &RoutingKey {
        &self.key.routing_key
    }

    pub(crate) fn arguments(&self) -> &Table {
        &self.arguments
    }
}
