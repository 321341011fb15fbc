//! What is counted of each call, by the names that CloudWatch has.

use std::time::Duration;

use super::Engine;
use super::log::ShardState;
use super::state::StreamState;
use crate::metrics::{micros, millis};
use crate::put::{PutBatch, PutOutcome, PutRecordsOutput};
use crate::read::{GetRecordsOutput, Record, SubscribeToShardEvent};
use crate::stream::ShardId;

impl Engine {
    /// The moment that a call's latency is counted from.
    pub(super) fn begin(&self) -> Duration {
        self.clock.monotonic()
    }

    fn micros_since(&self, begun: Duration) -> u64 {
        micros(self.clock.monotonic().saturating_sub(begun))
    }

    /// Counts a record that was put by itself.
    pub(super) fn count_put_record(&self, stream: &StreamState, bytes: usize, begun: Duration) {
        stream.counters.put_record_success.add(1);
        stream.counters.put_record_bytes.add(bytes as u64);
        stream.counters.put_record_latency_micros.add(self.micros_since(begun));
    }

    /// Counts a batch that was put.
    pub(super) fn count_put_records(
        &self,
        stream: &StreamState,
        batch: &PutBatch,
        output: &PutRecordsOutput,
        begun: Duration,
    ) {
        let (mut bytes, mut throttled) = (0, 0);
        for (record, outcome) in batch.records.iter().zip(&output.records) {
            match outcome {
                PutOutcome::Stored(_) => bytes += record.payload_bytes() as u64,
                PutOutcome::Throttled(_) => throttled += 1,
                PutOutcome::Duplicate => {}
            }
        }
        let (counters, total) = (&stream.counters, output.records.len() as u64);
        counters.put_records_success.add(1);
        counters.put_records_bytes.add(bytes);
        counters.put_records_total_records.add(total);
        counters.put_records_successful_records.add(total - throttled);
        counters.put_records_throttled_records.add(throttled);
        counters.put_records_latency_micros.add(self.micros_since(begun));
    }

    /// Counts records of a shard that were refused.
    pub(super) fn count_throttled_writes(&self, stream: &StreamState, shards: impl Iterator<Item = ShardId>) {
        let known = stream.shards();
        for shard in shards {
            self.state.counters.throttled_writes.add(1);
            stream.counters.write_provisioned_throughput_exceeded.add(1);
            if let Some(shard) = known.get(&shard) {
                shard.counters.write_provisioned_throughput_exceeded.add(1);
            }
        }
    }

    /// Counts a call of `get_records` that was refused.
    pub(super) fn count_throttled_read(stream: &StreamState, shard: &ShardState) {
        stream.counters.read_provisioned_throughput_exceeded.add(1);
        shard.counters.read_provisioned_throughput_exceeded.add(1);
    }

    /// Counts what a reader is given, however it reads; answers the bytes.
    pub(super) fn count_read(&self, shard: &ShardState, records: &[Record]) -> u64 {
        let bytes = records.iter().map(|record| record.payload_bytes() as u64).sum();
        self.state.counters.read_records.add(records.len() as u64);
        self.state.counters.read_bytes.add(bytes);
        shard.counters.outgoing_records.add(records.len() as u64);
        shard.counters.outgoing_bytes.add(bytes);
        bytes
    }

    /// Counts an answer of `get_records`.
    pub(super) fn count_get_records(
        &self,
        stream: &StreamState,
        shard: &ShardState,
        output: &GetRecordsOutput,
        (bytes, begun): (u64, Duration),
    ) {
        let age = output.records.last().map(|record| self.time.since(record.arrival.timestamp_millis()));
        let age = millis(age.unwrap_or_default());
        let counters = &stream.counters;
        counters.get_records_success.add(1);
        counters.get_records_bytes.add(bytes);
        counters.get_records_records.add(output.records.len() as u64);
        counters.get_records_latency_micros.add(self.micros_since(begun));
        counters.get_records_iterator_age_millis.set(age);
        shard.counters.iterator_age_millis.set(age);
    }

    /// Counts an event of a subscription.
    pub(super) fn count_event(stream: &StreamState, event: &SubscribeToShardEvent, bytes: u64) {
        let counters = &stream.counters;
        counters.subscribe_to_shard_event_success.add(1);
        counters.subscribe_to_shard_event_records.add(event.records.len() as u64);
        counters.subscribe_to_shard_event_bytes.add(bytes);
        counters.subscribe_to_shard_event_millis_behind_latest.set(millis(event.behind_latest));
    }
}
