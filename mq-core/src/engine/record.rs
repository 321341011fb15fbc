//! Records: every change of the state, and the bytes of those changes that the journal keeps.
//!
//! A journal frame is one byte of version, then records one after another: a kind, then its fields. Numbers are
//! varints, names length-prefixed; what is declared is JSON, so that it can gain fields.
//!
//! | kind | record | fields |
//! |---|---|---|
//! | 1 | exchange declared | spec as JSON |
//! | 2 | exchange deleted | name |
//! | 3 | queue declared | queue, spec as JSON |
//! | 4 | queue deleted | queue |
//! | 5, 6 | bound, unbound | source, 0 and queue or 1 and exchange, key, arguments |
//! | 7 | enqueued | time (ms), exchange, key, message, places |
//! | 8 | delivered | queue, runs |
//! | 9 | removed | queue, runs |
//! | 10 | returned | queue, counted, runs |
//! | 11 | moved to the dead letter exchange | queue, number, reason, time (ms), places |
//! | 12 | purged | queue |
//! | 13 | recovered | none |
//!
//! Places are a count, then queue and number each. Runs are a count, then the distance from the end of the run before
//! and the length less one.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::name::{ExchangeName, RoutingKey};
use crate::queue::{DeathReason, Millis, QueueId, QueueSpec, Stored};
use crate::topology::{Binding, Destination, ExchangeSpec};
use crate::value;

/// The version of the frames that this code writes.
const FRAME_VERSION: u8 = 1;

/// A place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) queue: QueueId,
    pub(crate) seq: u64,
}

/// One change of the state.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    ExchangeDeclared(ExchangeSpec),
    ExchangeDeleted(ExchangeName),
    QueueDeclared {
        id: QueueId,
        spec: QueueSpec,
    },
    QueueDeleted(QueueId),
    Bound(Binding),
    Unbound(Binding),
    /// A message entered queues.
    Enqueued {
        stored: Arc<Stored>,
        places: Vec<Place>,
    },
    /// Ready messages were handed out; the numbers rise.
    Delivered {
        queue: QueueId,
        seqs: Vec<u64>,
    },
    /// Messages left for good; the numbers rise.
    Removed {
        queue: QueueId,
        seqs: Vec<u64>,
    },
    /// Messages came back to their places; the numbers rise.
    Returned {
        queue: QueueId,
        counted: bool,
        seqs: Vec<u64>,
    },
    /// A message left its queue as a dead letter and entered others.
    Moved {
        from: Place,
        reason: DeathReason,
        at: Millis,
        places: Vec<Place>,
    },
    /// All ready messages left for good.
    Purged(QueueId),
    /// Whatever consumers held came back to its place, and that counts.
    Recovered,
}

/// What one command's durable records are in the journal.
pub(crate) fn encode_frame(records: &[Record]) -> Bytes {
    let mut writer = Writer::with_capacity(256);
    writer.u8(FRAME_VERSION);
    records.iter().for_each(|record| record.encode(&mut writer));
    writer.finish()
}

pub(crate) fn decode_frame(frame: &[u8]) -> Result<Vec<Record>> {
    let mut reader = Reader::new(frame);
    let version = reader.u8()?;
    if version != FRAME_VERSION {
        return Err(Error::corrupt(format!("a frame of version {version}: this code reads {FRAME_VERSION}")));
    }
    let mut records = Vec::new();
    while !reader.is_empty() {
        records.push(Record::decode(&mut reader)?);
    }
    Ok(records)
}

impl Record {
    fn encode(&self, to: &mut Writer) {
        match self {
            Self::ExchangeDeclared(spec) => {
                to.u8(1);
                encode_json(spec, to);
            }
            Self::ExchangeDeleted(name) => {
                to.u8(2);
                to.text(name.as_str());
            }
            Self::QueueDeclared { id, spec } => {
                to.u8(3);
                to.varint(id.0);
                encode_json(spec, to);
            }
            Self::QueueDeleted(id) => numbered(to, 4, *id),
            Self::Bound(binding) => {
                to.u8(5);
                encode_binding(binding, to);
            }
            Self::Unbound(binding) => {
                to.u8(6);
                encode_binding(binding, to);
            }
            Self::Enqueued { stored, places } => {
                to.u8(7);
                encode_stored(stored, to);
                encode_places(places, to);
            }
            Self::Delivered { queue, seqs } => {
                numbered(to, 8, *queue);
                encode_runs(seqs, to);
            }
            Self::Removed { queue, seqs } => {
                numbered(to, 9, *queue);
                encode_runs(seqs, to);
            }
            Self::Returned { queue, counted, seqs } => {
                numbered(to, 10, *queue);
                to.u8(u8::from(*counted));
                encode_runs(seqs, to);
            }
            Self::Moved { from, reason, at, places } => {
                numbered(to, 11, from.queue);
                to.varint(from.seq);
                to.u8(reason_number(*reason));
                to.signed(*at);
                encode_places(places, to);
            }
            Self::Purged(id) => numbered(to, 12, *id),
            Self::Recovered => to.u8(13),
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.u8()? {
            1 => Self::ExchangeDeclared(decode_json(from)?),
            2 => Self::ExchangeDeleted(ExchangeName::new(from.text()?)?),
            3 => Self::QueueDeclared { id: QueueId(from.varint()?), spec: decode_json(from)? },
            4 => Self::QueueDeleted(QueueId(from.varint()?)),
            5 => Self::Bound(decode_binding(from)?),
            6 => Self::Unbound(decode_binding(from)?),
            7 => Self::Enqueued { stored: Arc::new(decode_stored(from)?), places: decode_places(from)? },
            8 => Self::Delivered { queue: QueueId(from.varint()?), seqs: decode_runs(from)? },
            9 => Self::Removed { queue: QueueId(from.varint()?), seqs: decode_runs(from)? },
            10 => {
                let queue = QueueId(from.varint()?);
                Self::Returned { queue, counted: from.u8()? != 0, seqs: decode_runs(from)? }
            }
            11 => Self::Moved {
                from: Place { queue: QueueId(from.varint()?), seq: from.varint()? },
                reason: decode_reason(from.u8()?)?,
                at: from.signed()?,
                places: decode_places(from)?,
            },
            12 => Self::Purged(QueueId(from.varint()?)),
            13 => Self::Recovered,
            kind => return Err(Error::corrupt(format!("a record of the unknown kind {kind}"))),
        })
    }
}

fn numbered(to: &mut Writer, kind: u8, queue: QueueId) {
    to.u8(kind);
    to.varint(queue.0);
}

pub(crate) fn encode_json<T: serde::Serialize>(spec: &T, to: &mut Writer) {
    // Specs are plain structs of names and numbers, which JSON always holds.
    to.bytes(&serde_json::to_vec(spec).unwrap_or_default());
}

pub(crate) fn decode_json<T: serde::de::DeserializeOwned>(from: &mut Reader<'_>) -> Result<T> {
    serde_json::from_slice(from.bytes()?)
        .map_err(|error| Error::corrupt("a declaration is not readable").with_source(error))
}

pub(crate) fn encode_binding(binding: &Binding, to: &mut Writer) {
    to.text(binding.source().as_str());
    match binding.destination() {
        Destination::Queue(id) => {
            to.u8(0);
            to.varint(id.0);
        }
        Destination::Exchange(name) => {
            to.u8(1);
            to.text(name.as_str());
        }
    }
    to.text(binding.routing_key().as_str());
    value::encode_table(binding.arguments(), to);
}

pub(crate) fn decode_binding(from: &mut Reader<'_>) -> Result<Binding> {
    let source = ExchangeName::new(from.text()?)?;
    let destination = match from.u8()? {
        0 => Destination::Queue(QueueId(from.varint()?)),
        1 => Destination::Exchange(ExchangeName::new(from.text()?)?),
        other => return Err(Error::corrupt(format!("a binding to the unknown kind {other}"))),
    };
    Ok(Binding::new(source, destination, RoutingKey::new(from.text()?)?, value::decode_table(from)?))
}

pub(crate) fn encode_stored(stored: &Stored, to: &mut Writer) {
    to.signed(stored.at);
    to.text(stored.exchange.as_str());
    to.text(stored.routing_key.as_str());
    stored.message.encode(to);
}

pub(crate) fn decode_stored(from: &mut Reader<'_>) -> Result<Stored> {
    let at = from.signed()?;
    let exchange = ExchangeName::new(from.text()?)?;
    let routing_key = RoutingKey::new(from.text()?)?;
    Ok(Stored::new(exchange, routing_key, Message::decode(from)?, at))
}

fn encode_places(places: &[Place], to: &mut Writer) {
    to.size(places.len());
    for place in places {
        to.varint(place.queue.0);
        to.varint(place.seq);
    }
}

fn decode_places(from: &mut Reader<'_>) -> Result<Vec<Place>> {
    let count = from.count(2)?;
    (0..count).map(|_| Ok(Place { queue: QueueId(from.varint()?), seq: from.varint()? })).collect()
}

fn encode_runs(seqs: &[u64], to: &mut Writer) {
    let runs = || seqs.chunk_by(|a, b| a + 1 == *b);
    to.size(runs().count());
    let mut end = 0;
    for run in runs() {
        to.varint(run[0] - end);
        to.size(run.len() - 1);
        end = run[0] + run.len() as u64;
    }
}

/// Most numbers that one record may name: more is damage. A command names fewer.
const RUN_NUMBERS_MAX: u64 = 1 << 24;

fn decode_runs(from: &mut Reader<'_>) -> Result<Vec<u64>> {
    let count = from.count(2)?;
    let mut seqs = Vec::with_capacity(count);
    let mut end = 0u64;
    for _ in 0..count {
        let damaged = || Error::corrupt("a run of message numbers is out of range");
        let first = end.checked_add(from.varint()?).ok_or_else(damaged)?;
        let length = from.varint()?.checked_add(1).ok_or_else(damaged)?;
        end = first.checked_add(length).ok_or_else(damaged)?;
        if length + seqs.len() as u64 > RUN_NUMBERS_MAX {
            return Err(damaged());
        }
        seqs.extend(first..end);
    }
    Ok(seqs)
}

fn reason_number(reason: DeathReason) -> u8 {
    match reason {
        DeathReason::Rejected => 0,
        DeathReason::Expired => 1,
        DeathReason::MaxLength => 2,
        DeathReason::DeliveryLimit => 3,
    }
}

fn decode_reason(number: u8) -> Result<DeathReason> {
    Ok(match number {
        0 => DeathReason::Rejected,
        1 => DeathReason::Expired,
        2 => DeathReason::MaxLength,
        3 => DeathReason::DeliveryLimit,
        other => return Err(Error::corrupt(format!("a message moved for the unknown reason {other}"))),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_runs(numbers in prop::collection::btree_set(0u64..500, 0..200)) {
            let seqs: Vec<u64> = numbers.into_iter().collect();
            let frame = encode_frame(&[Record::Removed { queue: QueueId(7), seqs: seqs.clone() }]);
            let records = decode_frame(&frame).unwrap();
            let Record::Removed { queue, seqs: back } = &records[0] else { panic!("{records:?}") };
            prop_assert_eq!((*queue, back), (QueueId(7), &seqs));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..15) {
            let mut frame = vec![FRAME_VERSION, kind];
            frame.extend(bytes);
            if let Err(error) = decode_frame(&frame) {
                prop_assert!(matches!(error.kind(), crate::ErrorKind::Corrupt | crate::ErrorKind::InvalidInput));
            }
        }
    }

    #[test]
    fn a_thousand_acks_are_a_few_bytes() {
        let frame = encode_frame(&[Record::Removed { queue: QueueId(1), seqs: (5000..6000).collect() }]);
        assert!(frame.len() < 10, "{} bytes", frame.len());
    }
}
