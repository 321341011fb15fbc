//! Puts and commits that happen together: what was read, and what it led to, in one step.
//!
//! Invariant: all of a transaction is in one journal frame, so a crash leaves all of it or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::PutBatch;
use super::record::PutRecordsOutput;
use crate::engine::command::Commit;
use crate::engine::state::StreamState;
use crate::error::{Error, Result};
use crate::kinesis::Handle;
use crate::limits::TRANSACTION_PARTS_MAX;
use crate::stream::{DataStream, SequenceNumber, ShardId};

/// Puts and commits over any streams of one instance, made by [`Kinesis::transaction`](crate::Kinesis::transaction).
///
/// A consumer that writes what it computed, and how far it has read, in one transaction does each record exactly once:
///
/// ```
/// # use std::collections::BTreeMap;
/// # use kinesis_core::{IteratorType, Kinesis, PutBatch, PutRecord};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kinesis_core::Result<()> {
/// # let kinesis = Kinesis::memory().open().await?;
/// # let (orders, totals) = (kinesis.create_stream("orders", 1).await?, kinesis.create_stream("totals", 1).await?);
/// # let read = orders.put_record(PutRecord::new("12", "a")).await?;
/// let positions = BTreeMap::from([(read.shard_id, read.sequence_number)]);
/// let output = PutBatch::new(vec![PutRecord::new("total 12", "a")]);
/// kinesis.transaction().put(&totals, output).commit(&orders, "summing", positions, None).execute().await?;
/// # kinesis.close().await
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before it is executed"]
pub struct Transaction {
    handle: Arc<Handle>,
    puts: Vec<(DataStream, PutBatch)>,
    commits: Vec<(DataStream, Commit)>,
}

impl Transaction {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Self { handle, puts: Vec::new(), commits: Vec::new() }
    }

    /// Puts a batch, one for a stream at most. Its durability is that of the journal, whatever it asks for.
    pub fn put(mut self, stream: &DataStream, batch: PutBatch) -> Self {
        self.puts.push((stream.clone(), batch));
        self
    }

    /// Makes a commit, as [`DataStream::commit`] does.
    pub fn commit(
        mut self,
        stream: &DataStream,
        consumer: &str,
        positions: BTreeMap<ShardId, SequenceNumber>,
        state: Option<Bytes>,
    ) -> Self {
        let commit = Commit { stream: stream.state().id, consumer: consumer.to_owned(), positions, state };
        self.commits.push((stream.clone(), commit));
        self
    }

    /// Does all of it, durably once this returns, and answers what became of each batch, in order.
    ///
    /// Dropping the future leaves all of it done or nothing.
    ///
    /// # Errors
    /// As [`DataStream::put_batch`] and [`DataStream::commit`] for any part: then none is done. `InvalidInput` if it is
    /// empty, has two batches for one stream or more than 100 parts, or a stream is of another instance.
    pub async fn execute(self) -> Result<Vec<PutRecordsOutput>> {
        let parts = self.puts.len() + self.commits.len();
        if !(1..=TRANSACTION_PARTS_MAX).contains(&parts) {
            return Err(Error::invalid(format!(
                "a transaction of {parts} parts: give it 1 to {TRANSACTION_PARTS_MAX}"
            )));
        }
        let streams =
            || self.puts.iter().map(|(stream, _)| stream).chain(self.commits.iter().map(|(stream, _)| stream));
        if let Some(stranger) = streams().find(|stream| !stream.is_of(&self.handle)) {
            return Err(Error::invalid(format!("stream '{}' is one of another instance", stranger.name())));
        }
        for (place, (stream, _)) in self.puts.iter().enumerate() {
            stream.check()?;
            if self.puts.iter().take(place).any(|(other, _)| other.state().id == stream.state().id) {
                let message = format!("a transaction has two batches for stream '{}'; make them one", stream.name());
                return Err(Error::invalid(message));
            }
        }
        let puts: Vec<(&StreamState, &PutBatch)> =
            self.puts.iter().map(|(stream, batch)| (stream.state(), batch)).collect();
        let commits: Vec<(&StreamState, Commit)> =
            self.commits.iter().map(|(stream, commit)| (stream.state(), commit.clone())).collect();
        self.handle.engine.transact(&puts, &commits).await
    }
}
