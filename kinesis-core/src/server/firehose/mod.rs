//! The API of Amazon Data Firehose, for clients of AWS.
//!
//! Delivery streams are active once they are made, and a change is in force when its call returns.

mod delivery_streams;
mod destination;
mod endpoint;
mod functions;
mod processing;
mod records;
mod registry;
mod tags;
mod target;

use wire_core::{Context, Service, WireError};

pub use registry::{Firehose, FirehoseBuilder};

use super::{BODY_BYTES_MAX, too_large};
use crate::error::Error;
use durable_core::ErrorKind;

/// Amazon Data Firehose as a service of a port. It keeps its delivery streams at work.
///
/// ```no_run
/// use kinesis_core::Kinesis;
/// use kinesis_core::server::{Firehose, firehose_service, service};
/// use wire_core::{Server, Services, Settings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kinesis = Kinesis::at("data").open().await?;
/// let firehose = Firehose::open(kinesis.clone(), kinesis.store()).await?; // bucket b is folder b of that store
/// let services = Services::new(Settings::default()).with(service(kinesis)).with(firehose_service(firehose));
/// let server = Server::bind("127.0.0.1:4566", services).await?; // boto3.client("firehose", endpoint_url="http://127.0.0.1:4566")
/// # server.close().await;
/// # Ok(())
/// # }
/// ```
///
/// Destinations are in S3, or, with the feature `firehose-http`, HTTP endpoints, Splunk and OpenSearch, or, with `redshift`,
/// Redshift; others are refused by name, and so is what needs KMS, a VPC or Secrets Manager. Functions for Lambda's place and a catalog for Glue's are the
/// app's: see [`FirehoseBuilder`]. A `LambdaArn` may also be the URL of an [endpoint with Lambda's
/// contract](crate::firehose::DeliveryStreamBuilder::with_transform). Keys and tokens of endpoints are kept as they are given,
/// in the journal of the instance.
#[must_use]
pub fn firehose_service(firehose: Firehose) -> Service<impl Clone + Send + Sync + 'static> {
    Service::new("firehose", "Firehose_20150804", firehose)
        .with_body_limit(BODY_BYTES_MAX, too_large())
        .operation("CreateDeliveryStream", delivery_streams::create_delivery_stream)
        .operation("DeleteDeliveryStream", delivery_streams::delete_delivery_stream)
        .operation("DescribeDeliveryStream", delivery_streams::describe_delivery_stream)
        .operation("ListDeliveryStreams", delivery_streams::list_delivery_streams)
        .operation("ListTagsForDeliveryStream", tags::list_tags_for_delivery_stream)
        .operation("PutRecord", records::put_record)
        .operation("PutRecordBatch", records::put_record_batch)
        .operation("StartDeliveryStreamEncryption", delivery_streams::start_delivery_stream_encryption)
        .operation("StopDeliveryStreamEncryption", delivery_streams::stop_delivery_stream_encryption)
        .operation("TagDeliveryStream", tags::tag_delivery_stream)
        .operation("UntagDeliveryStream", tags::untag_delivery_stream)
        .operation("UpdateDestination", delivery_streams::update_destination)
}

/// An error about the delivery stream of this name, in Firehose's words.
fn refused(name: &str, request: &Context) -> impl Fn(Error) -> WireError {
    let account = request.account_id().to_owned();
    move |error| match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("Firehose {name} under account {account} not found.");
            WireError::new("ResourceNotFoundException", message)
        }
        ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Closed => {
            WireError::of(ErrorKind::Unavailable, "ServiceUnavailableException", error.message())
        }
        _ => error.into(),
    }
}
