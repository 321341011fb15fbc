//! Queues: what is declared about one, what waits in it, and where messages go that leave it unconsumed. Pure.

mod dead_letter;
mod entry;
mod messages;
mod spec;
mod work;

use serde::{Deserialize, Serialize};

pub(crate) use dead_letter::{DeathReason, closes_a_cycle, stamp};
pub(crate) use entry::{ENTRY_BYTES, Entry, Millis, Stored, weight};
pub(crate) use messages::{MessageId, Messages};
pub use spec::{DELIVERY_LIMIT_DEFAULT, Overflow, QueueSpec};
pub(crate) use work::{CHUNK_SPAN, WorkQueue};

/// A queue's number: never given to another queue, also not to one declared later under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct QueueId(pub(crate) u64);

impl QueueId {
    pub(crate) const FIRST: Self = Self(0);
}
