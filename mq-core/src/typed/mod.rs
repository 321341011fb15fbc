//! Queues and topics of one payload type, as JSON: thin over the raw level.
//!
//! Invariant: a payload that does not decode is never lost in silence: the consumer yields an error and has the message,
//! and what the app leaves to it is rejected, to the dead letter exchange and the log.

mod queue;
mod received;
mod topic;

pub use queue::Queue;
pub use received::{Received, TypedConsumer};
pub use topic::Topic;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a typed queue or topic carries. Every type that serde can write and read is one.
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {}
