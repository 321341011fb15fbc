//! The metrics of a stream and of a shard, by the names that CloudWatch has for them.
//!
//! Invariant: one list gives a metric's field, its name, its unit and its counter; so none is counted and not shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Counter;
use crate::stream::{ShardId, StreamName};

macro_rules! metrics {
    (
        $(#[$doc:meta])* $metrics:ident;
        $(#[$counters_doc:meta])* $counters:ident;
        $($(#[$field_doc:meta])* $field:ident $name:literal $unit:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub struct $metrics {
            $($(#[$field_doc])* #[doc = concat!("\n\nCloudWatch: `", $name, "`.")] pub $field: u64,)*
        }

        $(#[$counters_doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $counters {
            $(pub(crate) $field: Counter,)*
        }

        impl $metrics {
            /// Each metric as CloudWatch names it, with its unit as CloudWatch names that, and its value.
            #[must_use]
            pub fn by_name(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$(($name, $unit, self.$field)),*]
            }
        }

        impl $counters {
            pub(crate) fn snapshot(&self) -> $metrics {
                $metrics { $($field: self.$field.get()),* }
            }
        }

        impl $metrics {
            /// Tells subscribers of `tracing`.
            pub(crate) fn trace(&self, stream: &StreamName, shard: Option<ShardId>) {
                let shard = shard.map(tracing::field::display);
                tracing::debug!(target: "kinesis_core::metrics", { stream = %stream, shard, $($name = self.$field),* }, "metrics");
            }
        }
    };
}

metrics! {
    /// What happened in a stream since its instance was opened, by [`DataStream::metrics`](crate::DataStream::metrics).
    ///
    /// All are sums, but for `get_records_iterator_age_millis` and `subscribe_to_shard_event_millis_behind_latest`, which
    /// are those of the last read that gave records. Once a minute each stream of which one has changed tells them as a
    /// `tracing` event of level `DEBUG` and target `kinesis_core::metrics`, by the names that CloudWatch has; shards do
    /// for which the stream has shard-level metrics enabled (`EnableEnhancedMonitoring`).
    StreamMetrics;
    /// Counts what [`StreamMetrics`] shows.
    StreamCounters;
    /// Bytes of data and partition keys that were stored, of all records.
    incoming_bytes "IncomingBytes" "Bytes",
    /// Records that were stored.
    incoming_records "IncomingRecords" "Count",
    /// Bytes that `put_record` stored.
    put_record_bytes "PutRecord.Bytes" "Bytes",
    /// Calls of `put_record` that stored their record.
    put_record_success "PutRecord.Success" "Count",
    /// Microseconds that those took, together.
    put_record_latency_micros "PutRecord.Latency" "Microseconds",
    /// Bytes that batches and transactions stored.
    put_records_bytes "PutRecords.Bytes" "Bytes",
    /// Batches that were put, whatever became of their records.
    put_records_success "PutRecords.Success" "Count",
    /// Microseconds that those took, together.
    put_records_latency_micros "PutRecords.Latency" "Microseconds",
    /// Their records that were stored, now or before.
    put_records_successful_records "PutRecords.SuccessfulRecords" "Count",
    /// Their records.
    put_records_total_records "PutRecords.TotalRecords" "Count",
    /// Their records that were not stored, since their shards' throughput was used up.
    put_records_throttled_records "PutRecords.ThrottledRecords" "Count",
    /// Records refused since their shards' write throughput was used up.
    write_provisioned_throughput_exceeded "WriteProvisionedThroughputExceeded" "Count",
    /// Bytes that `get_records` gave.
    get_records_bytes "GetRecords.Bytes" "Bytes",
    /// Records that `get_records` gave.
    get_records_records "GetRecords.Records" "Count",
    /// Calls of `get_records` that were answered.
    get_records_success "GetRecords.Success" "Count",
    /// Microseconds that those took, together.
    get_records_latency_micros "GetRecords.Latency" "Microseconds",
    /// How long before the answer the last record had arrived that `get_records` gave; 0 for an answer without records.
    get_records_iterator_age_millis "GetRecords.IteratorAgeMilliseconds" "Milliseconds",
    /// Calls of `get_records` refused since their shard's read throughput was used up.
    read_provisioned_throughput_exceeded "ReadProvisionedThroughputExceeded" "Count",
    /// Subscriptions that were begun.
    subscribe_to_shard_success "SubscribeToShard.Success" "Count",
    /// Events that subscriptions gave.
    subscribe_to_shard_event_success "SubscribeToShardEvent.Success" "Count",
    /// Their bytes.
    subscribe_to_shard_event_bytes "SubscribeToShardEvent.Bytes" "Bytes",
    /// Their records.
    subscribe_to_shard_event_records "SubscribeToShardEvent.Records" "Count",
    /// How far the last event was behind the tip of its shard.
    subscribe_to_shard_event_millis_behind_latest "SubscribeToShardEvent.MillisBehindLatest" "Milliseconds",
}

metrics! {
    /// What happened in a shard since its instance was opened, by
    /// [`DataStream::shard_metrics`](crate::DataStream::shard_metrics).
    ShardMetrics;
    /// Counts what [`ShardMetrics`] shows.
    ShardCounters;
    /// Bytes of data and partition keys that were stored.
    incoming_bytes "IncomingBytes" "Bytes",
    /// Records that were stored.
    incoming_records "IncomingRecords" "Count",
    /// Bytes that readers were given.
    outgoing_bytes "OutgoingBytes" "Bytes",
    /// Records that readers were given.
    outgoing_records "OutgoingRecords" "Count",
    /// How long before the answer the last record had arrived that `get_records` gave; 0 for an answer without records.
    iterator_age_millis "IteratorAgeMilliseconds" "Milliseconds",
    /// Records refused since the write throughput was used up.
    write_provisioned_throughput_exceeded "WriteProvisionedThroughputExceeded" "Count",
    /// Calls of `get_records` refused since the read throughput was used up.
    read_provisioned_throughput_exceeded "ReadProvisionedThroughputExceeded" "Count",
}

/// As many whole microseconds as a counter takes.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// As many whole milliseconds as a counter takes.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
