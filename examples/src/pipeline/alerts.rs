//! Step 4: an alert per event that left more than three hours late, as a durable message, and a consumer that tallies them.
//!
//! The sender reads the stream and commits its positions behind the confirms; a kill between the two makes it send again what it
//! sent. The consumer keeps its tally in the stream before it acknowledges; a kill between the two makes the broker deliver again.
//! Either way a message comes twice, never never, and the tally knows it: the sequence numbers of a shard arrive in order, so
//! what is not above the last one counted was counted.
//!
//! Invariant: the tally equals what a count over the stream's events would give, however often and wherever a run was killed.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinesis_core::{DataStream, IteratorType, Record, SequenceNumber, ShardId};
use mq_core::Delivery;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::messages::{ALERTS, Messages};
use super::progress::Stage;
use super::record::{Decoded, decode};
use crate::failure::{Doing, Failure, Result};

/// The column that is watched, where there is one.
pub const WATCHED: &str = "dep_delay";

/// More minutes than these are an alert.
pub const ALERT_MINUTES: f64 = 180.0;

/// Records of one read.
const READ_RECORDS: usize = 5_000;

const SENDER: &str = "alerts";
const TALLY: &str = "alert-tally";

/// What the consumer has counted, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Alerts, each once.
    pub alerts: u64,
    /// Messages that came again.
    pub repeated: u64,
}

/// Sends the alerts that were not sent yet and tallies what arrives, both at once. Dropping the future leaves what was sent in
/// the queue.
///
/// # Errors
/// The stream or the broker failed.
pub async fn alert_and_tally(stream: &DataStream, messages: &Messages, stage: &Stage) -> Result<Tally> {
    let send = async {
        send_alerts(stream, messages, stage).await?;
        messages.end(ALERTS).await
    };
    // When one fails the other is not waited for: the tally would wait for an end that never comes.
    let ((), tally) = tokio::try_join!(send, tally_alerts(stream, messages))?;
    Ok(tally)
}

async fn send_alerts(stream: &DataStream, messages: &Messages, stage: &Stage) -> Result<()> {
    let done = stream.consumer(SENDER).doing(|| format!("cannot read where the alerts of {} stand", stream.name()))?;
    let positions = done.map(|consumer| consumer.positions).unwrap_or_default();
    for shard in stream.list_shards().doing(|| format!("cannot list the shards of {}", stream.name()))? {
        send_shard(stream, shard.id, positions.get(&shard.id).copied(), messages, stage).await?;
    }
    Ok(())
}

async fn send_shard(
    stream: &DataStream,
    shard: ShardId,
    done: Option<SequenceNumber>,
    messages: &Messages,
    stage: &Stage,
) -> Result<()> {
    let doing = || format!("cannot read {shard} of {} for alerts", stream.name());
    let from = done.map_or(IteratorType::TrimHorizon, IteratorType::AfterSequenceNumber);
    let mut iterator = Some(stream.shard_iterator(shard, from).await.doing(doing)?);
    while let Some(from) = iterator {
        let read = stream.get_records(&from, READ_RECORDS).await.doing(doing)?;
        let Some(last) = read.records.last() else { break };
        let mut sent = Vec::new();
        for record in read.records.iter().filter(|record| is_alert(record)) {
            sent.push(messages.alert(&record.sequence_number.to_string(), &record.data).await?);
        }
        for message in sent {
            message.confirmed().await?;
        }
        let position = BTreeMap::from([(shard, last.sequence_number)]);
        stream.commit(SENDER, position, None).await.doing(doing)?;
        stage.add(u64::try_from(read.records.len()).unwrap_or(u64::MAX));
        iterator = read.next_iterator;
    }
    Ok(())
}

/// Whether the record is an event beyond the limit.
fn is_alert(record: &Record) -> bool {
    match decode(&record.data) {
        Ok(Decoded::Event(event)) => {
            event.get(WATCHED).and_then(Value::as_f64).is_some_and(|minutes| minutes > ALERT_MINUTES)
        }
        // Malformed rows have no delay; what is no record of ours stops the replay, which says so.
        _ => false,
    }
}

async fn tally_alerts(stream: &DataStream, messages: &Messages) -> Result<Tally> {
    let doing = || format!("cannot keep the tally of {}", stream.name());
    let kept = stream.consumer(TALLY).doing(doing)?.unwrap_or_default();
    let mut tally: Tally =
        kept.state.map(|state| serde_json::from_slice(&state).doing(doing)).transpose()?.unwrap_or_default();
    let mut counted = kept.positions;
    let mut inbox = messages.consume(ALERTS).await?;
    loop {
        let batch = inbox.next_batch().await?;
        for message in batch.messages() {
            count(&mut tally, &mut counted, number_of(message)?);
        }
        let state = Bytes::from(serde_json::to_vec(&tally).doing(doing)?);
        stream.commit(TALLY, counted.clone(), Some(state)).await.doing(doing)?;
        let ended = batch.ended();
        batch.acknowledge().await?;
        if ended {
            return Ok(tally);
        }
    }
}

/// Counts the message of this number unless it, or a later one of its shard, was counted.
fn count(tally: &mut Tally, counted: &mut BTreeMap<ShardId, SequenceNumber>, number: SequenceNumber) {
    match counted.get_mut(&number.shard()) {
        Some(last) if number <= *last => tally.repeated += 1,
        Some(last) => {
            *last = number;
            tally.alerts += 1;
        }
        None => {
            counted.insert(number.shard(), number);
            tally.alerts += 1;
        }
    }
}

fn number_of(message: &Delivery) -> Result<SequenceNumber> {
    let id = message.message().properties().message_id.as_deref().unwrap_or_default();
    id.parse().map_err(|_| Failure::new(format!("an alert has the message id `{id}`, which is no sequence number")))
}
