//! SubscribeToShard: records pushed to a registered consumer, for five minutes at a time.
//!
//! Invariant: a consumer has one subscription of a shard. A second call within five seconds is refused; a later one takes
//! over, and the one before ends with `ResourceInUseException`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use durable_core::Clock;
use futures::stream::{self, BoxStream, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use wire_core::{Context, Event, EventStream, Timestamp, Validation, WireError};

use super::Api;
use super::records::{Position, WireRecord};
use super::shards::{WireChildShard, check_shard, shard_rules};
use super::stream_ref::shard_id;
use crate::error::Result as CrateResult;
use crate::read::SubscribeToShardEvent;
use crate::stream::{SequenceNumber, ShardId};

/// How long a subscription lasts.
const LASTS: Duration = Duration::from_secs(300);
/// How soon after a successful call another one is refused.
const EXCLUSIVE: Duration = Duration::from_secs(5);
/// How often a client that gets no records hears that it is at the tip.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes of records in one event, but for one that is larger on its own.
const EVENT_BYTES: usize = 2 * 1024 * 1024;

type Key = (u64, String, ShardId);

/// The subscriptions that clients have.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    open: Mutex<HashMap<Key, Open>>,
}

#[derive(Debug)]
struct Open {
    since: Duration,
    /// Dropped when another one takes over or the consumer is deregistered.
    _stays: watch::Sender<()>,
}

impl Subscriptions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a subscription; the receiver's sender goes when it is to end.
    fn begin(&self, key: Key, clock: &dyn Clock) -> Result<watch::Receiver<()>, WireError> {
        let now = clock.monotonic();
        let mut open = self.lock();
        if open.get(&key).is_some_and(|open| now.saturating_sub(open.since) < EXCLUSIVE) {
            let message =
                format!("Another active subscription exists for this consumer: {} and shard {}", key.1, key.2);
            return Err(WireError::new("ResourceInUseException", message));
        }
        open.retain(|_, open| now.saturating_sub(open.since) <= LASTS);
        let (stays, stay) = watch::channel(());
        open.insert(key, Open { since: now, _stays: stays });
        Ok(stay)
    }

    /// Ends all subscriptions of a consumer.
    pub(super) fn end(&self, stream: u64, consumer: &str) {
        self.lock().retain(|(of, name, _), _| *of != stream || name != consumer);
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StartingPosition {
    r#type: Option<String>,
    sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SubscribeToShardInput {
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
    shard_id: Option<String>,
    starting_position: Option<StartingPosition>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireEvent {
    records: Vec<WireRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_sequence_number: Option<SequenceNumber>,
    millis_behind_latest: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_shards: Vec<WireChildShard>,
}

impl Event for WireEvent {
    fn event_type(&self) -> &'static str {
        "SubscribeToShardEvent"
    }
}

pub(super) async fn subscribe_to_shard(
    api: Api,
    request: Context,
    input: SubscribeToShardInput,
) -> Result<EventStream<WireEvent>, WireError> {
    let (arn, shard) = (input.consumer_arn.as_deref(), input.shard_id.as_deref());
    let position = input.starting_position.as_ref();
    let kind = position.and_then(|position| position.r#type.as_deref());
    let rules = Validation::new()
        .require("consumerARN", arn)
        .require("shardId", shard)
        .require("startingPosition", position)
        .one_of(
            "startingPosition.type",
            kind,
            &["AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"],
        );
    shard_rules(rules, "shardId", shard).finish()?;
    let (stream, consumer) = api.consumer(arn.unwrap_or_default(), &request)?;
    let shard = shard_id(shard.unwrap_or_default(), stream.name().as_str(), &request)?;
    check_shard(&stream, shard, &request)?;
    let position = Position {
        kind: kind.unwrap_or_default(),
        number: position.and_then(|position| position.sequence_number.as_deref()),
        at: position.and_then(|position| position.timestamp),
        operation: "SubscribeToShard",
    };
    let from = position.resolve(&stream, shard, &request)?;
    // Before the iterator, so that what comes in between is behind both.
    let newest = stream.engine().newest_number(stream.state(), shard)?;
    let iterator = stream.engine().kept_iterator(stream.state(), shard, from).await?;
    let clock = api.kinesis.clock();
    let stay = api.subscriptions.begin((stream.state().id, consumer.name, shard), clock.as_ref())?;
    let pushing = Pushing {
        events: stream.subscribe_at(iterator),
        waiting: Vec::new(),
        ends: clock.monotonic() + LASTS,
        continuation: newest,
        stay,
        clock,
        ended: false,
    };
    Ok(EventStream::new(stream::unfold(pushing, Pushing::next)))
}

/// One subscription.
struct Pushing {
    events: BoxStream<'static, CrateResult<SubscribeToShardEvent>>,
    /// Parts of a large event, the last one first.
    waiting: Vec<WireEvent>,
    ends: Duration,
    /// What a client goes on behind that has got no record yet.
    continuation: SequenceNumber,
    stay: watch::Receiver<()>,
    clock: Arc<dyn Clock>,
    ended: bool,
}

impl Pushing {
    async fn next(mut self) -> Option<(Result<WireEvent, WireError>, Self)> {
        if let Some(event) = self.waiting.pop() {
            return Some((Ok(event), self));
        }
        let left = self.ends.saturating_sub(self.clock.monotonic());
        if self.ended || left.is_zero() {
            return None;
        }
        let idle = self.clock.sleep(IDLE.min(left));
        tokio::select! {
            biased;
            _ = self.stay.changed() => {
                self.ended = true;
                let message = "The subscription was taken over by another call, or its consumer deregistered.";
                Some((Err(WireError::new("ResourceInUseException", message)), self))
            }
            event = self.events.next() => match event? {
                Ok(event) => {
                    self.take(event);
                    self.waiting.pop().map(|event| (Ok(event), self))
                }
                Err(error) => {
                    self.ended = true;
                    Some((Err(error.into()), self))
                }
            },
            () = idle => {
                let event = WireEvent {
                    records: Vec::new(),
                    continuation_sequence_number: Some(self.continuation),
                    millis_behind_latest: 0,
                    child_shards: Vec::new(),
                };
                Some((Ok(event), self))
            }
        }
    }

    /// Cuts an event into parts that clients take.
    fn take(&mut self, event: SubscribeToShardEvent) {
        let millis_behind_latest = crate::metrics::millis(event.behind_latest);
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for record in event.records {
            bytes += record.payload_bytes();
            if bytes > EVENT_BYTES && parts.last().is_some_and(|part| !part.is_empty()) {
                bytes = record.payload_bytes();
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                part.push(WireRecord(record));
            }
        }
        let last = parts.len() - 1;
        let ended = event.continuation_sequence_number.is_none();
        let child_shards: Vec<_> = event.child_shards.iter().map(WireChildShard::from).collect();
        let mut child_shards = Some(child_shards);
        for (place, records) in parts.into_iter().enumerate() {
            let number = records.last().map(|WireRecord(record)| record.sequence_number);
            self.continuation = number.unwrap_or(self.continuation);
            self.waiting.push(WireEvent {
                continuation_sequence_number: Some(self.continuation).filter(|_| place < last || !ended),
                child_shards: if place == last { child_shards.take().unwrap_or_default() } else { Vec::new() },
                millis_behind_latest,
                records,
            });
        }
        self.waiting.reverse();
        self.ended = ended;
    }
}
