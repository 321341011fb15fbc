//! Dead letters: the `x-death` history that a message carries, and when a move would only go round in a ring. Pure.

use chrono::DateTime;

use super::entry::{Millis, Stored};
use super::spec::QueueSpec;
use crate::message::Message;
use crate::name::{ExchangeName, QueueName};
use crate::value::{Table, Value};

/// Why a message was dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeathReason {
    /// A consumer rejected it.
    Rejected,
    /// It waited too long.
    Expired,
    /// The queue was at its maximum length.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
}

impl DeathReason {
    /// As `x-death` names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// The message as it enters the queues of the dead letter exchange `exchange`: with one more death on record, and
/// without its expiration, or it would expire there again.
pub(crate) fn stamp(
    dead: &Stored,
    queue: &QueueSpec,
    exchange: &ExchangeName,
    reason: DeathReason,
    at: Millis,
) -> Stored {
    let mut message = dead.message.clone();
    let expiration = message.properties_mut().expiration.take();
    let first = !message.properties().headers.contains_key("x-death");
    let headers = &mut message.properties_mut().headers;
    let mut deaths = match headers.remove("x-death") {
        Some(Value::List(deaths)) => deaths,
        _ => Vec::new(),
    };
    let known = deaths.iter().position(|death| is_death(death, queue.name(), Some(reason)));
    let mut death = match known.map(|index| deaths.remove(index)) {
        Some(Value::Table(death)) => death,
        _ => new_death(dead, queue.name(), reason, at),
    };
    if let Some(Value::I64(count)) = death.get_mut("count") {
        // A publisher may have set it.
        *count = count.saturating_add(1);
    }
    if let Some(expiration) = expiration {
        death.insert("original-expiration".into(), expiration.as_millis().to_string().into());
    }
    deaths.insert(0, Value::Table(death));
    headers.insert("x-death".into(), Value::List(deaths));
    if first {
        headers.insert("x-first-death-queue".into(), queue.name().as_str().into());
        headers.insert("x-first-death-reason".into(), reason.as_str().into());
        headers.insert("x-first-death-exchange".into(), dead.exchange.as_str().into());
    }
    let routing_key = queue.dead_letter_routing_key().unwrap_or(&dead.routing_key).clone();
    Stored::new(exchange.clone(), routing_key, message, at)
}

fn new_death(dead: &Stored, queue: &QueueName, reason: DeathReason, at: Millis) -> Table {
    let seconds = DateTime::from_timestamp_millis(at).map_or(0, |time| time.timestamp());
    let keys = Value::List(vec![dead.routing_key.as_str().into()]);
    let values = [
        ("count", Value::I64(0)),
        ("reason", reason.as_str().into()),
        ("queue", queue.as_str().into()),
        ("time", Value::Timestamp(u64::try_from(seconds).unwrap_or(0))),
        ("exchange", dead.exchange.as_str().into()),
        ("routing-keys", keys),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn is_death(death: &Value, queue: &QueueName, reason: Option<DeathReason>) -> bool {
    let Value::Table(death) = death else { return false };
    let says = |name: &str, text: &str| matches!(death.get(name), Some(Value::Text(value)) if value == text);
    says("queue", queue.as_str()) && reason.is_none_or(|reason| says("reason", reason.as_str()))
}

/// Whether moving the message into `target` for `reason` would close a ring in which nobody ever rejected it: such a
/// message is dropped, as RabbitMQ does, or it would circle for ever.
pub(crate) fn closes_a_cycle(message: &Message, from: &QueueName, target: &QueueName, reason: DeathReason) -> bool {
    if reason == DeathReason::Rejected {
        return false;
    }
    if from == target {
        return true;
    }
    let Some(Value::List(deaths)) = message.properties().headers.get("x-death") else { return false };
    let Some(last) = deaths.iter().position(|death| is_death(death, target, None)) else { return false };
    let rejected = |death: &Value| matches!(death, Value::Table(death) if death.get("reason") == Some(&Value::from(DeathReason::Rejected.as_str())));
    !deaths[..=last].iter().any(rejected)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::name::RoutingKey;

    fn queue(name: &str) -> QueueSpec {
        QueueSpec::new(name).unwrap()
    }

    fn published(message: Message) -> Stored {
        Stored::new(ExchangeName::new("orders").unwrap(), RoutingKey::new("eu").unwrap(), message, 0)
    }

    #[test]
    fn the_history_is_newest_first_and_counts() {
        let dlx = ExchangeName::new("dlx").unwrap();
        let message = Message::new("m").with_expiration(Duration::from_millis(250));
        let expired = stamp(&published(message), &queue("a"), &dlx, DeathReason::Expired, 1_700_000_000_000);
        let rejected = stamp(&expired, &queue("b"), &dlx, DeathReason::Rejected, 1_700_000_001_000);
        let again = stamp(&rejected, &queue("b"), &dlx, DeathReason::Rejected, 1_700_000_002_000);
        let properties = again.message.properties();
        assert_eq!(properties.expiration, None);
        let Some(Value::List(deaths)) = properties.headers.get("x-death") else { panic!("no x-death") };
        let [Value::Table(newest), Value::Table(oldest)] = &deaths[..] else { panic!("{deaths:?}") };
        assert_eq!((&newest["queue"], &newest["count"]), (&"b".into(), &Value::I64(2)));
        assert_eq!((&oldest["queue"], &oldest["count"]), (&"a".into(), &Value::I64(1)));
        assert_eq!(oldest["original-expiration"], "250".into());
        assert_eq!(oldest["exchange"], "orders".into());
        assert_eq!(properties.headers["x-first-death-reason"], "expired".into());
    }

    #[test]
    fn a_count_that_a_publisher_made_up_stays_in_range() {
        let (a, dlx) = (queue("a"), ExchangeName::new("dlx").unwrap());
        let mut once = stamp(&published(Message::new("m")), &a, &dlx, DeathReason::Rejected, 0);
        let Some(Value::List(deaths)) = once.message.properties_mut().headers.get_mut("x-death") else { panic!() };
        let Value::Table(death) = &mut deaths[0] else { panic!("{deaths:?}") };
        death.insert("count".into(), Value::I64(i64::MAX));
        let twice = stamp(&once, &a, &dlx, DeathReason::Rejected, 0);
        assert_eq!(twice.message.properties().headers["x-death"], once.message.properties().headers["x-death"]);
    }

    #[test]
    fn a_ring_without_a_rejection_ends() {
        let dlx = ExchangeName::new("dlx").unwrap();
        let (a, b) = (queue("a"), queue("b"));
        let once = stamp(&published(Message::new("m")), &a, &dlx, DeathReason::Expired, 0);
        assert!(closes_a_cycle(&once.message, b.name(), a.name(), DeathReason::Expired));
        assert!(!closes_a_cycle(&once.message, b.name(), a.name(), DeathReason::Rejected));
        assert!(!closes_a_cycle(&once.message, a.name(), b.name(), DeathReason::Expired));
        let rejected = stamp(&once, &b, &dlx, DeathReason::Rejected, 0);
        assert!(!closes_a_cycle(&rejected.message, b.name(), a.name(), DeathReason::Expired));
    }
}
