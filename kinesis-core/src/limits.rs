//! The bounds of every input, queue and cache, with AWS's figures where AWS has them.
//!
//! Invariant: past a bound there is a typed error, never a silent cut and never an allocation first.

use std::time::Duration;

/// Records in one [`put_records`](crate::DataStream::put_records) call.
pub const PUT_RECORDS_MAX: usize = 500;
/// Bytes in one [`put_records`](crate::DataStream::put_records) call: data and partition keys together.
pub const PUT_RECORDS_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Bytes of one record, data and partition key, unless
/// [`Settings::with_record_bytes_max`](crate::Settings::with_record_bytes_max) says more.
pub const RECORD_BYTES_DEFAULT: usize = 1024 * 1024;
/// The most that [`Settings::with_record_bytes_max`](crate::Settings::with_record_bytes_max) takes.
pub const RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Unicode characters of a partition key, at least one.
pub const PARTITION_KEY_CHARS_MAX: usize = 256;
/// Characters of a stream's, a consumer's and a producer's name, at least one.
pub const NAME_CHARS_MAX: usize = 128;
/// Records in one [`get_records`](crate::DataStream::get_records) answer.
pub const GET_RECORDS_MAX: usize = 10_000;
/// Bytes in one [`get_records`](crate::DataStream::get_records) answer (a single larger record is still returned).
pub const GET_RECORDS_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Batches and commits of one [`Transaction`](crate::Transaction).
pub const TRANSACTION_PARTS_MAX: usize = 100;
/// Streams of one instance.
pub const STREAMS_MAX: usize = 10_000;
/// Shards of one stream.
pub const SHARDS_MAX: usize = 10_000;
/// Shards that a new on-demand stream has, and the fewest it ever has: 4 MiB and 4,000 records a second.
pub const ON_DEMAND_SHARDS_MIN: u32 = 4;
/// Tags of one stream.
pub const TAGS_MAX: usize = 50;
/// Characters of a tag's key, at least one.
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Characters of a tag's value.
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Consumers of one stream that keep their positions in it.
pub const CONSUMERS_MAX: usize = 1_000;
/// Registered consumers (enhanced fan-out) of one stream.
pub const STREAM_CONSUMERS_MAX: usize = 1_000;
/// Producers of one stream that number their events.
pub const PRODUCERS_MAX: usize = 10_000;
/// Bytes of the state that a consumer commits with its positions.
pub const CONSUMER_STATE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The retention that a new stream has, and the shortest.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// The longest retention.
pub const RETENTION_MAX: Duration = Duration::from_secs(8760 * 3600);
/// Bytes of records held in memory per instance, unless [`Settings::with_tail_bytes`](crate::Settings::with_tail_bytes)
/// says otherwise.
pub const TAIL_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
/// The smallest tail: room for two of the largest calls.
pub const TAIL_BYTES_MIN: usize = 64 * 1024;
/// Bytes of sealed segments kept for reading per instance, unless
/// [`Settings::with_cache_bytes`](crate::Settings::with_cache_bytes) says otherwise.
pub const CACHE_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
