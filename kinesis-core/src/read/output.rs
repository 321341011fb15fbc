//! What [`get_records`](crate::DataStream::get_records) answers.

use std::time::Duration;

use super::iterator::ShardIterator;
use super::record::Record;
use crate::metrics::millis;
use crate::stream::ChildShard;

/// Records from an iterator on, and where to go on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GetRecordsOutput {
    /// In order, possibly none: at the tip of the shard.
    pub records: Vec<Record>,
    /// Behind the last record. None at the end of a closed shard: go on with its children.
    pub next_iterator: Option<ShardIterator>,
    /// How long ago the next unread record arrived; zero at the tip.
    pub behind_latest: Duration,
    /// The shards that follow, at the end of a closed shard.
    pub child_shards: Vec<ChildShard>,
}

impl GetRecordsOutput {
    /// [`behind_latest`](Self::behind_latest) in AWS's unit.
    #[must_use]
    pub fn millis_behind_latest(&self) -> u64 {
        millis(self.behind_latest)
    }
}
