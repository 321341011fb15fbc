//! The AWS wire, once for all services: what a client of AWS speaks, over hyper and axum.
//!
//! # What it does
//!
//! A [`Service`] is a table of operations: a name and an async function each. Inputs and outputs are serde types, written once
//! for JSON and AWS's CBOR; [`Blob`] and [`Timestamp`] know how each encoding has them. [`Services`] puts several behind one
//! port, as AWS's endpoints are behind one name, checks signatures and dispatches by `X-Amz-Target`. [`Server`] opens the port,
//! HTTP/1.1 and HTTP/2 on one; or an app mounts [`Services::into_router`] in its own axum server.
//!
//! # What it does not do
//!
//! It holds no service and no state of one. It speaks no TLS (put a proxy before it, or mount the router in a server that
//! does), answers no CORS preflight, sends no `x-amz-crc32` (Kinesis does not either), and evaluates no policies: who has a
//! key may do everything. Of AWS's protocols it reads JSON 1.0 and 1.1 and CBOR 1.1; not Query, REST-JSON, REST-XML or
//! Smithy's RPC v2. S3 comes with the feature `s3`; it has no target, so it gets what no other service is named for.
//!
//! # Example
//!
//! Two operations, one of them an event stream:
//!
//! ```
//! use futures::{StreamExt, stream};
//! use serde::{Deserialize, Serialize};
//! use wire_core::{Blob, Context, Event, EventStream, Server, Service, Services, Settings, Validation, WireError};
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "PascalCase")]
//! struct PutRecordInput {
//!     stream_name: String, // required: absent, it is a ValidationException
//!     partition_key: String,
//!     data: Blob,
//! }
//!
//! #[derive(Serialize)]
//! #[serde(rename_all = "PascalCase")]
//! struct PutRecordOutput {
//!     sequence_number: String,
//! }
//!
//! #[derive(Clone)]
//! struct Streams; // the service itself, a cheap handle
//!
//! async fn put_record(_: Streams, request: Context, input: PutRecordInput) -> Result<PutRecordOutput, WireError> {
//!     Validation::new().length("partitionKey", input.partition_key.as_str(), 1..=256).finish()?;
//!     if input.stream_name != "clicks" {
//!         let message = format!("Stream {} under account {} not found.", input.stream_name, request.account_id());
//!         return Err(WireError::new("ResourceNotFoundException", message));
//!     }
//!     Ok(PutRecordOutput { sequence_number: input.data.len().to_string() })
//! }
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "PascalCase")]
//! struct SubscribeToShardInput {
//!     shard_id: String,
//! }
//!
//! #[derive(Serialize)]
//! #[serde(rename_all = "PascalCase")]
//! struct SubscribeToShardEvent {
//!     millis_behind_latest: u64,
//! }
//!
//! impl Event for SubscribeToShardEvent {
//!     fn event_type(&self) -> &'static str {
//!         "SubscribeToShardEvent"
//!     }
//! }
//!
//! async fn subscribe_to_shard(
//!     _: Streams,
//!     _: Context,
//!     input: SubscribeToShardInput,
//! ) -> Result<EventStream<SubscribeToShardEvent>, WireError> {
//!     tracing::info!(input.shard_id, "subscribed");
//!     let behind = stream::iter([2_000, 1_000, 0]);
//!     Ok(EventStream::new(behind.map(|ms| Ok::<_, WireError>(SubscribeToShardEvent { millis_behind_latest: ms }))))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> wire_core::Result<()> {
//! let kinesis = Service::new("kinesis", "Kinesis_20131202", Streams)
//!     .operation("PutRecord", put_record)
//!     .event_stream("SubscribeToShard", subscribe_to_shard);
//! let server = Server::bind("127.0.0.1:0", Services::new(Settings::default()).with(kinesis)).await?;
//! println!("boto3.client('kinesis', endpoint_url='{}')", server.url());
//! server.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - **Operation**: `async fn(state, Context, Input) -> Result<Output, impl Into<WireError>>`, one row of its service's table.
//!   Its future is dropped when the client goes away.
//! - **Input**: members the type does not have are ignored, as AWS does; `Option` is a member that may be absent or null. A
//!   member of another type is a `SerializationException` that says where; one that is absent a `ValidationException`.
//!   An operation that wants all missing members told at once takes `Option`s and [`Validation::require`].
//! - **Output**: a serde type, or `()` for the empty body that AWS sends where there is nothing to say.
//! - **Error**: [`WireError`], a service's exception: name, message, status. A service crate writes one `From` for its own.
//! - **Event stream**: a [`Stream`](futures::Stream) of [`Event`]s; an error in it is an exception to the client and ends it.
//! - **Dispatch**: `X-Amz-Target` names service and operation; what has none goes to the
//!   [fallback](Services::with_fallback). `GET /health` lists the services.
//! - **Signatures**: with [`Credentials`], a request must be signed (Signature Version 4, header or presigned) by a known
//!   key, for the service it goes to, within 5 minutes of the clock; the signature covers the body, the host and every
//!   `x-amz-` header. Without, anyone may ask, and a request's region is still the one it was signed for.
//!
//! # Limits
//!
//! | what | bound | past it |
//! |---|---|---|
//! | a body | [`Settings::with_body_bytes_max`], 16 MiB, or the [service's own](Service::with_body_limit) | `RequestEntityTooLargeException` (413), or the service's error |
//! | all bodies | [`Settings::with_bodies_bytes_max`], 256 MiB | requests wait their turn |
//! | a body's arrival | [`Settings::with_body_timeout`], 60 s | `RequestTimeoutException` (408) |
//! | connections | [`Settings::with_connections_max`], 1,024 | they wait to be accepted |
//! | a request's headers | 64 KiB in HTTP/2, 100 of them in HTTP/1.1; [`Settings::with_header_timeout`], 60 s | the connection is closed |
//! | requests side by side on an HTTP/2 connection | 256 | the client waits |
//! | nesting of CBOR, of JSON | 64, 128 levels | `SerializationException` |
//! | closing | [`Settings::with_drain_timeout`], 10 s | requests under way are dropped |
//!
//! Answers have no bound but the operation's own; they stay in memory until their client has read them. Connection timeouts
//! run on tokio's clock, all others on the one given.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | (none) | all of the above |
//! | `s3` | `S3`: an object store for clients of S3, on the same port |

mod codec;
mod context;
mod event_stream;
mod receive;
mod response;
#[cfg(feature = "s3")]
mod s3;
mod server;
mod service;
mod services;
mod settings;
mod signature;
mod validation;
mod wire_error;

pub use codec::{Blob, Encoding, Timestamp};
pub use context::{Context, RequestId};
pub use durable_core::{Clock, Error, ErrorKind, Result};
pub use event_stream::{Event, EventStream};
#[cfg(feature = "s3")]
pub use s3::S3;
pub use server::Server;
pub use service::Service;
pub use services::Services;
pub use settings::Settings;
pub use signature::Credentials;
pub use validation::Validation;
pub use wire_error::WireError;
pub use {axum, bytes, http};
