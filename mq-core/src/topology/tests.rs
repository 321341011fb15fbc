//! Declaring and routing, without a broker around them.

use super::*;
use crate::name::RoutingKey;
use crate::value::Value;

fn topology() -> Topology {
    let mut topology = Topology::new().unwrap();
    for (name, kind) in [("d", ExchangeKind::Direct), ("f", ExchangeKind::Fanout), ("h", ExchangeKind::Headers)] {
        topology.declare_exchange(ExchangeSpec::new(name, kind).unwrap());
    }
    for id in 1..=3 {
        topology.declare_queue(QueueName::new(&format!("q{id}")).unwrap(), QueueId(id));
    }
    topology
}

fn exchange(name: &str) -> ExchangeName {
    ExchangeName::new(name).unwrap()
}

fn binding(from: &str, to: Destination, key: &str, arguments: Table) -> Binding {
    Binding::new(exchange(from), to, RoutingKey::new(key).unwrap(), arguments)
}

fn queue(id: u64) -> Destination {
    Destination::Queue(QueueId(id))
}

fn check(topology: &Topology, from: &str, key: &str, headers: &Table, expected: &[u64]) {
    let reached = topology.route(&exchange(from), key, headers).unwrap();
    assert_eq!(reached, expected.iter().copied().map(QueueId).collect::<Vec<_>>());
}

fn table(pairs: &[(&str, Value)]) -> Table {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn the_default_exchange_reaches_each_queue_by_its_name() {
    let topology = topology();
    check(&topology, "", "q2", &Table::new(), &[2]);
    check(&topology, "", "nothing", &Table::new(), &[]);
}

#[test]
fn a_queue_bound_twice_gets_one_copy() {
    let mut topology = topology();
    topology.bind(binding("d", queue(1), "k", Table::new()));
    topology.bind(binding("d", queue(1), "k", table(&[("note", 1.into())])));
    topology.bind(binding("d", Destination::Exchange(exchange("f")), "k", Table::new()));
    topology.bind(binding("f", queue(1), "", Table::new()));
    topology.bind(binding("f", queue(3), "", Table::new()));
    check(&topology, "d", "k", &Table::new(), &[1, 3]);
    check(&topology, "d", "other", &Table::new(), &[]);
    topology.unbind(binding("d", queue(1), "k", Table::new()).key());
    check(&topology, "d", "k", &Table::new(), &[1, 3]);
}

#[test]
fn a_ring_of_exchanges_ends() {
    let mut topology = topology();
    topology.bind(binding("f", Destination::Exchange(exchange("d")), "", Table::new()));
    topology.bind(binding("d", Destination::Exchange(exchange("f")), "k", Table::new()));
    topology.bind(binding("d", queue(2), "k", Table::new()));
    check(&topology, "f", "k", &Table::new(), &[2]);
}

#[test]
fn what_nobody_takes_goes_to_the_alternate() {
    let mut topology = topology();
    let spec = ExchangeSpec::new("a", ExchangeKind::Direct).unwrap().with_alternate("f").unwrap();
    topology.declare_exchange(spec);
    topology.bind(binding("a", queue(1), "known", Table::new()));
    topology.bind(binding("f", queue(2), "", Table::new()));
    check(&topology, "a", "known", &Table::new(), &[1]);
    check(&topology, "a", "unknown", &Table::new(), &[2]);
}

#[test]
fn headers_match_all_or_any() {
    let mut topology = topology();
    let all = table(&[("a", 1.into()), ("b", Value::Void), ("x-ignored", 9.into())]);
    let any = table(&[("x-match", "any".into()), ("a", 2.into()), ("c", "y".into())]);
    let with_x = table(&[("x-match", "any-with-x".into()), ("x-kind", "k".into())]);
    topology.bind(binding("h", queue(1), "", all));
    topology.bind(binding("h", queue(2), "", any));
    topology.bind(binding("h", queue(3), "", with_x));
    check(&topology, "h", "", &table(&[("a", 1.into()), ("b", "whatever".into())]), &[1]);
    check(&topology, "h", "", &table(&[("a", 2.into())]), &[2]);
    check(&topology, "h", "", &table(&[("a", Value::I64(1)), ("b", 1.into())]), &[]);
    check(&topology, "h", "", &table(&[("x-kind", "k".into())]), &[3]);
    let wrong = binding("h", queue(1), "", table(&[("x-match", "some".into())]));
    assert_eq!(topology.check_bind(&wrong).unwrap_err().code(), Some("PRECONDITION_FAILED"));
}

#[test]
fn declaring_follows_rabbitmq() {
    let mut topology = topology();
    let refused = |name: &str| {
        let spec = ExchangeSpec::new(name, ExchangeKind::Direct).unwrap();
        topology.check_declare(&spec).unwrap_err().code()
    };
    assert_eq!(refused(""), Some("ACCESS_REFUSED"));
    assert_eq!(refused("amq.mine"), Some("ACCESS_REFUSED"));
    assert_eq!(refused("f"), Some("PRECONDITION_FAILED"));
    let equal = ExchangeSpec::new("amq.topic", ExchangeKind::Topic).unwrap();
    assert!(!topology.check_declare(&equal).unwrap());
    assert_eq!(topology.check_delete(&exchange("amq.topic"), false).unwrap_err().code(), Some("ACCESS_REFUSED"));
    topology.bind(binding("f", queue(1), "", Table::new()));
    assert_eq!(topology.check_delete(&exchange("f"), true).unwrap_err().code(), Some("PRECONDITION_FAILED"));
    let missing = binding("missing", queue(1), "", Table::new());
    assert_eq!(topology.check_bind(&missing).unwrap_err().code(), Some("NOT_FOUND"));
}

#[test]
fn deleting_either_end_removes_the_binding() {
    let mut topology = topology();
    topology.bind(binding("f", queue(1), "", Table::new()));
    topology.bind(binding("f", queue(2), "", Table::new()));
    topology.delete_queue(&QueueName::new("q1").unwrap());
    check(&topology, "f", "", &Table::new(), &[2]);
    topology.delete_exchange(&exchange("f"));
    assert_eq!(topology.bindings().count(), 0);
    assert!(topology.by_destination.is_empty());
    assert_eq!(topology.route(&exchange("f"), "", &Table::new()).unwrap_err().code(), Some("NOT_FOUND"));
}
