//! The API of Kinesis Data Streams, for clients of AWS: boto3, the AWS CLI, the SDKs, the KCL.
//!
//! Invariant: an operation does what the function of this crate does that has its name; here stand only the shapes, the rules
//! and the words of AWS.
//!
//! ```no_run
//! use kinesis_core::Kinesis;
//! use wire_core::{Server, Services, Settings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kinesis = Kinesis::at("data").open().await?;
//! let services = Services::new(Settings::default()).with(kinesis_core::server::service(kinesis.clone()));
//! let server = Server::bind("127.0.0.1:4566", services).await?; // boto3.client("kinesis", endpoint_url="http://127.0.0.1:4566")
//! # server.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What differs from AWS
//!
//! Streams are active once they are created, and a change is made when its call returns: no client sees `CREATING`,
//! `UPDATING` or `DELETING`. Encryption by KMS, resource policies, account settings, warm throughput, queues and channels are
//! not there: their operations answer
//! `UnknownOperationException`. Names of accounts and regions in ARNs are not checked: there is one account.

mod consumers;
#[cfg(feature = "firehose")]
mod firehose;
mod page;
mod records;
mod refusal;
mod shards;
mod stream_ref;
mod streams;
mod subscriptions;
mod tags;

use std::sync::Arc;

use wire_core::{Service, WireError};

use crate::kinesis::Kinesis;
use subscriptions::Subscriptions;

#[cfg(feature = "firehose")]
pub use firehose::{Firehose, FirehoseBuilder, firehose_service};

/// What every operation works on.
#[derive(Clone, Debug)]
struct Api {
    kinesis: Kinesis,
    subscriptions: Arc<Subscriptions>,
}

/// The longest request: 10 MiB of records, in base64, and what is around them.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

fn too_large() -> WireError {
    WireError::new("SerializationException", "Request size exceeds the limit")
}

/// Kinesis Data Streams as a service of a port. It keeps the instance open.
#[must_use]
pub fn service(kinesis: Kinesis) -> Service<impl Clone + Send + Sync + 'static> {
    let api = Api { kinesis, subscriptions: Arc::default() };
    Service::new("kinesis", "Kinesis_20131202", api)
        .with_body_limit(BODY_BYTES_MAX, too_large())
        .operation("AddTagsToStream", tags::add_tags_to_stream)
        .operation("CreateStream", streams::create_stream)
        .operation("DecreaseStreamRetentionPeriod", streams::decrease_stream_retention_period)
        .operation("DeleteStream", streams::delete_stream)
        .operation("DeregisterStreamConsumer", consumers::deregister_stream_consumer)
        .operation("DescribeLimits", streams::describe_limits)
        .operation("DescribeStream", streams::describe_stream)
        .operation("DescribeStreamConsumer", consumers::describe_stream_consumer)
        .operation("DescribeStreamSummary", streams::describe_stream_summary)
        .operation("DisableEnhancedMonitoring", streams::disable_enhanced_monitoring)
        .operation("EnableEnhancedMonitoring", streams::enable_enhanced_monitoring)
        .operation("GetRecords", records::get_records)
        .operation("GetShardIterator", records::get_shard_iterator)
        .operation("IncreaseStreamRetentionPeriod", streams::increase_stream_retention_period)
        .operation("ListShards", shards::list_shards)
        .operation("ListStreamConsumers", consumers::list_stream_consumers)
        .operation("ListStreams", streams::list_streams)
        .operation("ListTagsForResource", tags::list_tags_for_resource)
        .operation("ListTagsForStream", tags::list_tags_for_stream)
        .operation("MergeShards", shards::merge_shards)
        .operation("PutRecord", records::put_record)
        .operation("PutRecords", records::put_records)
        .operation("RegisterStreamConsumer", consumers::register_stream_consumer)
        .operation("RemoveTagsFromStream", tags::remove_tags_from_stream)
        .operation("SplitShard", shards::split_shard)
        .event_stream("SubscribeToShard", subscriptions::subscribe_to_shard)
        .operation("TagResource", tags::tag_resource)
        .operation("UntagResource", tags::untag_resource)
        .operation("UpdateMaxRecordSize", streams::update_max_record_size)
        .operation("UpdateShardCount", shards::update_shard_count)
        .operation("UpdateStreamMode", streams::update_stream_mode)
}
