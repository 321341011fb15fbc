//! A stream as a table of DataFusion: all that is kept of it, live tail included, by SQL.
//!
//! A scan reads what the stream holds when the query is planned: closed and open shards, segments and the records that
//! came a moment ago. Segments that cannot have a wanted record are not read: filters on `shard_id`, `sequence_number` and
//! `approximate_arrival_timestamp` are held against what is known of each, so a query over the last minute of a year reads
//! the last minute. `EXPLAIN` shows how many are left.
//!
//! | column | type | content |
//! |---|---|---|
//! | `shard_id` | `Utf8` | `shardId-000000000000` |
//! | `sequence_number` | `Utf8` | 56 digits: as texts they compare as the numbers do |
//! | `approximate_arrival_timestamp` | `Timestamp(ms, UTC)` | when the record was put |
//! | `partition_key` | `Utf8` | the key |
//! | `hash_key` | `FixedSizeBinary(16)` | the routing hash, big-endian |
//! | `data` | `Binary` | the payload; keys and payloads of segments are never copied |
//!
//! With a [`RecordFormat`] the fields of the payload are columns behind them.
//!
//! Reading by SQL counts against no quota of the stream and in none of its metrics.

mod columns;
mod decode;
mod exec;
mod format;
mod provider;
mod prune;

pub use datafusion;
pub use format::{RecordFormat, Undecodable};
pub use provider::StreamTable;
pub use table_core::csv::{CsvSettings, Ragged};
