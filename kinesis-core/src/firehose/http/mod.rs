//! Destinations and a transform that are reached over HTTP (feature `firehose-http`).
//!
//! Invariant: an answer is read up to a bound, and every call ends within its timeout.

mod client;
mod endpoint;
mod opensearch;
mod splunk;
mod transform;

pub use endpoint::{COMMON_ATTRIBUTES_MAX, HTTP_ENDPOINT_TIMEOUT_DEFAULT, HttpEndpoint};
pub use opensearch::{DocumentIds, IndexRotation, OpenSearch};
pub use splunk::{HecEndpoint, SPLUNK_ACK_TIMEOUT_DEFAULT, Splunk};
pub use transform::{HTTP_TRANSFORM_TIMEOUT_DEFAULT, HttpTransform};
