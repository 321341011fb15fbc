//! Which shards to list.
//!
//! Invariant: a filter by time asks what was so at that time, whatever has been split or merged since.

use chrono::{DateTime, Utc};

use super::shard::{Shard, ShardId};

/// Which shards [`list_shards_with`](crate::DataStream::list_shards_with) lists. A shard is known as long as retention
/// has left any of its records, or it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardFilter {
    /// Those with a greater id.
    AfterShardId(ShardId),
    /// Those that were open at the trim horizon: the ones whose parents are not known any more.
    AtTrimHorizon,
    /// All that are known.
    FromTrimHorizon,
    /// Those that are open now.
    AtLatest,
    /// Those that were open at this time; before the stream there was one, as [`AtTrimHorizon`](Self::AtTrimHorizon).
    AtTimestamp(DateTime<Utc>),
    /// Those that were open at this time, and all that were opened since.
    FromTimestamp(DateTime<Utc>),
}

impl ShardFilter {
    /// The shards of `all`, which are all that are known, that the filter lets through.
    pub(crate) fn apply(self, all: &[Shard]) -> Vec<Shard> {
        let oldest = all.iter().map(|shard| shard.opened).min();
        let before_all = |at| oldest.is_some_and(|oldest| at < oldest);
        let let_through = |shard: &Shard| match self {
            Self::FromTrimHorizon => true,
            Self::AfterShardId(id) => shard.id > id,
            Self::AtLatest => shard.closed.is_none(),
            Self::AtTimestamp(at) if !before_all(at) => {
                shard.opened <= at && shard.closed.is_none_or(|closed| closed > at)
            }
            Self::AtTrimHorizon | Self::AtTimestamp(_) => {
                let parents = [shard.parent, shard.adjacent_parent];
                !parents.into_iter().flatten().any(|parent| all.iter().any(|known| known.id == parent))
            }
            Self::FromTimestamp(at) => shard.closed.is_none_or(|closed| closed > at),
        };
        all.iter().filter(|shard| let_through(shard)).cloned().collect()
    }
}
