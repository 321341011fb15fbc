//! A handle to one stream: everything an app does with it.
//!
//! Invariant: a handle means the stream it was made for; once that was deleted, every call is `NotFound`, even if
//! another stream has the name by then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use durable_core::ErrorKind;
use futures::stream::BoxStream;

use super::{SequenceNumber, Shard, ShardId, StreamName};
use crate::consumer::ConsumerState;
use crate::engine::command::Commit;
use crate::engine::read::subscribe;
use crate::engine::state::StreamState;
use crate::error::{Error, Result};
use crate::kinesis::Handle;
use crate::put::{PutBatch, PutRecord, PutRecordOutput, PutRecordsOutput};
use crate::read::{GetRecordsOutput, IteratorType, Record, ShardIterator};

/// One stream of an instance, which it keeps open. Cloning is cheap.
#[derive(Clone)]
pub struct DataStream {
    handle: Arc<Handle>,
    stream: Arc<StreamState>,
}

impl DataStream {
    pub(crate) fn new(handle: Arc<Handle>, stream: Arc<StreamState>) -> Self {
        Self { handle, stream }
    }

    /// Refuses calls on an instance that was closed or a stream that was deleted.
    fn check(&self) -> Result<()> {
        self.handle.engine.check_open()?;
        self.stream.check()
    }

    /// The instance's clock.
    #[cfg(feature = "firehose")]
    pub(crate) fn clock(&self) -> Arc<dyn durable_core::Clock> {
        Arc::clone(&self.handle.engine.clock)
    }

    /// Waits until all that was submitted is applied, also what nobody waits for any more.
    #[cfg(feature = "firehose")]
    pub(crate) async fn settle(&self) -> Result<()> {
        self.check()?;
        Ok(self.handle.engine.journal.flush().await?)
    }

    /// Who delivers it.
    #[cfg(feature = "firehose")]
    pub(crate) fn claims(&self) -> &crate::firehose::claim::Claims {
        &self.stream.claims
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.stream.name
    }

    /// Its shards by id: the open ones, and the closed ones whose records retention has left.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn list_shards(&self) -> Result<Vec<Shard>> {
        self.check()?;
        Ok(self.stream.shards.values().map(|shard| shard.describe()).collect())
    }

    /// Puts one record; durable and visible to readers once this returns.
    ///
    /// Dropping the future leaves the record put or not; it is never there in part.
    ///
    /// # Errors
    /// As [`put_batch`](Self::put_batch).
    pub async fn put_record(&self, record: PutRecord) -> Result<PutRecordOutput> {
        let output = self.put_records(vec![record]).await?;
        let stored = output.records.first().and_then(|outcome| outcome.stored().copied());
        stored.ok_or_else(|| Error::new(ErrorKind::Internal, "a record was put but has no number"))
    }

    /// Puts up to 500 records: all or none, durable and visible to readers once this returns.
    ///
    /// Dropping the future leaves all records put or none.
    ///
    /// # Errors
    /// As [`put_batch`](Self::put_batch).
    pub async fn put_records(&self, records: Vec<PutRecord>) -> Result<PutRecordsOutput> {
        self.put_batch(PutBatch::new(records)).await
    }

    /// Puts a batch: all of its records or none, over however many shards, in its order within each. A record goes to
    /// the shard that owns the MD5 of its partition key, or its explicit hash key.
    ///
    /// Waits while the tail is full. Dropping the future leaves all records put or none; a producer that numbers its
    /// events sends them again.
    ///
    /// # Errors
    /// `InvalidInput` past a limit (500 records, 10 MiB together, 1 MiB each unless set otherwise, keys of 1 to 256
    /// characters) or for numbers that do not fit; `Conflict` if events of the producer are missing before these;
    /// `LimitExceeded` if the disk is full, the batch larger than half the tail, or there are too many producers;
    /// `Unavailable` if journal or store fail: the batch may or may not be there after the next opening; `NotFound`;
    /// `Closed`.
    pub async fn put_batch(&self, batch: PutBatch) -> Result<PutRecordsOutput> {
        self.check()?;
        self.handle.engine.put(&self.stream, &batch).await
    }

    /// The number of the last event that the stream has of this producer: where a restarted one goes on.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn producer(&self, id: &str) -> Result<Option<u64>> {
        self.check()?;
        Ok(self.stream.held().producers.get(id).copied())
    }

    /// An iterator that stands at `from` in a shard. Dropping the future changes nothing.
    ///
    /// # Errors
    /// `NotFound` if there is no such shard; `InvalidInput` for a sequence number that another shard gave; `Corrupt`
    /// or `Unavailable` if a segment had to be read to find a time; `Closed`.
    pub async fn shard_iterator(&self, shard: ShardId, from: IteratorType) -> Result<ShardIterator> {
        self.handle.engine.shard_iterator(&self.stream, shard, from).await
    }

    /// At most `limit` records (1 to 10,000) and 10 MiB from the iterator on, in order; none if there are none yet.
    /// An answer may be shorter than what there is: go on with its `next_iterator`.
    ///
    /// Dropping the future changes nothing.
    ///
    /// # Errors
    /// `Expired` if retention removed the next record; `Corrupt`, naming the segment, if it is damaged or missing;
    /// `Unavailable` if the store fails; `InvalidInput` for a bad limit; `NotFound`; `Closed`.
    pub async fn get_records(&self, iterator: &ShardIterator, limit: usize) -> Result<GetRecordsOutput> {
        self.handle.engine.get_records(&self.stream, iterator, limit).await
    }

    /// The records of a shard from `from` on, and then every new one as soon as it is durable: waits without polling.
    ///
    /// No item is empty. The stream ends behind the last record of a closed shard, and after an error (as
    /// [`get_records`](Self::get_records) and [`shard_iterator`](Self::shard_iterator) have them; `Closed` once the
    /// instance is). Dropping it ends the subscription.
    #[must_use]
    pub fn subscribe(&self, shard: ShardId, from: IteratorType) -> BoxStream<'static, Result<Vec<Record>>> {
        subscribe(self.handle.clone(), self.stream.clone(), shard, from)
    }

    /// Commits how far a consumer has come, and what it needs to go on from there, in one step that is durable once
    /// this returns.
    ///
    /// The shards named in `positions` change, others stay as they were; `state` replaces the state before, `None`
    /// keeps it. Positions may also go back. Dropping the future leaves the commit made or not, never in part.
    ///
    /// # Errors
    /// `InvalidInput` for a bad name or a sequence number that another shard gave; `NotFound` for an unknown shard;
    /// `LimitExceeded` past 4 MiB of state or 1,000 consumers; `Unavailable` if the journal fails; `Closed`.
    pub async fn commit(
        &self,
        consumer: &str,
        positions: BTreeMap<ShardId, SequenceNumber>,
        state: Option<Bytes>,
    ) -> Result<()> {
        self.check()?;
        let commit = Commit { stream: self.stream.id, consumer: consumer.to_owned(), positions, state };
        self.handle.engine.commit(&self.stream, commit).await
    }

    /// What a consumer committed last; none if it never did.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn consumer(&self, name: &str) -> Result<Option<ConsumerState>> {
        self.check()?;
        Ok(self.stream.held().consumers.get(name).cloned())
    }

    /// The names of all consumers that committed, in order.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn consumers(&self) -> Result<Vec<String>> {
        self.check()?;
        Ok(self.stream.held().consumers.keys().cloned().collect())
    }

    /// Forgets a consumer. Dropping the future leaves it forgotten or not.
    ///
    /// # Errors
    /// `NotFound` if there is no such consumer; `Unavailable` if the journal fails; `Closed`.
    pub async fn delete_consumer(&self, name: &str) -> Result<()> {
        self.check()?;
        self.handle.engine.delete_consumer(&self.stream, name).await
    }
}

impl fmt::Debug for DataStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataStream").field("name", &self.stream.name).finish_non_exhaustive()
    }
}
