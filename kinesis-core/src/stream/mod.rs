//! A stream, its shards and the names and numbers of both.

mod data_stream;
mod description;
mod hash_key;
mod name;
mod sequence_number;
mod shard;

pub use data_stream::DataStream;
pub use description::StreamDescription;
pub use hash_key::{HashKey, HashKeyRange};
pub use name::StreamName;
pub(crate) use name::check_name;
pub use sequence_number::SequenceNumber;
pub use shard::{ChildShard, Shard, ShardId};
