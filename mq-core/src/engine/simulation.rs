//! Random commands, and after each of them what must always hold: the newest checkpoint and the records after it yield the
//! state, memory adds up, no consumer holds more than its prefetch, numbers and counts only rise, records fit the room
//! announced for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::journal::{Image, Parts, restore};
use crate::message::Message;
use crate::name::{ExchangeName, QueueName, RoutingKey};
use crate::queue::{Overflow, QueueSpec};

const QUEUES: [&str; 4] = ["a", "b", "c", "t"];
const PREFETCH: u16 = 3;
/// Of the smallest segments that a broker takes.
const FRAME_BYTES_MAX: usize = 31 << 10;

#[derive(Clone, Debug)]
enum Action {
    Publish { queue: usize, persistent: bool, expires: Option<u64> },
    FanOut { persistent: bool },
    Consume(usize),
    Cancel { consumer: usize, last_seen: u64 },
    Settle { delivery: usize, verdict: Verdict, through: bool },
    Purge(usize),
    Redeclare(usize),
    Wait(i64),
    Checkpoint(Fate),
    Crash,
}

/// What becomes of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Made,
    Failed,
    /// Its call failed, but it is in force.
    InForce,
}

fn action() -> impl Strategy<Value = Action> {
    let fate = prop_oneof![3 => Just(Fate::Made), 1 => Just(Fate::Failed), 1 => Just(Fate::InForce)];
    let verdict = prop_oneof![Just(Verdict::Ack), Just(Verdict::Requeue), Just(Verdict::Reject)];
    prop_oneof![
        8 => (0..4usize, any::<bool>(), prop::option::of(prop_oneof![Just(0), Just(15)]))
            .prop_map(|(queue, persistent, expires)| Action::Publish { queue, persistent, expires }),
        3 => any::<bool>().prop_map(|persistent| Action::FanOut { persistent }),
        2 => (0..4usize).prop_map(Action::Consume),
        1 => (0..8usize, 0..4u64).prop_map(|(consumer, last_seen)| Action::Cancel { consumer, last_seen }),
        8 => (any::<usize>(), verdict, any::<bool>())
            .prop_map(|(delivery, verdict, through)| Action::Settle { delivery, verdict, through }),
        1 => (0..4usize).prop_map(Action::Purge),
        1 => (0..4usize).prop_map(Action::Redeclare),
        2 => (1..50i64).prop_map(Action::Wait),
        3 => fate.prop_map(Action::Checkpoint),
        1 => Just(Action::Crash),
    ]
}

fn spec(queue: usize) -> QueueSpec {
    let spec = QueueSpec::new(QUEUES[queue]).unwrap().with_delivery_limit(Some(2));
    match queue {
        0 => spec.with_dead_letter_exchange("").unwrap().with_dead_letter_routing_key("b").unwrap(),
        1 => spec
            .with_message_ttl(Duration::from_millis(40))
            .with_dead_letter_exchange("amq.fanout")
            .unwrap()
            .with_max_length(5),
        2 => spec.with_max_length(4).with_overflow(Overflow::RejectPublish),
        _ => spec.transient().with_dead_letter_exchange("").unwrap().with_dead_letter_routing_key("c").unwrap(),
    }
}

struct World {
    engine: Engine,
    /// What the journal holds: the parts of the newest checkpoint, and the frames after it.
    checkpoint: BTreeMap<String, bytes::Bytes>,
    frames: Vec<bytes::Bytes>,
    parts: Parts,
    now: Millis,
    /// Deliveries that were handed out, settled or not.
    out: Vec<Handover>,
    consumers: Vec<ConsumerId>,
}

impl World {
    fn new() -> Self {
        let engine = Engine::new(State::new().unwrap(), FRAME_BYTES_MAX);
        let (checkpoint, frames, parts, out, consumers) = Default::default();
        let mut world = Self { engine, checkpoint, frames, parts, now: 0, out, consumers };
        (0..QUEUES.len()).for_each(|queue| world.declare(queue));
        world
    }

    fn declare(&mut self, queue: usize) {
        self.run(Command::DeclareQueue { spec: spec(queue), server_named: false }).unwrap();
        let source = ExchangeName::new("amq.fanout").unwrap();
        let target = Target::Queue(name(queue));
        let binding = BindingSpec { source, target, routing_key: RoutingKey::default(), arguments: BTreeMap::new() };
        self.run(Command::Bind(binding)).unwrap();
    }

    fn run(&mut self, command: Command) -> Result<()> {
        let bound = self.engine.bound(&command);
        let spare = self.engine.spare(&command, bound);
        let bound = bound + spare;
        let step = self.engine.apply(self.now, command, spare)?;
        if !step.records.is_empty() {
            let frame = encode_frame(&step.records);
            assert!(frame.len() <= bound, "{} bytes where {bound} were announced", frame.len());
            self.frames.push(frame);
        }
        for effect in step.effects {
            match effect {
                Effect::Deliver(handover) => self.out.push(handover),
                Effect::Consuming(id) => self.consumers.push(id),
                _ => {}
            }
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) {
        let outcome = match *action {
            Action::Publish { queue, persistent, expires } => self.publish("", QUEUES[queue], persistent, expires),
            Action::FanOut { persistent } => self.publish("amq.fanout", "", persistent, None),
            Action::Consume(queue) => self.run(Command::Consume { queue: name(queue), prefetch: PREFETCH }),
            Action::Cancel { consumer, last_seen } => match self.consumers.get(consumer).copied() {
                Some(consumer) => self.run(Command::Cancel { consumer, last_seen }),
                None => Ok(()),
            },
            Action::Settle { delivery, verdict, through } => {
                let chosen = delivery.checked_rem(self.out.len()).map(|index| self.out.swap_remove(index).tag);
                chosen.map_or(Ok(()), |tag| {
                    let which = if through { Which::Through(tag) } else { Which::One(tag) };
                    self.run(Command::Settle { which, verdict })
                })
            }
            Action::Purge(queue) => self.run(Command::PurgeQueue(name(queue))),
            Action::Redeclare(queue) => {
                self.run(Command::DeleteQueue { name: name(queue), condition: DeleteIf::Always }).unwrap();
                self.declare(queue);
                Ok(())
            }
            Action::Wait(passed) => {
                self.now += passed;
                self.run(Command::Tick)
            }
            Action::Checkpoint(fate) => {
                self.checkpoint(fate);
                Ok(())
            }
            Action::Crash => {
                self.crash();
                Ok(())
            }
        };
        if let Err(error) = outcome {
            assert_eq!(error.kind(), crate::ErrorKind::Expired, "{error:?}");
        }
        // What had no room in the command's frame is done at once, as the keeper does it.
        let mut ticks = 0;
        while self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.run(Command::Tick).unwrap();
            ticks += 1;
            assert!(ticks < 10, "a tick gets on");
        }
    }

    fn publish(&mut self, exchange: &str, key: &str, persistent: bool, expires: Option<u64>) -> Result<()> {
        let mut message = Message::new("body");
        if !persistent {
            message = message.transient();
        }
        if let Some(expires) = expires {
            message = message.with_expiration(Duration::from_millis(expires));
        }
        let (exchange, routing_key) = (ExchangeName::new(exchange)?, RoutingKey::new(key)?);
        self.run(Command::Publish { exchange, routing_key, message, mandatory: false })
    }

    /// As the broker's keeper does it.
    fn checkpoint(&mut self, fate: Fate) {
        let image = Image::take(&mut self.engine.state);
        let changes = futures::executor::block_on(self.parts.changes(&image));
        let names: Vec<_> = changes.iter().map(|(name, part)| (name.clone(), part.is_some())).collect();
        self.parts.tried(&names);
        if fate != Fate::Failed {
            self.frames.clear();
            for (name, part) in changes {
                match part {
                    Some(part) => drop(self.checkpoint.insert(name, part)),
                    None => drop(self.checkpoint.remove(&name)),
                }
            }
        }
        match fate {
            Fate::Made => self.parts.made(&names),
            Fate::Failed | Fate::InForce => image.put_back(&mut self.engine.state),
        }
    }

    fn replay(&self) -> State {
        let mut state = restore(&self.checkpoint).unwrap();
        for frame in &self.frames {
            decode_frame(frame).unwrap().iter().for_each(|record| state.apply(record).unwrap());
        }
        state
    }

    fn crash(&mut self) {
        self.engine = Engine::new(self.replay(), FRAME_BYTES_MAX);
        self.parts = Parts::new(self.checkpoint.keys().cloned());
        self.out.clear();
        self.consumers.clear();
        self.run(Command::Recover).unwrap();
        // What was transient is declared again, as an app does.
        (0..QUEUES.len()).for_each(|queue| self.declare(queue));
    }

    fn check(&self) {
        let state = &self.engine.state;
        assert_eq!(durable_view(&self.replay()), durable_view(state), "the records do not lead to the state");
        assert_eq!(state.bytes(), weigh(state), "memory does not add up");
        let entries = state.queues.values().flat_map(|queue| queue.ready().chain(queue.unacked_entries()));
        let named: BTreeSet<_> = entries.filter(|entry| entry.journaled).map(|entry| entry.id).collect();
        assert_eq!(state.messages.ids(), named, "messages that no entry names, or the other way round");
        let mut held = 0;
        for id in &self.consumers {
            let deliveries = self.engine.consumers.unseen(*id, 0).len();
            assert!(deliveries <= usize::from(PREFETCH), "{id:?} holds {deliveries}");
            held += deliveries;
        }
        let unacked: usize = state.queues.values().map(crate::queue::WorkQueue::unacked_len).sum();
        assert!(unacked <= held, "{unacked} unacked, {held} of them held by consumers");
        for queue in state.queues.values() {
            let seqs: Vec<u64> = queue.ready().map(|entry| entry.seq).collect();
            assert!(seqs.is_sorted_by(|a, b| a < b), "out of order: {seqs:?}");
            assert!(queue.ready().all(|entry| entry.returns <= 2), "poison stays in its queue");
            assert!(queue.ready().next().is_none_or(|entry| !entry.is_expired(self.now)), "what is due stays");
        }
    }
}

fn name(queue: usize) -> QueueName {
    QueueName::new(QUEUES[queue]).unwrap()
}

/// Per durable queue: its name, the next number as far as the journal knows it, and each journaled message.
type View = BTreeMap<QueueId, (String, Vec<(u64, u32, bool, bool, Message)>)>;

fn durable_view(state: &State) -> View {
    let durable = state.queues.iter().filter(|(_, queue)| queue.spec().is_durable());
    durable
        .map(|(id, queue)| {
            let ready = queue.ready().map(|entry| (entry, false));
            let entries = ready.chain(queue.unacked_entries().map(|entry| (entry, true)));
            let mut messages: Vec<_> = entries
                .filter(|(entry, _)| entry.journaled)
                .map(|(entry, held)| (entry.seq, entry.returns, entry.redelivered, held, entry.stored.message.clone()))
                .collect();
            messages.sort_by_key(|(seq, ..)| *seq);
            (*id, (queue.spec().name().to_string(), messages))
        })
        .collect()
}

fn weigh(state: &State) -> usize {
    let mut shared = BTreeMap::new();
    let mut entries = 0;
    for queue in state.queues.values() {
        for entry in queue.ready().chain(queue.unacked_entries()) {
            entries += crate::queue::ENTRY_BYTES;
            shared.insert(std::sync::Arc::as_ptr(&entry.stored), entry.stored.weight());
        }
    }
    entries + shared.values().sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_is_commanded_the_records_tell_the_state(actions in prop::collection::vec(action(), 1..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(&action);
            world.check();
        }
    }
}
