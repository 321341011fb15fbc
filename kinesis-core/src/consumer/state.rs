//! What a consumer keeps in the stream it reads.
//!
//! Invariant: positions and state of one commit become durable together, in the stream's own journal.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::stream::{SequenceNumber, ShardId};

/// What a consumer committed: how far it has come, and whatever it needs to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerState {
    /// The last record done, by shard. A shard that is missing was not begun.
    pub positions: BTreeMap<ShardId, SequenceNumber>,
    /// The bytes it committed last.
    pub state: Option<Bytes>,
}
