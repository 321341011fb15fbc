//! Delivery streams: records of a stream, or put directly, are taken apart, transformed, partitioned, buffered, converted, and
//! put into an object store under the names that Amazon Data Firehose gives, or handed over to a destination of another kind.
//!
//! ```
//! use std::sync::Arc;
//! use kinesis_core::firehose::{DeliverySettings, DeliveryStream, OutputFormat, ParquetFormat};
//! use kinesis_core::object_store::memory::InMemory;
//! use kinesis_core::{Kinesis, PutRecord};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> kinesis_core::Result<()> {
//! let kinesis = Kinesis::memory().open().await?;
//! let events = kinesis.create_stream("events", 2).await?;
//! let settings = DeliverySettings::new()
//!     .with_partition_by(["day"])
//!     .with_prefix("events/day=!{partitionKeyFromQuery:day}/")
//!     .with_error_output_prefix("errors/!{firehose:error-output-type}/")
//!     .with_format(OutputFormat::Parquet(ParquetFormat::new()));
//! let store = Arc::new(InMemory::new());
//! let delivery = DeliveryStream::builder("to-files", events.clone(), store).with_settings(settings).open().await?;
//! events.put_record(PutRecord::new(r#"{"day": 1, "city": "Oslo"}"#, "Oslo")).await?;
//! delivery.flush().await?;
//! assert_eq!(delivery.metrics().delivered_rows, 1);
//! delivery.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! Each record of the source ends in exactly one object of the store: in the data, or under the error output prefix with its
//! reason, or it was dropped by the transform. That holds through crashes, restarts, failing stores and puts that were applied
//! although they seemed to fail, because sealing a buffer first commits the object's name and its records to the
//! source's journal, together with the positions; the put then creates that name, and a name that exists is done. A
//! restart reads the records of sealed, undelivered objects again and creates those same names. A [`Transform`] must
//! answer alike when it is given a record again; one that is merely out of order for a while does no harm.
//!
//! What is [put directly](DeliveryStream::direct) is durable when the call returns, and kept until it is delivered, however long
//! that takes; beyond [a bound](DeliverySettings::with_backlog_bytes) nothing more is taken.
//!
//! Not promised: order across objects, and records that retention took while nothing read them (an
//! [`Expired`](DeliveryEvent::Expired) event says so).
//!
//! A failing store is met with repeated puts, and then with back-pressure: the source is not read beyond the memory that
//! was set, so the stream keeps the data.
//!
//! # Stages
//!
//! In this order, each only if it is set:
//!
//! | stage | setting | what fails goes to |
//! |---|---|---|
//! | aggregates of the Kinesis Producer Library are taken apart | always, where a stream is the source | (what is none is a plain record) |
//! | decompression | [`with_decompression`](DeliverySettings::with_decompression) | `decompression-failed` |
//! | log events are taken out of what CloudWatch Logs sends | [`with_cloudwatch_logs`](DeliverySettings::with_cloudwatch_logs) | `processing-failed` |
//! | JSON documents, or pieces between delimiters, are taken apart | [`with_deaggregation`](DeliverySettings::with_deaggregation) | `processing-failed` |
//! | the transform | [`with_transform`](DeliveryStreamBuilder::with_transform) | `processing-failed` |
//! | partition keys: fields, a JQ expression, or the transform's | [`with_partition_by`](DeliverySettings::with_partition_by), [`with_partition_query`](DeliverySettings::with_partition_query) | `processing-failed`, `activePartitionExceeded` |
//! | conversion to rows | [`with_format`](DeliverySettings::with_format) | `format-conversion-failed` |
//!
//! What was taken out of one record may go to many objects; each part is delivered once all the same. Changing how records are
//! taken apart, between two openings, delivers parts again of records that were delivered in part.
//!
//! # Destinations
//!
//! | destination | feature | how often a record arrives | what it refuses goes to |
//! |---|---|---|---|
//! | an object store | | exactly once | (it refuses none: a failing put is repeated) |
#![cfg_attr(
    feature = "firehose-http",
    doc = "| an HTTP endpoint of Firehose's form: [`HttpEndpoint`] | `firehose-http` | at least once, under ids that stay | `http-endpoint-failed` |",
    doc = "| Splunk: [`Splunk`] | `firehose-http` | at least once | `splunk-failed` |",
    doc = "| OpenSearch: [`OpenSearch`] | `firehose-http` | once, by the document's id | `AmazonOpenSearchService-failed` |"
)]
#![cfg_attr(
    feature = "redshift",
    doc = "| Redshift: [`Redshift`] | `redshift` | at least once | a manifest under `errors/manifests` |"
)]
//! | the app's own: [`Destination`] | | at least once, under ids that stay | `destination-failed` |
//!
//! A destination that is no object store is asked again for a while, and what it has not taken by then is put aside in the
//! store, as are records that failed on the way. [`with_source_backup`](DeliverySettings::with_source_backup) puts every record
//! there, as it came.
//!
//! # Prefixes
//!
//! | expression | becomes |
//! |---|---|
//! | `!{timestamp:yyyy/MM/dd}` | arrival of the object's oldest record, in UTC or the zone that is set, in letters of Java's `DateTimeFormatter` |
//! | `!{partitionKeyFromQuery:k}` | the record's top-level field `k`, named in `partition_by`, or key `k` of the JQ expression |
//! | `!{partitionKeyFromLambda:k}` | the partition key `k` of the transform |
//! | `!{firehose:random-string}` | eleven random characters, others at each place |
//! | `!{firehose:error-output-type}` | `processing-failed`, `decompression-failed`, `format-conversion-failed`, `activePartitionExceeded`, or what stands above; in the error output prefix only |
//!
//! A prefix without expressions gets `yyyy/MM/dd/HH/` behind it; one with expressions needs an error output prefix that
//! names the error type. Values of partition keys are percent-encoded as Hive does, so that none leaves its folder.
//!
//! # Limits
//!
//! Week fields (`Y`, `w`) follow ISO 8601, and zones have no long names (`zzzz`). ORC has flat columns only, and
//! needs the feature `orc`.

mod buffer;
pub(crate) mod claim;
mod deliver;
mod delivery_stream;
mod destination;
mod direct_put;
mod encode;
mod error_output;
mod event;
mod format;
mod handover;
#[cfg(feature = "firehose-http")]
mod http;
mod intake;
mod ledger;
mod metrics;
mod object_name;
mod orc;
mod place;
mod prefix;
mod query;
mod range_set;
#[cfg(feature = "redshift")]
mod redshift;
mod retry;
mod route;
mod schema;
mod sealing;
pub mod settings;
mod signature;
mod source;
mod timestamp_pattern;
mod transform;
mod unpack;
mod worker;

pub use arrow_schema;

pub use delivery_stream::{DeliveryStream, DeliveryStreamBuilder, EVENTS_KEPT};
pub use destination::{Answer, DeliveryRequest, Destination, Refusal, RequestRecord, StoredObject};
pub use direct_put::{DELIVERY_RECORD_BYTES_MAX, PUT_RECORD_BATCH_BYTES_MAX, PUT_RECORD_BATCH_MAX};
pub use error_output::ErrorOutputType;
pub use event::{Accepted, Delivered, DeliveryEvent, PartitionKeys, Rejected, Retrying};
pub use format::{
    Compression, OrcCompression, OrcFormat, OutputFormat, ParquetCompression, ParquetFormat, PartitionColumns,
    RecordsFormat, Separator, SourceBackup,
};
#[cfg(feature = "firehose-http")]
pub use http::{
    COMMON_ATTRIBUTES_MAX, DocumentIds, HTTP_ENDPOINT_TIMEOUT_DEFAULT, HTTP_TRANSFORM_TIMEOUT_DEFAULT, HecEndpoint,
    HttpEndpoint, HttpTransform, IndexRotation, OpenSearch, SPLUNK_ACK_TIMEOUT_DEFAULT, Splunk,
};
pub use metrics::DeliveryMetrics;
pub use query::PARTITION_QUERY_CHARS_MAX;
#[cfg(feature = "redshift")]
pub use redshift::{REDSHIFT_COPY_TIMEOUT_DEFAULT, Redshift};
pub use schema::SchemaSource;
pub use settings::{DeliverySettings, StartAt};
pub use transform::{
    TRANSFORM_BYTES_DEFAULT, TRANSFORM_RECORDS_MAX, TRANSFORM_RETRIES_DEFAULT, TRANSFORM_RETRIES_MAX, Transform,
    TransformOutcome, TransformRecord, TransformResult, transform_fn,
};
pub use unpack::{CloudWatchLogs, DECOMPRESSED_BYTES_MAX, DELIMITER_BYTES_MAX, Deaggregation, Decompression};
