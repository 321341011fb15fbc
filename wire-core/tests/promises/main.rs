//! What wire-core promises, one module per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::missing_docs_in_private_items,
    reason = "a test reports by panicking"
)]

mod any_bytes;
mod botocore;
mod bounded_requests;
mod closes;
mod dispatch;
mod event_stream;
mod one_port_two_protocols;
mod python;
mod rig;
mod round_trip;
#[cfg(feature = "s3")]
mod s3_clients;
#[cfg(feature = "s3")]
mod s3_whole_or_absent;
mod signed_by_a_known_key;
