//! A stream, its shards and the names and numbers of both.

mod config;
mod data_stream;
mod description;
mod filter;
mod hash_key;
mod name;
mod on_demand;
mod open_shards;
mod sequence_number;
mod shard;

pub(crate) use config::{Change, StreamConfig, check_retention};
pub use config::{StreamConsumer, StreamMode, StreamSpec};
pub use data_stream::DataStream;
pub use description::StreamDescription;
pub use filter::ShardFilter;
pub use hash_key::{HashKey, HashKeyRange};
pub use name::StreamName;
pub(crate) use name::check_name;
pub(crate) use on_demand::{Load, OnDemand};
pub(crate) use open_shards::{OpenShard, OpenShards, OpenedShard, Reshaping};
pub use sequence_number::SequenceNumber;
pub use shard::{ChildShard, Shard, ShardId};
