//! What a stream says about itself.
//!
//! Invariant: a description is a copy, and never changes under its holder.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::config::StreamMode;
use super::name::StreamName;

/// What [`describe_stream`](crate::Kinesis::describe_stream) answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamDescription {
    /// The stream's name.
    pub name: StreamName,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Who decides how many shards it has.
    pub mode: StreamMode,
    /// How long records stay readable, at least.
    pub retention: Duration,
    /// The largest record: data and partition key.
    pub record_bytes_max: usize,
    /// Shards that take records.
    pub open_shards: usize,
    /// Consumers that are registered for enhanced fan-out.
    pub registered_consumers: usize,
    /// Consumers that keep their positions in the stream.
    pub consumers: usize,
}
