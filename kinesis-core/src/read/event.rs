//! What a subscription yields.

use std::time::Duration;

use super::record::Record;
use crate::stream::{ChildShard, SequenceNumber};

/// Records that a subscription hands on, and where it stands behind them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscribeToShardEvent {
    /// In order. None only in the last event, at the end of a closed shard.
    pub records: Vec<Record>,
    /// Where another subscription goes on, [after](crate::IteratorType::AfterSequenceNumber) it. None at the end of a
    /// closed shard: go on with its children.
    pub continuation_sequence_number: Option<SequenceNumber>,
    /// How long ago the next unread record arrived; zero at the tip.
    pub behind_latest: Duration,
    /// The shards that follow, in the last event of a closed shard.
    pub child_shards: Vec<ChildShard>,
}
