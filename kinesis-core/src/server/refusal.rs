//! Errors as Kinesis Data Streams names them.
//!
//! Invariant: an error of this crate becomes an exception in one place; what AWS says in other words is said here, once.

use durable_core::ErrorKind;
use wire_core::{Context, WireError};

use crate::error::Error;
use crate::stream::ShardId;

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        Self::of(error.kind(), error.code(), error.message())
    }
}

/// A control call past its rate is another exception than a shard past its throughput.
pub(super) fn control(error: Error) -> WireError {
    match error.kind() {
        ErrorKind::Throttled => WireError::new("LimitExceededException", error.message()),
        _ => error.into(),
    }
}

pub(super) fn no_stream(name: &str, request: &Context) -> WireError {
    let message = format!("Stream {name} under account {} not found.", request.account_id());
    WireError::new("ResourceNotFoundException", message)
}

pub(super) fn stream_exists(name: &str, request: &Context) -> WireError {
    let message = format!("Stream {name} under account {} already exists.", request.account_id());
    WireError::new("ResourceInUseException", message)
}

/// What is not even a shard's name.
pub(super) fn unreadable_shard(shard: &str, stream: &str, request: &Context) -> WireError {
    let message = format!("Could not find shard {shard} in stream {stream} under account {}.", request.account_id());
    WireError::new("ResourceNotFoundException", message)
}

pub(super) fn no_shard(shard: ShardId, stream: &str, request: &Context) -> WireError {
    let message = format!("Shard {shard} in stream {stream} under account {} does not exist", request.account_id());
    WireError::new("ResourceNotFoundException", message)
}

pub(super) fn invalid(message: impl Into<String>) -> WireError {
    WireError::new("InvalidArgumentException", message)
}
