//! The quotas of an instance.
//!
//! Invariant: `None` is no quota at all, never zero.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The quotas of an instance: AWS's, none, or one's own. Without any, the bounds of [`limits`](crate::limits) hold.
///
/// Past a rate, a call is `Throttled` and may be repeated; past a count it is `LimitExceeded`.
///
/// ```
/// use kinesis_core::{Limits, Settings};
///
/// // As AWS has it, but for twice the writes.
/// let limits = Limits::aws().with_shard_write_records_per_second(2_000);
/// let settings = Settings::default().with_limits(limits);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub(crate) shard_write_bytes_per_second: Option<u64>,
    pub(crate) shard_write_records_per_second: Option<u64>,
    pub(crate) shard_read_bytes_per_second: Option<u64>,
    pub(crate) shard_read_calls_per_second: Option<u64>,
    pub(crate) shard_iterators_per_second: Option<u64>,
    pub(crate) control_calls_per_second: Option<u64>,
    pub(crate) open_shards: Option<u32>,
    pub(crate) on_demand_streams: Option<u32>,
    pub(crate) registered_consumers: Option<u32>,
    pub(crate) shard_count_factor: Option<u32>,
    pub(crate) shard_count_updates_per_day: Option<u32>,
    pub(crate) iterator_age: Option<Duration>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $with:ident $field:ident: $kind:ty;)*) => {
        impl Limits {
            $($(#[$doc])*
            #[must_use]
            pub fn $with(mut self, limit: impl Into<Option<$kind>>) -> Self {
                self.$field = limit.into();
                self
            })*
        }
    };
}

setters! {
    /// Bytes of data and partition keys that a shard takes in a second (AWS: 1 MiB). A larger record is taken once nothing
    /// was for its time.
    with_shard_write_bytes_per_second shard_write_bytes_per_second: u64;
    /// Records that a shard takes in a second (AWS: 1,000).
    with_shard_write_records_per_second shard_write_records_per_second: u64;
    /// Bytes that `get_records` gives from a shard in a second (AWS: 2 MiB). An answer may be larger; then no other one is
    /// given for its time.
    with_shard_read_bytes_per_second shard_read_bytes_per_second: u64;
    /// Calls of `get_records` to a shard in a second (AWS: 5). Subscriptions are not counted.
    with_shard_read_calls_per_second shard_read_calls_per_second: u64;
    /// Calls of `shard_iterator` to a shard in a second (AWS: 5).
    with_shard_iterators_per_second shard_iterators_per_second: u64;
    /// Calls in a second of each operation that creates or changes a stream (AWS: 5 for most).
    with_control_calls_per_second control_calls_per_second: u64;
    /// Open shards of all provisioned streams together (AWS: 500 in its largest regions).
    with_open_shards open_shards: u32;
    /// Streams that are on demand (AWS: 50).
    with_on_demand_streams on_demand_streams: u32;
    /// Registered consumers of a stream (AWS: 20).
    with_registered_consumers registered_consumers: u32;
    /// How many times as many, or as few, open shards one `update_shard_count` may make (AWS: 2).
    with_shard_count_factor shard_count_factor: u32;
    /// Calls of `update_shard_count` for a stream in 24 hours (AWS: 10). Forgotten when the instance is closed.
    with_shard_count_updates_per_day shard_count_updates_per_day: u32;
    /// How long an iterator may be used (AWS: 5 minutes); later it is `Expired`.
    with_iterator_age iterator_age: Duration;
}

impl Limits {
    /// AWS's quotas.
    #[must_use]
    pub fn aws() -> Self {
        Self {
            shard_write_bytes_per_second: Some(1024 * 1024),
            shard_write_records_per_second: Some(1_000),
            shard_read_bytes_per_second: Some(2 * 1024 * 1024),
            shard_read_calls_per_second: Some(5),
            shard_iterators_per_second: Some(5),
            control_calls_per_second: Some(5),
            open_shards: Some(500),
            on_demand_streams: Some(50),
            registered_consumers: Some(20),
            shard_count_factor: Some(2),
            shard_count_updates_per_day: Some(10),
            iterator_age: Some(Duration::from_secs(300)),
        }
    }

    /// No quota. The default.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }
}
