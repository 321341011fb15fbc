//! Checkpoints: the state as named parts, of which only those that changed are written again.
//!
//! | part | content |
//! |---|---|
//! | `topology` | version, next queue number, durable exchanges (JSON), durable queues (number, JSON), durable bindings |
//! | `message/{chunk}` | version, the messages whose numbers lie in the chunk's span of 1024 |
//! | `queue/{number}` | version, the next number in the queue |
//! | `queue/{number}/{chunk}` | version, the journaled entries whose numbers lie in the chunk's span of 1024 |
//!
//! Numbers in names are 16 hexadecimal digits. A message is its number less the one before, then time, exchange, key and
//! message as in a record. An entry is its number less the one before, flags (1 held by a consumer, 2 redelivered, 4
//! expires), returns, expiry (ms) if flagged, the number of its message.
//!
//! Invariant: a message is stored once, in however many queues it is. One that nobody takes costs a rewrite of its own
//! chunks at most; it never holds the journal back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Reader, Writer};
use crate::engine::{State, decode_binding, decode_json, decode_stored, encode_binding, encode_json, encode_stored};
use crate::error::{Error, Result};
use crate::queue::{CHUNK_SPAN, Entry, MessageId, QueueId, Stored};
use crate::topology::{Destination, ExchangeSpec};

const PART_VERSION: u8 = 2;
const TOPOLOGY: &str = "topology";

const HELD: u8 = 1;
const REDELIVERED: u8 = 2;
const EXPIRES: u8 = 4;

/// What changed since the checkpoint before: taken under the broker's lock, encoded outside of it.
#[derive(Debug, Default)]
pub(crate) struct Image {
    topology: Option<Bytes>,
    messages: BTreeMap<u64, Vec<(MessageId, Arc<Stored>)>>,
    queues: Vec<QueueImage>,
}

#[derive(Debug)]
struct QueueImage {
    id: QueueId,
    /// `None` if the queue is gone.
    next_seq: Option<u64>,
    /// Entries, and whether a consumer holds them.
    chunks: BTreeMap<u64, Vec<(Entry, bool)>>,
}

impl Image {
    /// Takes what changed, and marks it as unchanged.
    pub(crate) fn take(state: &mut State) -> Self {
        let topology = std::mem::take(&mut state.topology_dirty).then(|| encode_topology(state));
        let chunks = state.messages.take_dirty();
        let messages = chunks.into_iter().map(|chunk| (chunk, state.messages.chunk(chunk))).collect();
        let dirty = std::mem::take(&mut state.dirty);
        let queues = dirty.into_iter().map(|id| QueueImage::take(state, id)).collect();
        Self { topology, messages, queues }
    }

    /// Marks it all as changed again: the checkpoint failed.
    pub(crate) fn put_back(self, state: &mut State) {
        state.topology_dirty |= self.topology.is_some();
        state.messages.mark_dirty(self.messages.into_keys());
        for image in self.queues {
            state.dirty.insert(image.id);
            if let Some(queue) = state.queues.get_mut(&image.id) {
                queue.mark_dirty(image.chunks.into_keys());
            }
        }
    }
}

impl QueueImage {
    fn take(state: &mut State, id: QueueId) -> Self {
        let durable = state.queues.get_mut(&id).filter(|queue| queue.spec().is_durable());
        let Some(queue) = durable else { return Self { id, next_seq: None, chunks: BTreeMap::new() } };
        let chunks = queue.take_dirty().into_iter().map(|chunk| (chunk, queue.chunk(chunk))).collect();
        Self { id, next_seq: Some(queue.next_seq()), chunks }
    }
}

/// The names of the parts that the newest checkpoint has, or may have.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    names: BTreeSet<String>,
}

impl Parts {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect() }
    }

    /// The changes that bring the checkpoint up to `image`.
    pub(crate) async fn changes(&self, image: &Image) -> Vec<(String, Option<Bytes>)> {
        let mut changes = Vec::new();
        if let Some(topology) = &image.topology {
            changes.push((TOPOLOGY.to_owned(), Some(topology.clone())));
        }
        for (chunk, messages) in &image.messages {
            let part = (!messages.is_empty()).then(|| encode_messages(messages));
            self.change(message_part(*chunk), part, &mut changes);
            // Encoding much must not hold up the other tasks of this thread.
            tokio::task::yield_now().await;
        }
        for queue in &image.queues {
            let prefix = queue_part(queue.id);
            let Some(next_seq) = queue.next_seq else {
                let of_queue = self.names.range(prefix.clone()..).take_while(|name| name.starts_with(&prefix));
                changes.extend(of_queue.map(|name| (name.clone(), None)));
                continue;
            };
            let mut head = Writer::default();
            head.u8(PART_VERSION);
            head.varint(next_seq);
            changes.push((prefix.clone(), Some(head.finish())));
            for (chunk, entries) in &queue.chunks {
                let part = (!entries.is_empty()).then(|| encode_entries(entries));
                self.change(format!("{prefix}/{chunk:016x}"), part, &mut changes);
                tokio::task::yield_now().await;
            }
        }
        changes
    }

    /// Adds a change, unless it is the end of a part that is not there.
    fn change(&self, name: String, part: Option<Bytes>, changes: &mut Vec<(String, Option<Bytes>)>) {
        if part.is_some() || self.names.contains(&name) {
            changes.push((name, part));
        }
    }

    /// Notes that the changes, names and whether the part exists by then, may be made: what is new may have to go again.
    pub(crate) fn tried(&mut self, changes: &[(String, bool)]) {
        self.names.extend(changes.iter().filter(|(_, exists)| *exists).map(|(name, _)| name.clone()));
    }

    /// Notes that the changes, which had been tried, were made.
    pub(crate) fn made(&mut self, changes: &[(String, bool)]) {
        for (name, _) in changes.iter().filter(|(_, exists)| !exists) {
            self.names.remove(name);
        }
    }
}

fn message_part(chunk: u64) -> String {
    format!("message/{chunk:016x}")
}

fn queue_part(id: QueueId) -> String {
    format!("queue/{:016x}", id.0)
}

fn encode_topology(state: &State) -> Bytes {
    let mut writer = Writer::default();
    writer.u8(PART_VERSION);
    writer.varint(state.next_queue().0);
    let lasts = |name| state.topology.exchange(name).is_ok_and(ExchangeSpec::is_durable);
    let exchanges: Vec<&ExchangeSpec> = state.topology.declared().filter(|spec| spec.is_durable()).collect();
    writer.size(exchanges.len());
    exchanges.iter().for_each(|spec| encode_json(spec, &mut writer));
    let queues: Vec<_> = state.queues.iter().filter(|(_, queue)| queue.spec().is_durable()).collect();
    writer.size(queues.len());
    for (id, queue) in queues {
        writer.varint(id.0);
        encode_json(queue.spec(), &mut writer);
    }
    let bindings = state.topology.bindings().filter(|binding| {
        let arrives = match binding.destination() {
            Destination::Queue(id) => state.queues.get(id).is_some_and(|queue| queue.spec().is_durable()),
            Destination::Exchange(name) => lasts(name),
        };
        arrives && lasts(binding.source())
    });
    let bindings: Vec<_> = bindings.collect();
    writer.size(bindings.len());
    bindings.iter().for_each(|binding| encode_binding(binding, &mut writer));
    writer.finish()
}

fn encode_messages(messages: &[(MessageId, Arc<Stored>)]) -> Bytes {
    let weight: usize = messages.iter().map(|(_, stored)| stored.weight()).sum();
    let mut writer = Writer::with_capacity(weight);
    writer.u8(PART_VERSION);
    writer.size(messages.len());
    let mut before = 0;
    for (id, stored) in messages {
        writer.varint(id.0 - before);
        before = id.0;
        encode_stored(stored, &mut writer);
    }
    writer.finish()
}

fn encode_entries(entries: &[(Entry, bool)]) -> Bytes {
    let mut entries: Vec<&(Entry, bool)> = entries.iter().collect();
    entries.sort_by_key(|(entry, _)| entry.seq);
    let mut writer = Writer::default();
    writer.u8(PART_VERSION);
    writer.size(entries.len());
    let mut before = 0;
    for (entry, held) in entries {
        writer.varint(entry.seq - before);
        before = entry.seq;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let expires = flag(entry.expires_at.is_some(), EXPIRES);
        writer.u8(flag(*held, HELD) | flag(entry.redelivered, REDELIVERED) | expires);
        writer.varint(u64::from(entry.returns));
        if let Some(at) = entry.expires_at {
            writer.signed(at);
        }
        writer.varint(entry.id.0);
    }
    writer.finish()
}

/// Rebuilds the state that a checkpoint holds.
pub(crate) fn restore(parts: &BTreeMap<String, Bytes>) -> Result<State> {
    let mut state = State::new()?;
    let Some(topology) = parts.get(TOPOLOGY) else { return Ok(state) };
    restore_topology(&mut state, topology, parts)?;
    let mut messages = BTreeMap::new();
    for (name, part) in parts {
        match parse_name(name)? {
            Part::Messages => restore_messages(part, name, &mut messages)?,
            Part::Entries(id) => restore_entries(&mut state, id, part, name, &messages)?,
            Part::Topology | Part::Head => {}
        }
    }
    state.topology_dirty = false;
    state.dirty.clear();
    state.messages.take_dirty();
    state.queues.values_mut().for_each(|queue| drop(queue.take_dirty()));
    Ok(state)
}

fn restore_topology(state: &mut State, part: &Bytes, parts: &BTreeMap<String, Bytes>) -> Result<()> {
    let mut reader = versioned(part)?;
    state.reserve_queues(QueueId(reader.varint()?));
    for _ in 0..reader.count(1)? {
        state.topology.declare_exchange(decode_json(&mut reader)?);
    }
    for _ in 0..reader.count(1)? {
        let id = QueueId(reader.varint()?);
        let spec = decode_json(&mut reader)?;
        let head = parts.get(&queue_part(id)).ok_or_else(|| damaged(&queue_part(id)))?;
        state.declare_queue(id, spec, versioned(head)?.varint()?);
    }
    for _ in 0..reader.count(1)? {
        state.topology.bind(decode_binding(&mut reader)?);
    }
    Ok(())
}

fn restore_messages(part: &Bytes, name: &str, messages: &mut BTreeMap<MessageId, Arc<Stored>>) -> Result<()> {
    let mut reader = versioned(part)?;
    let mut number = 0;
    for _ in 0..reader.count(4)? {
        number = reader.varint()?.checked_add(number).ok_or_else(|| damaged(name))?;
        messages.insert(MessageId(number), Arc::new(decode_stored(&mut reader)?));
    }
    Ok(())
}

fn restore_entries(
    state: &mut State,
    id: QueueId,
    part: &Bytes,
    name: &str,
    messages: &BTreeMap<MessageId, Arc<Stored>>,
) -> Result<()> {
    let mut reader = versioned(part)?;
    let mut seq = 0;
    for _ in 0..reader.count(4)? {
        seq = reader.varint()?.checked_add(seq).filter(|seq| *seq < u64::MAX).ok_or_else(|| damaged(name))?;
        let flags = reader.u8()?;
        let returns = u32::try_from(reader.varint()?).unwrap_or(u32::MAX);
        let expires_at = if flags & EXPIRES == 0 { None } else { Some(reader.signed()?) };
        let message = MessageId(reader.varint()?);
        let stored = messages.get(&message).ok_or_else(|| damaged(&message_part(message.0 / CHUNK_SPAN)))?;
        let (stored, redelivered) = (Arc::clone(stored), flags & REDELIVERED != 0);
        let entry = Entry { seq, id: message, stored, journaled: true, redelivered, returns, expires_at };
        state.restore(id, entry, flags & HELD != 0)?;
    }
    Ok(())
}

fn versioned(part: &Bytes) -> Result<Reader<'_>> {
    let mut reader = Reader::new(part);
    match reader.u8()? {
        PART_VERSION => Ok(reader),
        other => {
            let told = format!("a checkpoint of version {other}, this code reads {PART_VERSION}");
            Err(Error::corrupt(format!("{told}: open it with the version that wrote it")))
        }
    }
}

/// What a part is about.
enum Part {
    Topology,
    Messages,
    Head,
    Entries(QueueId),
}

fn parse_name(name: &str) -> Result<Part> {
    let number = |word: &str| u64::from_str_radix(word, 16).map_err(|_| damaged(name));
    match name.split('/').collect::<Vec<_>>()[..] {
        [TOPOLOGY] => Ok(Part::Topology),
        ["message", chunk] => number(chunk).map(|_| Part::Messages),
        ["queue", id] => number(id).map(|_| Part::Head),
        ["queue", id, chunk] => number(chunk).and(number(id)).map(|id| Part::Entries(QueueId(id))),
        _ => Err(damaged(name)),
    }
}

fn damaged(name: &str) -> Error {
    Error::corrupt(format!("the checkpoint's part {name:?} is missing or not one of a broker's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{BindingSpec, Command, Engine, Target, Verdict, Which};
    use crate::message::Message;
    use crate::name::{ExchangeName, QueueName, RoutingKey};
    use crate::queue::QueueSpec;

    struct Bench {
        engine: Engine,
        parts: Parts,
        kept: BTreeMap<String, Bytes>,
    }

    impl Bench {
        fn run(&mut self, command: Command) -> Vec<crate::engine::Effect> {
            let spare = self.engine.spare(&command, self.engine.bound(&command));
            self.engine.apply(0, command, spare).unwrap().effects
        }

        fn publish(&mut self, body: &'static str) {
            let (exchange, routing_key) = (ExchangeName::default(), RoutingKey::new("q").unwrap());
            self.run(Command::Publish { exchange, routing_key, message: Message::new(body), mandatory: false });
        }

        /// Makes a checkpoint, and answers the names of the parts that it wrote.
        fn checkpoint(&mut self) -> Vec<String> {
            let image = Image::take(&mut self.engine.state);
            let changes = futures::executor::block_on(self.parts.changes(&image));
            let names: Vec<_> = changes.iter().map(|(name, part)| (name.clone(), part.is_some())).collect();
            self.parts.tried(&names);
            self.parts.made(&names);
            let names = names.into_iter().map(|(name, _)| name).collect();
            for (name, part) in changes {
                match part {
                    Some(part) => drop(self.kept.insert(name, part)),
                    None => drop(self.kept.remove(&name)),
                }
            }
            names
        }
    }

    fn bench() -> Bench {
        let engine = Engine::new(State::new().unwrap(), usize::MAX);
        let mut bench = Bench { engine, parts: Parts::default(), kept: BTreeMap::new() };
        for name in ["q", "idle"] {
            bench.run(Command::DeclareQueue { spec: QueueSpec::new(name).unwrap(), server_named: false });
        }
        bench
    }

    #[test]
    fn a_checkpoint_costs_what_changed() {
        let mut bench = bench();
        bench.publish("stuck");
        (0..2000).for_each(|_| bench.publish("m"));
        assert_eq!(bench.checkpoint().len(), 7, "topology, two heads, two chunks of entries, two of messages");
        bench.publish("one more");
        let changed = bench.checkpoint();
        let (head, message) = ("queue/0000000000000001", "message/0000000000000001");
        assert_eq!(changed, [message, head, "queue/0000000000000001/0000000000000001"]);
        assert!(bench.checkpoint().is_empty());
        let state = restore(&bench.kept).unwrap();
        let queue = &state.queues[&QueueId(1)];
        assert_eq!((queue.ready_len(), queue.next_seq(), state.bytes()), (2002, 2002, bench.engine.state.bytes()));
        assert_eq!(&queue.front().unwrap().stored.message.body()[..], b"stuck");
    }

    #[test]
    fn a_message_in_many_queues_is_stored_once() {
        let mut bench = bench();
        for queue in ["q", "idle"] {
            bench.run(Command::Bind(BindingSpec {
                source: ExchangeName::new("amq.fanout").unwrap(),
                target: Target::Queue(QueueName::new(queue).unwrap()),
                routing_key: RoutingKey::default(),
                arguments: crate::Table::new(),
            }));
        }
        let (exchange, message) = (ExchangeName::new("amq.fanout").unwrap(), Message::new(vec![7; 100_000]));
        bench.run(Command::Publish { exchange, routing_key: RoutingKey::default(), message, mandatory: false });
        bench.checkpoint();
        assert!(bench.kept.values().map(Bytes::len).sum::<usize>() < 101_000);
        let state = restore(&bench.kept).unwrap();
        let [one, two] = [1, 2].map(|id| state.queues[&QueueId(id)].front().unwrap());
        assert!(Arc::ptr_eq(&one.stored, &two.stored));
        assert_eq!(state.bytes(), bench.engine.state.bytes());

        bench.run(Command::PurgeQueue(QueueName::new("q").unwrap()));
        assert_eq!(bench.checkpoint(), ["queue/0000000000000001", "queue/0000000000000001/0000000000000000"]);
        bench.run(Command::PurgeQueue(QueueName::new("idle").unwrap()));
        bench.checkpoint();
        assert_eq!(bench.kept.keys().filter(|name| name.starts_with("message")).count(), 0);
        assert_eq!(restore(&bench.kept).unwrap().bytes(), 0);
    }

    #[test]
    fn held_messages_and_numbers_survive() {
        let mut bench = bench();
        for body in ["a", "b", "c"] {
            bench.publish(body);
        }
        let effects = bench.run(Command::Consume { queue: QueueName::new("q").unwrap(), prefetch: 2 });
        let crate::engine::Effect::Deliver(first) = &effects[1] else { panic!("{effects:?}") };
        bench.run(Command::Settle { which: Which::One(first.tag), verdict: Verdict::Ack });
        bench.checkpoint();
        let state = restore(&bench.kept).unwrap();
        let queue = &state.queues[&QueueId(1)];
        assert_eq!((queue.ready_len(), queue.unacked_len(), queue.next_seq()), (0, 2, 3));
        assert_eq!(state.next_queue(), QueueId(3));
    }

    #[test]
    fn a_deleted_queue_takes_its_parts_along() {
        let mut bench = bench();
        bench.publish("m");
        bench.checkpoint();
        let name = QueueName::new("q").unwrap();
        bench.run(Command::DeleteQueue { name, condition: crate::DeleteIf::Always });
        bench.checkpoint();
        assert_eq!(bench.kept.keys().collect::<Vec<_>>(), ["queue/0000000000000002", "topology"]);
        assert_eq!(restore(&bench.kept).unwrap().queues.len(), 1);
    }

    #[test]
    fn a_failed_checkpoint_is_made_up_for() {
        let mut bench = bench();
        bench.publish("m");
        Image::take(&mut bench.engine.state).put_back(&mut bench.engine.state);
        assert_eq!(bench.checkpoint().len(), 5);
        assert_eq!(restore(&bench.kept).unwrap().queues[&QueueId(1)].ready_len(), 1);
    }

    #[test]
    fn damaged_parts_are_refused() {
        let mut bench = bench();
        bench.publish("m");
        bench.checkpoint();
        for name in bench.kept.keys().cloned().collect::<Vec<_>>() {
            let mut parts = bench.kept.clone();
            parts.insert(name.clone(), Bytes::from_static(b"\x09"));
            assert_eq!(restore(&parts).unwrap_err().kind(), crate::ErrorKind::Corrupt, "{name}");
        }
    }
}
