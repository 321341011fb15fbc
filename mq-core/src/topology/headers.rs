//! The headers exchange: a binding's arguments against a message's headers. Pure.

use super::binding::{Binding, BindingKey, Destination};
use crate::error::{Error, Result};
use crate::value::{Table, Value};

const MATCH: &str = "x-match";

/// How many of a binding's arguments a message must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    All,
    Any,
}

/// One binding of a headers exchange.
#[derive(Debug)]
pub(crate) struct HeaderRule {
    key: BindingKey,
    destination: Destination,
    quantity: Quantity,
    wanted: Vec<(String, Value)>,
}

impl HeaderRule {
    pub(crate) fn new(binding: &Binding) -> Self {
        let (quantity, with_x) = mode(binding.arguments()).unwrap_or((Quantity::All, false));
        let counts = |name: &str| name != MATCH && (with_x || !name.starts_with("x-"));
        let arguments = binding.arguments().iter().filter(|(name, _)| counts(name));
        let wanted = arguments.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { key: binding.key().clone(), destination: binding.destination().clone(), quantity, wanted }
    }

    pub(crate) fn key(&self) -> &BindingKey {
        &self.key
    }

    fn matches(&self, headers: &Table) -> bool {
        // An argument without a value asks only that the header is there.
        let carries = |(name, wanted): &(String, Value)| {
            headers.get(name).is_some_and(|value| *wanted == Value::Void || value == wanted)
        };
        match self.quantity {
            Quantity::All => self.wanted.iter().all(carries),
            Quantity::Any => self.wanted.iter().any(carries),
        }
    }
}

pub(crate) fn matching<'a>(rules: &'a [HeaderRule], headers: &Table) -> impl Iterator<Item = &'a Destination> {
    rules.iter().filter(|rule| rule.matches(headers)).map(|rule| &rule.destination)
}

/// Refuses an `x-match` that is none.
pub(crate) fn check(arguments: &Table) -> Result<()> {
    mode(arguments).map(|_| ()).ok_or_else(|| {
        let value = arguments.get(MATCH);
        Error::invalid(format!("x-match is {value:?}: it must be all, any, all-with-x or any-with-x"))
    })
}

fn mode(arguments: &Table) -> Option<(Quantity, bool)> {
    match arguments.get(MATCH) {
        None => Some((Quantity::All, false)),
        Some(Value::Text(text)) => match text.as_str() {
            "all" => Some((Quantity::All, false)),
            "any" => Some((Quantity::Any, false)),
            "all-with-x" => Some((Quantity::All, true)),
            "any-with-x" => Some((Quantity::Any, true)),
            _ => None,
        },
        Some(_) => None,
    }
}
