//! The state machine alone: no journal, no tasks, time as a number.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::message::Message;
use crate::name::{ExchangeName, QueueName, RoutingKey};
use crate::queue::{Overflow, QueueSpec};
use crate::topology::{ExchangeKind, ExchangeSpec};
use crate::value::Value;

/// An engine, the records it made, and what it handed out.
struct Bench {
    engine: Engine,
    frames: Vec<Vec<Record>>,
    inbox: VecDeque<Handover>,
    now: Millis,
}

impl Bench {
    fn new() -> Self {
        Self::with_frames_of(usize::MAX)
    }

    fn with_frames_of(bytes: usize) -> Self {
        let engine = Engine::new(State::new().unwrap(), bytes);
        Self { engine, frames: Vec::new(), inbox: VecDeque::new(), now: 0 }
    }

    fn with(specs: &[QueueSpec]) -> Self {
        let mut bench = Self::new();
        for spec in specs {
            bench.run(Command::DeclareQueue { spec: spec.clone(), server_named: false });
        }
        bench
    }

    fn try_run(&mut self, command: Command) -> Result<Vec<Effect>> {
        let bound = self.engine.bound(&command);
        let spare = self.engine.spare(&command, bound);
        let bound = bound + spare;
        let step = self.engine.apply(self.now, command, spare)?;
        let bytes = encode_frame(&step.records).len();
        assert!(bytes <= bound, "{bytes} bytes where {bound} were announced: {:?}", step.records);
        assert!(bound <= self.engine.frame_bytes_max, "{bound} bytes do not fit a frame");

        if !step.records.is_empty() {
            self.frames.push(step.records);
        }
        let (deliveries, others): (Vec<Effect>, Vec<Effect>) =
            step.effects.into_iter().partition(|effect| matches!(effect, Effect::Deliver(_)));
        self.inbox.extend(deliveries.into_iter().filter_map(|effect| match effect {
            Effect::Deliver(handover) => Some(handover),
            _ => None,
        }));
        Ok(others)
    }

    fn run(&mut self, command: Command) -> Vec<Effect> {
        self.try_run(command).unwrap()
    }

    fn publish(&mut self, exchange: &str, key: &str, message: Message) -> Vec<Effect> {
        let exchange = ExchangeName::new(exchange).unwrap();
        let routing_key = RoutingKey::new(key).unwrap();
        self.run(Command::Publish { exchange, routing_key, message, mandatory: false })
    }

    fn send(&mut self, queue: &str, body: &'static str) -> Vec<Effect> {
        self.publish("", queue, Message::new(body))
    }

    fn consume(&mut self, queue: &str, prefetch: u16) -> ConsumerId {
        match self.run(Command::Consume { queue: name(queue), prefetch })[..] {
            [Effect::Consuming(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, tag: DeliveryTag, verdict: Verdict) {
        self.run(Command::Settle { which: Which::One(tag), verdict });
    }

    fn next(&mut self) -> Handover {
        self.inbox.pop_front().expect("a delivery")
    }

    fn bodies(&mut self) -> Vec<String> {
        self.inbox
            .drain(..)
            .map(|handover| String::from_utf8(handover.stored.message.body().to_vec()).unwrap())
            .collect()
    }

    fn counts(&self, queue: &str) -> (usize, usize) {
        let id = self.engine.state.topology.queue(&name(queue)).unwrap();
        let queue = self.engine.state.queue(id).unwrap();
        (queue.ready_len(), queue.unacked_len())
    }

    /// The state that the encoded records lead to.
    fn replayed(&self) -> Self {
        let mut state = State::new().unwrap();
        for frame in &self.frames {
            for record in decode_frame(&encode_frame(frame)).unwrap() {
                state.apply(&record).unwrap();
            }
        }
        let engine = Engine::new(state, usize::MAX);
        let mut bench = Self { engine, frames: Vec::new(), inbox: VecDeque::new(), now: self.now };
        bench.run(Command::Recover);
        bench
    }
}

fn name(queue: &str) -> QueueName {
    QueueName::new(queue).unwrap()
}

fn queue(name: &str) -> QueueSpec {
    QueueSpec::new(name).unwrap()
}

#[test]
fn an_ack_removes_and_makes_room_for_the_next() {
    let mut bench = Bench::with(&[queue("q")]);
    let consumer = bench.consume("q", 2);
    for body in ["a", "b", "c", "d"] {
        assert!(matches!(bench.send("q", body)[..], [Effect::Confirm { queues: 1 }]));
    }
    assert_eq!((bench.counts("q"), bench.inbox.len()), ((2, 2), 2));
    let second = bench.inbox[1].tag;
    assert_eq!(second, DeliveryTag { consumer, number: 2 });
    bench.run(Command::Settle { which: Which::Through(second), verdict: Verdict::Ack });
    assert_eq!((bench.counts("q"), bench.bodies().join("")), ((0, 2), "abcd".into()));
    let error = bench.try_run(Command::Settle { which: Which::One(second), verdict: Verdict::Ack }).unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some("PRECONDITION_FAILED"), crate::ErrorKind::Expired));
}

#[test]
fn a_nack_goes_back_to_its_place_and_counts() {
    let mut bench = Bench::with(&[queue("q")]);
    for body in ["a", "b", "c"] {
        bench.send("q", body);
    }
    let consumer = bench.consume("q", 2);
    let first = bench.next();
    bench.run(Command::Cancel { consumer, last_seen: 1 });
    bench.settle(first.tag, Verdict::Requeue);
    bench.inbox.clear();
    bench.consume("q", 9);
    let back = bench.next();
    assert_eq!((&back.stored.message.body()[..], back.redelivered, back.returns), (&b"a"[..], true, 1));
    let unseen = bench.next();
    assert_eq!((&unseen.stored.message.body()[..], unseen.redelivered, unseen.returns), (&b"b"[..], true, 0));
    assert_eq!(bench.bodies(), ["c"]);
}

#[test]
fn consumers_take_turns() {
    let mut bench = Bench::with(&[queue("q")]);
    let (one, two) = (bench.consume("q", 10), bench.consume("q", 10));
    (0..6).for_each(|_| drop(bench.send("q", "m")));
    let order: Vec<ConsumerId> = bench.inbox.iter().map(|handover| handover.tag.consumer).collect();
    assert_eq!(order, [one, two, one, two, one, two]);
}

#[test]
fn poison_is_dead_lettered_at_the_limit_in_one_frame() {
    let poisoned = queue("q").with_delivery_limit(Some(2)).with_dead_letter_exchange("").unwrap();
    let mut bench = Bench::with(&[poisoned.with_dead_letter_routing_key("dead").unwrap(), queue("dead")]);
    bench.send("q", "poison");
    bench.consume("q", 1);
    for returns in 0..=2 {
        let handover = bench.next();
        assert_eq!(handover.returns, returns);
        bench.settle(handover.tag, Verdict::Requeue);
    }
    assert_eq!((bench.counts("q"), bench.counts("dead")), ((0, 0), (1, 0)));
    assert!(matches!(bench.frames.last().unwrap()[..], [Record::Returned { .. }, Record::Moved { .. }]));
    let replayed = bench.replayed();
    assert_eq!((replayed.counts("q"), replayed.counts("dead")), ((0, 0), (1, 0)));
}

#[test]
fn what_waits_too_long_expires_in_order() {
    let ttl = queue("q").with_message_ttl(Duration::from_millis(100)).with_dead_letter_exchange("amq.fanout").unwrap();
    let mut bench = Bench::with(&[ttl, queue("late")]);
    bench.run(Command::Bind(BindingSpec {
        source: ExchangeName::new("amq.fanout").unwrap(),
        target: Target::Queue(name("late")),
        routing_key: RoutingKey::default(),
        arguments: Default::default(),
    }));
    bench.publish("", "q", Message::new("short").with_expiration(Duration::from_millis(40)));
    bench.now = 10;
    bench.send("q", "long");
    assert_eq!(bench.engine.next_deadline(), Some(40));
    bench.now = 40;
    bench.run(Command::Tick);
    assert_eq!((bench.counts("q"), bench.counts("late")), ((1, 0), (1, 0)));
    assert_eq!(bench.engine.next_deadline(), Some(110));
    bench.now = 110;
    bench.consume("q", 1);
    assert_eq!((bench.counts("q"), bench.counts("late"), bench.inbox.len()), ((0, 0), (2, 0), 0));
    assert_eq!(bench.engine.next_deadline(), None);
}

#[test]
fn a_message_that_may_not_wait_is_for_a_consumer_that_can_take_it_at_once() {
    let dying = queue("q").with_dead_letter_exchange("").unwrap().with_dead_letter_routing_key("dead").unwrap();
    let mut bench = Bench::with(&[dying, queue("dead"), queue("ttl").with_message_ttl(Duration::ZERO)]);
    bench.now = 7;
    let at_once = |body: &'static str| Message::new(body).with_expiration(Duration::ZERO);
    bench.publish("", "q", at_once("nobody waits"));
    assert_eq!((bench.counts("q"), bench.counts("dead")), ((0, 0), (1, 0)));
    bench.consume("q", 1);
    bench.consume("ttl", 1);
    bench.publish("", "q", at_once("taken"));
    bench.publish("", "q", at_once("no credit"));
    bench.send("ttl", "by the queue");
    assert_eq!((bench.counts("q"), bench.counts("dead"), bench.counts("ttl")), ((0, 1), (2, 0), (0, 1)));
    let held = bench.next();
    assert_eq!(bench.bodies(), ["by the queue"]);
    // It had its chance.
    bench.settle(held.tag, Verdict::Requeue);
    assert_eq!((bench.counts("q"), bench.counts("dead"), bench.inbox.len()), ((0, 0), (3, 0), 0));
}

#[test]
fn a_due_message_behind_others_is_not_delivered() {
    let mut bench = Bench::with(&[queue("q")]);
    bench.send("q", "a");
    bench.publish("", "q", Message::new("due").with_expiration(Duration::from_millis(5)));
    bench.send("q", "c");
    bench.now = 5;
    bench.consume("q", 9);
    assert_eq!(bench.bodies(), ["a", "c"]);
}

#[test]
fn a_full_queue_drops_its_oldest_or_refuses() {
    let dropping = queue("drop").with_max_length(2);
    let refusing = queue("refuse").with_max_length_bytes(2).with_overflow(Overflow::RejectPublish);
    let mut bench = Bench::with(&[dropping, refusing]);
    for body in ["a", "b", "c"] {
        bench.send("drop", body);
    }
    bench.consume("drop", 9);
    assert_eq!(bench.bodies(), ["b", "c"]);
    assert!(matches!(bench.send("refuse", "a")[..], [Effect::Confirm { queues: 1 }]));
    assert!(matches!(bench.send("refuse", "bb")[..], [Effect::Refuse { .. }]));
    assert_eq!(bench.counts("refuse"), (1, 0));
}

#[test]
fn a_mass_expiry_is_split_over_commands() {
    let mut bench = Bench::with(&[queue("q").with_message_ttl(Duration::from_millis(1))]);
    (0..5000).for_each(|_| drop(bench.send("q", "m")));
    bench.now = 1;
    let mut ticks = 0;
    while bench.engine.next_deadline().is_some_and(|at| at <= bench.now) {
        let before = bench.counts("q").0;
        bench.run(Command::Tick);
        assert!(bench.counts("q").0 < before, "a tick gets on");
        ticks += 1;
    }
    assert!((2..20).contains(&ticks), "{ticks} ticks");
    assert_eq!(bench.engine.state.bytes(), 0);
}

/// Frames of the smallest segments.
const SMALL: usize = 31 << 10;

#[test]
fn in_small_frames_a_tick_gets_on() {
    let mut bench = Bench::with_frames_of(SMALL);
    let spec = queue("q").with_message_ttl(Duration::from_millis(1)).with_dead_letter_exchange("").unwrap();
    for spec in [spec.with_dead_letter_routing_key("dead").unwrap(), queue("dead")] {
        bench.run(Command::DeclareQueue { spec, server_named: false });
    }
    (0..5000).for_each(|_| drop(bench.send("q", "m")));
    bench.now = 1;
    while bench.engine.next_deadline().is_some_and(|at| at <= bench.now) {
        let before = bench.counts("q").0;
        bench.run(Command::Tick);
        assert!(bench.counts("q").0 < before, "a tick gets on");
    }
    assert_eq!((bench.counts("q"), bench.counts("dead")), ((0, 0), (5000, 0)));
}

#[test]
fn what_could_never_leave_its_queue_is_refused() {
    let mut bench = Bench::with_frames_of(SMALL);
    let dying = queue("t").transient().with_dead_letter_exchange("").unwrap();
    for spec in [dying.with_dead_letter_routing_key("dead").unwrap(), queue("dead")] {
        bench.run(Command::DeclareQueue { spec, server_named: false });
    }
    let publish = |bytes: usize| Command::Publish {
        exchange: ExchangeName::default(),
        routing_key: RoutingKey::new("t").unwrap(),
        message: Message::new(vec![0; bytes]),
        mandatory: false,
    };
    let error = bench.try_run(publish(27 << 10)).unwrap_err();
    assert_eq!((error.code(), bench.counts("t")), (Some("CONTENT_TOO_LARGE"), (0, 0)));
    bench.run(publish(26 << 10));
    bench.consume("t", 1);
    let held = bench.next();
    bench.settle(held.tag, Verdict::Reject);
    assert_eq!(bench.replayed().counts("dead"), (1, 0));
}

#[test]
fn a_dead_letter_for_more_queues_than_a_frame_names_reaches_those_that_fit() {
    let mut bench = Bench::with_frames_of(SMALL);
    let dying = queue("q").with_dead_letter_exchange("amq.fanout").unwrap();
    bench.run(Command::DeclareQueue { spec: dying, server_named: false });
    for index in 0..2000 {
        let spec = queue(&format!("dead{index}"));
        let target = Target::Queue(spec.name().clone());
        bench.run(Command::DeclareQueue { spec, server_named: false });
        let source = ExchangeName::new("amq.fanout").unwrap();
        bench.run(Command::Bind(BindingSpec {
            source,
            target,
            routing_key: RoutingKey::default(),
            arguments: Default::default(),
        }));
    }
    bench.send("q", "m");
    bench.consume("q", 1);
    let held = bench.next();
    let effects = bench.run(Command::Settle { which: Which::One(held.tag), verdict: Verdict::Reject });
    let reached = (0..2000).filter(|index| bench.counts(&format!("dead{index}")).0 == 1).count();
    assert!(matches!(effects[..], [Effect::Lost { cause: Loss::FrameFull, messages: 1, .. }]), "{effects:?}");
    assert!((1000..2000).contains(&reached) && bench.counts("q") == (0, 0), "{reached} reached");
}

#[test]
fn a_dead_letter_that_leads_nowhere_is_told() {
    let to =
        |exchange| queue("q").with_message_ttl(Duration::from_millis(1)).with_dead_letter_exchange(exchange).unwrap();
    for (spec, expected) in [
        (to("missing"), Loss::NoExchange),
        (to("amq.fanout"), Loss::NoQueue),
        (to("").with_dead_letter_routing_key("q").unwrap(), Loss::Ring),
    ] {
        let mut bench = Bench::with(&[spec]);
        (0..3).for_each(|_| drop(bench.send("q", "m")));
        bench.now = 1;
        let effects = bench.run(Command::Tick);
        let [Effect::Lost { cause, messages: 3, .. }] = effects[..] else { panic!("{effects:?}") };
        assert_eq!((cause, bench.counts("q")), (expected, (0, 0)));
    }
}

#[test]
fn many_deliveries_go_back_in_several_small_frames() {
    let mut bench = Bench::with_frames_of(SMALL);
    bench.run(Command::DeclareQueue { spec: queue("q"), server_named: false });
    let (one, two) = (bench.consume("q", 3000), bench.consume("q", 3000));
    (0..6000).for_each(|_| drop(bench.send("q", "m")));
    for consumer in [one, two] {
        let mut rounds = 0;
        while matches!(bench.run(Command::Cancel { consumer, last_seen: 0 })[..], [Effect::Unfinished]) {
            rounds += 1;
        }
        assert_eq!(rounds, 2);
    }
    assert_eq!(bench.counts("q"), (6000, 0));
}

#[test]
fn a_mandatory_message_without_a_queue_comes_back() {
    let mut bench = Bench::new();
    let exchange = ExchangeName::new("amq.direct").unwrap();
    let message = Message::new("lost");
    let command = Command::Publish { exchange, routing_key: RoutingKey::default(), message, mandatory: true };
    assert!(matches!(bench.run(command)[..], [Effect::Return { .. }, Effect::Confirm { queues: 0 }]));
    assert!(matches!(bench.publish("amq.direct", "k", Message::new("m"))[..], [Effect::Confirm { queues: 0 }]));
}

#[test]
fn what_deletes_itself_goes_with_its_last_user() {
    let mut bench = Bench::with(&[queue("q").transient().auto_delete()]);
    let spec = ExchangeSpec::new("x", ExchangeKind::Fanout).unwrap().auto_delete();
    bench.run(Command::DeclareExchange(spec));
    bench.run(Command::Bind(BindingSpec {
        source: ExchangeName::new("x").unwrap(),
        target: Target::Queue(name("q")),
        routing_key: RoutingKey::default(),
        arguments: Default::default(),
    }));
    let consumer = bench.consume("q", 1);
    bench.run(Command::Cancel { consumer, last_seen: 0 });
    assert_eq!(bench.engine.state.topology.queue(&name("q")).unwrap_err().code(), Some("NOT_FOUND"));
    assert_eq!(bench.engine.state.topology.declared().count(), 0);
}

#[test]
fn deleting_a_queue_cancels_its_consumers_and_forgives_late_acks() {
    let mut bench = Bench::with(&[queue("q")]);
    bench.send("q", "m");
    bench.consume("q", 1);
    let held = bench.next();
    let effects = bench.run(Command::DeleteQueue { name: name("q"), condition: DeleteIf::Always });
    assert!(matches!(effects[..], [Effect::Removed { messages: 0 }, Effect::Cancelled(_)]));
    bench.settle(held.tag, Verdict::Ack);
    assert_eq!(bench.engine.state.bytes(), 0);
    assert_eq!(bench.replayed().engine.state.queues.len(), 0);
}

#[test]
fn replay_brings_back_what_is_durable_and_counts_who_held_it() {
    let mut bench = Bench::with(&[queue("q"), queue("t").transient()]);
    bench.send("q", "a");
    bench.publish("", "q", Message::new("volatile").transient());
    bench.send("q", "b");
    bench.send("t", "gone");
    bench.consume("q", 1);
    let mut replayed = bench.replayed();
    assert_eq!(replayed.counts("q"), (2, 0));
    assert_eq!(replayed.engine.state.queues.len(), 1);
    replayed.consume("q", 9);
    let (first, second) = (replayed.next(), replayed.next());
    assert_eq!((first.redelivered, first.returns), (true, 1));
    assert_eq!((second.redelivered, second.returns), (false, 0));
    assert_eq!(&second.stored.message.body()[..], b"b");
}

#[test]
fn a_persistent_dead_letter_of_a_transient_queue_is_durable() {
    let dying = queue("t").transient().with_dead_letter_exchange("").unwrap();
    let mut bench = Bench::with(&[dying.with_dead_letter_routing_key("dead").unwrap(), queue("dead")]);
    bench.send("t", "m");
    bench.consume("t", 1);
    let held = bench.next();
    bench.settle(held.tag, Verdict::Reject);
    assert_eq!(bench.replayed().counts("dead"), (1, 0));
}

#[test]
fn a_fan_out_shares_its_memory() {
    let specs: Vec<QueueSpec> = (0..10).map(|index| queue(&format!("q{index}"))).collect();
    let mut bench = Bench::with(&specs);
    for spec in &specs {
        bench.run(Command::Bind(BindingSpec {
            source: ExchangeName::new("amq.fanout").unwrap(),
            target: Target::Queue(spec.name().clone()),
            routing_key: RoutingKey::default(),
            arguments: Default::default(),
        }));
    }
    bench.publish("amq.fanout", "", Message::new(vec![0; 100_000]));
    assert!((100_000..103_000).contains(&bench.engine.state.bytes()), "{}", bench.engine.state.bytes());
    for spec in &specs {
        bench.run(Command::PurgeQueue(spec.name().clone()));
    }
    assert_eq!(bench.engine.state.bytes(), 0);
}

#[test]
fn a_headers_value_survives_the_journal() {
    let mut bench = Bench::with(&[queue("q")]);
    bench.publish("", "q", Message::new("m").with_header("k", Value::F64(0.5)));
    let mut replayed = bench.replayed();
    replayed.consume("q", 1);
    assert_eq!(replayed.next().stored.message.properties().headers["k"], Value::F64(0.5));
}
