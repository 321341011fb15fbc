//! Reading records: iterators, answers, and the records themselves.

mod event;
mod iterator;
mod output;
mod record;

pub use event::SubscribeToShardEvent;
pub(crate) use iterator::From;
pub use iterator::{IteratorType, ShardIterator};
pub use output::GetRecordsOutput;
pub use record::{PartitionKey, Record};
