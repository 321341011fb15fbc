//! Kinesis Data Streams in your process: sharded, durable, replayable streams on a directory or any object store.
//!
//! # What it does
//!
//! A [`Kinesis`] instance holds streams. A [`DataStream`] has shards; a record goes to the shard that owns the MD5 of its
//! partition key, as at AWS, and gets a [`SequenceNumber`] that rises within the shard for ever. What was put is durable
//! when the call returns, and stays readable for its retention: by iterators as AWS has them, or by a subscription that
//! waits for the next record. One journal with group commit serves all streams; in the background records move into
//! Arrow IPC segments in the store.
//!
//! Shards are split, merged and rescaled while records flow; closed ones stay readable until retention ends. Quotas are AWS's
//! or one's own ([`Limits`]), off unless asked for. Metrics have CloudWatch's names ([`DataStream::metrics`]).
//!
//! Who reads may be a [`worker`], of several that share the shards by leases as with the Kinesis Client Library, or a function
//! that a [`mapping`] calls with batches, as with Lambda. Records of the Kinesis Producer Library are read apart
//! ([`Record::user_records`]) and written ([`Aggregator`]).
//!
//! Beyond AWS: a batch is atomic over its shards, and an append may expect the newest record; producers number their events
//! and are told where to go on; consumers commit positions and state together in the stream itself, with the records that
//! they put ([`Kinesis::transaction`]).
//!
//! # What it does not do
//!
//! One process at a time has an instance open; another one that opens the same store takes it over (object journal) or is
//! refused (local journal). There is one copy of what is stored, that of the disk or the object store.
//!
//! # Example
//!
//! ```
//! use kinesis_core::{IteratorType, Kinesis, PutRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kinesis_core::Result<()> {
//! let kinesis = Kinesis::memory().open().await?; // or at("dir"), or on(store, "prefix")
//! let stream = kinesis.create_stream("clicks", 4).await?;
//! let stored = stream.put_record(PutRecord::new("hello", "user-1")).await?; // durable from here on
//!
//! let iterator = stream.shard_iterator(stored.shard_id, IteratorType::TrimHorizon).await?;
//! let output = stream.get_records(&iterator, 100).await?;
//! assert_eq!(output.records[0].data, "hello");
//! # kinesis.close().await
//! # }
//! ```
//!
//! # Concepts
//!
//! - **Doors**: [`Kinesis::memory`], [`Kinesis::at`] a directory, [`Kinesis::on`] an object store; all end in one
//!   [`KinesisBuilder`] and its `open`.
//! - **Order**: one sequencer per instance. Within a shard records have one order, that of their sequence numbers; over
//!   shards only a batch is a unit.
//! - **Tail and segments**: the newest records are in memory, as slices of the journal's frames; older ones in immutable
//!   Arrow IPC files that other tools open too. Readers get [`bytes::Bytes`] that are never copied.
//! - **Retention**: 24 hours to 365 days, by whole segments: nothing goes early, some records stay a little longer.
//!   A reader whose next record is gone is told so (`Expired`).
//!
//! # What durable means
//!
//! A call that returns is on the journal: synced to the local disk ([`Kinesis::at`], or
//! [`journal_dir`](KinesisBuilder::journal_dir)), or put into the object store ([`Kinesis::on`]). Readers see only what
//! is durable. [`Durability::Memory`] acknowledges a batch once its order is fixed; a crash may lose it, and its numbers
//! are not given again. A put that failed with `Unavailable`, or whose process died, is there whole or not at all; one
//! that is sent again without a [`Producer`] may be there twice. A damaged segment is `Corrupt`, by name, and never
//! served. Wall-clock jumps change neither order nor retention while the process lives.
//!
//! # Limits
//!
//! All in [`limits`]: 500 records and 10 MiB a batch, 1 MiB a record (10 MiB by setting), keys of 256 characters, 10,000
//! records and 10 MiB a read. Memory: [`Settings::with_tail_bytes`] and [`Settings::with_cache_bytes`]. What the
//! allocator keeps comes on top: with 32 MiB of either, ten minutes of streams that are filled, read and deleted took 160
//! MiB in glibc's with `MALLOC_ARENA_MAX=2` set for the process, and twice that without.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | (none) | streams, producers, consumers, workers, mappings, segments |
//! | `firehose` | delivery streams: buffer, convert, partition, deliver to an object store |
//! | `server` | the API of Kinesis Data Streams, and with `firehose` of Data Firehose, on a port: boto3, the AWS CLI, the SDKs, the KCL |
//! | `datafusion` | a stream as a table: history and live tail by SQL |

mod aggregation;
mod builder;
mod consumer;
mod engine;
mod error;
#[cfg(feature = "firehose")]
pub mod firehose;
mod kinesis;
pub mod limits;
mod metrics;
mod put;
mod quota;
mod read;
mod segment;
#[cfg(feature = "server")]
pub mod server;
mod settings;
mod stream;
#[cfg(feature = "datafusion")]
pub mod table;
mod tail;

pub use aggregation::{Aggregator, UserRecord};
pub use builder::KinesisBuilder;
pub use consumer::{ConsumerState, mapping, worker};
pub use durable_core::journal::Durability;
pub use durable_core::{Clock, ErrorKind};
pub use error::{Error, Result};
pub use kinesis::Kinesis;
pub use metrics::{KinesisMetrics, ShardMetrics, StreamMetrics};
pub use put::{Producer, PutBatch, PutOutcome, PutRecord, PutRecordOutput, PutRecordsOutput, Transaction};
pub use quota::Limits;
pub use read::{GetRecordsOutput, IteratorType, PartitionKey, Record, ShardIterator, SubscribeToShardEvent};
pub use segment::Compression;
pub use settings::Settings;
pub use stream::{
    ChildShard, DataStream, HashKey, HashKeyRange, SequenceNumber, Shard, ShardFilter, ShardId, StreamConsumer,
    StreamDescription, StreamMode, StreamName, StreamSpec,
};
pub use {bytes, object_store};
