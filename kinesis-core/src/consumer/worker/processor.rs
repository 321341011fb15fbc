//! What an application does with the records of a shard.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use super::Checkpoint;
use super::checkpointer::Checkpointer;
use crate::aggregation::UserRecord;
use crate::error::Result;
use crate::stream::ShardId;

/// Why a processor could not go on.
pub type ProcessorError = Box<dyn StdError + Send + Sync>;

/// Processes the records of one shard, in order; one is made for each shard that a worker holds. Its calls never overlap.
///
/// What fails is tried again: records are never passed over. A call that panics ends the processor; another one is made
/// and goes on behind the last checkpoint.
pub trait RecordProcessor: Send + 'static {
    /// Called once, before all else.
    ///
    /// # Errors
    /// The call is repeated after a while.
    fn initialize(
        &mut self,
        shard: ShardId,
        from: Checkpoint,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = (shard, from);
        async { Ok(()) }
    }

    /// Processes records, at least one. To say that they are done call the checkpointer, each time or from time to time:
    /// after a crash or a change of hands, all behind the last checkpoint comes again.
    ///
    /// # Errors
    /// The same records come again after a while.
    fn process_records(
        &mut self,
        input: ProcessRecords<'_>,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send;

    /// Another worker has the lease. Nothing can be checkpointed any more.
    fn lease_lost(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// All of a closed shard was processed. It must checkpoint, which lets the shards that follow begin; without an own
    /// implementation it does so and nothing else.
    ///
    /// # Errors
    /// The call is repeated after a while, as it is if it did not checkpoint.
    fn shard_ended(&mut self, checkpointer: &Checkpointer) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        async { Ok(checkpointer.checkpoint().await?) }
    }

    /// The lease is about to be handed to another worker, or given back since this one stops. It may checkpoint what was
    /// processed.
    ///
    /// # Errors
    /// Are told to `tracing`; the lease is handed over all the same.
    fn shutdown_requested(
        &mut self,
        checkpointer: &Checkpointer,
    ) -> impl Future<Output = Result<(), ProcessorError>> + Send {
        let _ = checkpointer;
        async { Ok(()) }
    }
}

/// Records to process.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProcessRecords<'a> {
    /// Their shard.
    pub shard: ShardId,
    /// In order, aggregated ones read apart.
    pub records: &'a [UserRecord],
    /// How long ago the next unread record arrived; zero at the tip. A CloudWatch metric of the Kinesis Client Library as
    /// `MillisBehindLatest`.
    pub behind_latest: Duration,
}
