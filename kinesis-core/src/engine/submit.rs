//! Commands on their way to the journal: checked, encoded, submitted, awaited.
//!
//! Invariant: a call that was answered is applied, so its caller reads what it wrote.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::journal::{Pending, Reservation};

use super::Engine;
use super::command::{Command, Commit, NewStream, RoutedRecord, encode_put};
use super::state::StreamState;
use crate::error::{Error, Result};
use crate::limits::{
    CONSUMER_STATE_BYTES_MAX, PARTITION_KEY_CHARS_MAX, PUT_RECORDS_BYTES_MAX, PUT_RECORDS_MAX, RETENTION_DEFAULT,
    RETENTION_MAX, SHARDS_MAX,
};
use crate::put::{Producer, PutBatch, PutOutcome, PutRecord, PutRecordOutput, PutRecordsOutput};
use crate::stream::{HashKey, HashKeyRange, ShardId, StreamName, check_name};
use crate::tail::entry_cost;

impl Engine {
    pub(crate) async fn create_stream(&self, name: StreamName, shards: u32) -> Result<Arc<StreamState>> {
        if !(1..=SHARDS_MAX).contains(&(shards as usize)) {
            return Err(Error::invalid(format!("stream '{name}' with {shards} shards: give 1 to {SHARDS_MAX}")));
        }
        let ranges = HashKeyRange::split_evenly(shards);
        let ends: Vec<HashKey> = ranges.iter().map(|range| range.ending).collect();
        let new = NewStream {
            name: name.clone(),
            created_ms: self.time.arrival_ms(),
            retention_seconds: RETENTION_DEFAULT.as_secs(),
            shards: ranges,
        };
        let frame = self.frame(&Command::CreateStream(new)).await?;
        self.settle(self.sequencer.create(&name, &ends, frame)?).await?;
        self.stream(&name)
    }

    pub(crate) async fn delete_stream(&self, stream: &StreamState) -> Result<()> {
        let frame = self.frame(&Command::DeleteStream { stream: stream.id }).await?;
        self.settle(self.sequencer.delete(stream.id, frame)?).await?;
        // Its objects and checkpoint parts go with the next checkpoint: now.
        self.state.room.work.notify_one();
        Ok(())
    }

    pub(crate) async fn set_retention(&self, stream: &StreamState, retention: Duration) -> Result<()> {
        if !(RETENTION_DEFAULT..=RETENTION_MAX).contains(&retention) {
            return Err(Error::invalid(format!(
                "retention of {} s for stream '{}' is not within 24 to 8760 hours",
                retention.as_secs(),
                stream.name
            )));
        }
        let frame = self.frame(&Command::SetRetention { stream: stream.id, seconds: retention.as_secs() }).await?;
        self.settle(self.sequencer.change(stream.id, frame)?).await
    }

    pub(crate) async fn commit(&self, stream: &StreamState, commit: Commit) -> Result<()> {
        check_name("consumer name", &commit.consumer)?;
        for (shard, number) in &commit.positions {
            stream.shard(*shard)?.index_of(*number)?;
        }
        let state_bytes = commit.state.as_ref().map_or(0, Bytes::len);
        if state_bytes > CONSUMER_STATE_BYTES_MAX {
            return Err(Error::limit(format!(
                "consumer '{}' commits {state_bytes} bytes of state, at most {CONSUMER_STATE_BYTES_MAX} are kept",
                commit.consumer
            )));
        }
        let body = commit.encode()?;
        let frame = (self.reserve(body.len()).await?, body);
        self.settle(self.sequencer.commit(stream.id, &commit.consumer, frame)?).await
    }

    pub(crate) async fn delete_consumer(&self, stream: &StreamState, consumer: &str) -> Result<()> {
        check_name("consumer name", consumer)?;
        let command = Command::DeleteConsumer { stream: stream.id, consumer: consumer.to_owned() };
        let frame = self.frame(&command).await?;
        self.settle(self.sequencer.delete_consumer(stream.id, consumer, frame)?).await
    }

    pub(crate) async fn put(&self, stream: &StreamState, batch: &PutBatch) -> Result<PutRecordsOutput> {
        self.check_batch(batch)?;
        let (records, producer) = (batch.records.as_slice(), batch.producer.as_ref());
        let hash_keys: Vec<HashKey> = records.iter().map(hash_key).collect();
        loop {
            let plan = self.sequencer.plan(stream.id, producer, records.len())?;
            let fresh = records.get(plan.known..).unwrap_or_default();
            if fresh.is_empty() {
                // What is known may not be durable yet; only then may it be called known.
                self.journal.flush().await?;
                return Ok(self.put_output(stream, plan.known, &[], 0, 0));
            }
            let routed = route(fresh, hash_keys.get(plan.known..).unwrap_or_default(), &plan.routes)?;
            let room = self.state.room.take(routed.iter().map(record_cost).sum()).await?;
            let arrival_ms = self.time.arrival_ms();
            let last = producer.and_then(|producer| Some((producer.id(), producer.last(records.len())?)));
            let body = encode_put(stream.id, arrival_ms, last, &routed)?;
            let span = u32::try_from(fresh.len()).map_err(|_| Error::limit("a batch has too many records"))?;
            let frame = (self.reserve(body.len()).await?, body, span, batch.durability);
            let counted = producer.map(|producer| (producer, records.len()));
            let Some(pending) = self.sequencer.put(stream.id, &plan, counted, frame)? else { continue };
            room.keep();
            let position = pending.position().0;
            self.settle(pending).await?;
            return Ok(self.put_output(stream, plan.known, &routed, position, arrival_ms));
        }
    }

    fn put_output(
        &self,
        stream: &StreamState,
        known: usize,
        routed: &[RoutedRecord<'_>],
        position: u64,
        arrival_ms: i64,
    ) -> PutRecordsOutput {
        self.state.counters.duplicate_records.add(known as u64);
        let stored = (position..).zip(routed).filter_map(|(index, record)| {
            let stamp = stream.shards.get(&record.shard)?.stamp;
            let sequence_number = stamp.number(index, arrival_ms);
            Some(PutOutcome::Stored(PutRecordOutput { shard_id: record.shard, sequence_number }))
        });
        PutRecordsOutput { records: std::iter::repeat_n(PutOutcome::Duplicate, known).chain(stored).collect() }
    }

    fn check_batch(&self, batch: &PutBatch) -> Result<()> {
        let records = batch.records.as_slice();
        if !(1..=PUT_RECORDS_MAX).contains(&records.len()) {
            return Err(Error::invalid(format!("a batch of {} records: put 1 to {PUT_RECORDS_MAX}", records.len())));
        }
        let mut total = 0;
        for (place, record) in records.iter().enumerate() {
            total += self.check_record(place, record)?;
        }
        if total > PUT_RECORDS_BYTES_MAX {
            return Err(Error::invalid(format!("a batch of {total} bytes: put at most {PUT_RECORDS_BYTES_MAX}")));
        }
        batch.producer.as_ref().map_or(Ok(()), |producer: &Producer| producer.check(records.len()))
    }

    /// The record's bytes, if it may be put.
    fn check_record(&self, place: usize, record: &PutRecord) -> Result<usize> {
        let key = record.partition_key.as_str();
        // The byte count alone settles most keys without walking them.
        let too_long = key.len() > PARTITION_KEY_CHARS_MAX && key.chars().count() > PARTITION_KEY_CHARS_MAX;
        if key.is_empty() || too_long {
            return Err(Error::invalid(format!(
                "record {place} of the batch has a partition key of {} characters: give 1 to {PARTITION_KEY_CHARS_MAX}",
                key.chars().count()
            )));
        }
        let (bytes, most) = (record.data.len() + key.len(), self.record_bytes_max);
        if bytes > most {
            return Err(Error::invalid(format!(
                "record {place} of the batch has {bytes} bytes with its key, at most {most} are taken; \
                 raise record_bytes_max or split it"
            )));
        }
        Ok(bytes)
    }

    async fn frame(&self, command: &Command) -> Result<(Reservation, Bytes)> {
        let body = command.encode()?;
        Ok((self.reserve(body.len()).await?, body))
    }

    async fn reserve(&self, bytes: usize) -> Result<Reservation> {
        self.check_open()?;
        Ok(self.journal.reserve(bytes).await?)
    }

    /// Waits until what was submitted is acknowledged.
    async fn settle(&self, pending: Pending) -> Result<()> {
        pending.await?;
        self.check_fault()
    }
}

fn hash_key(record: &PutRecord) -> HashKey {
    record.explicit_hash_key.unwrap_or_else(|| HashKey::of(&record.partition_key))
}

fn route<'a>(
    records: &'a [PutRecord],
    hash_keys: &[HashKey],
    routes: &super::sequencer::Routes,
) -> Result<Vec<RoutedRecord<'a>>> {
    let routed = |(record, hash_key): (&'a PutRecord, &HashKey)| {
        let shard: Option<ShardId> = routes.shard_of(*hash_key);
        let shard = shard.ok_or_else(|| Error::corrupt(format!("no open shard owns hash key {hash_key}")))?;
        let (partition_key, data) = (record.partition_key.as_str(), &record.data[..]);
        Ok(RoutedRecord { shard, hash_key: *hash_key, partition_key, data })
    };
    records.iter().zip(hash_keys).map(routed).collect()
}

fn record_cost(record: &RoutedRecord<'_>) -> usize {
    entry_cost(record.partition_key.len() + record.data.len())
}
