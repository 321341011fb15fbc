//! A handle to one stream: everything an app does with it.
//!
//! Invariant: a handle means the stream it was made for; once that was deleted, every call is `NotFound`, even if
//! another stream has the name by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;

use super::{
    HashKey, SequenceNumber, Shard, ShardFilter, ShardId, StreamConsumer, StreamDescription, StreamMode, StreamName,
};
use crate::consumer::ConsumerState;
use crate::engine::command::Commit;
use crate::engine::read::subscribe;
use crate::engine::state::StreamState;
use crate::engine::time::moment;
use crate::error::Result;
use crate::kinesis::Handle;
use crate::limits::GET_RECORDS_BYTES_MAX;
use crate::metrics::{ShardMetrics, StreamMetrics};
use crate::put::{PutBatch, PutRecord, PutRecordOutput, PutRecordsOutput};
use crate::read::{GetRecordsOutput, IteratorType, ShardIterator, SubscribeToShardEvent};
use crate::tail::Budget;

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

    pub(crate) fn state(&self) -> &StreamState {
        &self.stream
    }

    /// Whether the stream is one of this instance.
    pub(crate) fn is_of(&self, handle: &Arc<Handle>) -> bool {
        Arc::ptr_eq(&self.handle, handle)
    }

    /// Refuses calls on an instance that was closed or a stream that was deleted.
    pub(crate) fn check(&self) -> Result<()> {
        self.handle.engine.check_open()?;
        self.stream.check()
    }

    pub(crate) fn engine(&self) -> &crate::engine::Engine {
        &self.handle.engine
    }

    /// The instance's clock.
    pub(crate) fn clock(&self) -> Arc<dyn durable_core::Clock> {
        Arc::clone(&self.handle.engine.clock)
    }

    /// Waits until all that was submitted is applied, also what nobody waits for any more.
    #[cfg(feature = "firehose")]
    pub(crate) async fn settle(&self) -> Result<()> {
        self.check()?;
        Ok(self.handle.engine.journal.flush().await?)
    }

    /// Deletes it with all it holds.
    #[cfg(feature = "firehose")]
    pub(crate) async fn delete(&self) -> Result<()> {
        self.check()?;
        self.handle.engine.delete_stream(&self.stream).await
    }

    /// Lets records up to `through` go, however young they are. Forgotten by a restart.
    #[cfg(feature = "firehose")]
    pub(crate) fn release(&self, shard: ShardId, through: u64) -> Result<()> {
        let shard = self.stream.shard(shard)?;
        let mut log = shard.log();
        log.released_through = log.released_through.max(through);
        Ok(())
    }

    /// How far all shards are released together, which rises with each that is released further, and the bytes of what
    /// is not.
    #[cfg(feature = "firehose")]
    pub(crate) fn unreleased(&self) -> (u64, u64) {
        let logs = |shard: &Arc<crate::engine::log::ShardState>| {
            let log = shard.log();
            (log.released_through, log.unreleased_bytes())
        };
        let add = |(released, bytes): (u64, u64), (more, and): (u64, u64)| (released + more, bytes + and);
        self.stream.shards().values().map(logs).fold((0, 0), add)
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

    /// What it is like now.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn describe(&self) -> Result<StreamDescription> {
        self.check()?;
        let (shards, control) = (self.stream.shards(), self.stream.control());
        Ok(StreamDescription {
            name: self.stream.name.clone(),
            created: moment(self.stream.created_ms),
            mode: control.config.mode,
            retention: control.config.retention(),
            record_bytes_max: control.config.record_bytes_max.unwrap_or(self.handle.engine.record_bytes_max),
            open_shards: shards.values().filter(|shard| shard.is_open()).count(),
            registered_consumers: control.config.consumers.len(),
            consumers: self.stream.held().consumers.len(),
        })
    }

    /// What happened in it since the instance was opened.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn metrics(&self) -> Result<StreamMetrics> {
        self.check()?;
        Ok(self.stream.counters.snapshot())
    }

    /// What happened in each of its shards since the instance was opened, closed ones included that are still there.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn shard_metrics(&self) -> Result<BTreeMap<ShardId, ShardMetrics>> {
        self.check()?;
        Ok(self.stream.shards().iter().map(|(id, shard)| (*id, shard.counters.snapshot())).collect())
    }

    /// Its shards by id: the open ones, and the closed ones whose records retention has left.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn list_shards(&self) -> Result<Vec<Shard>> {
        self.check()?;
        Ok(self.stream.shards().values().map(|shard| shard.describe()).collect())
    }

    /// Those of its shards that `filter` lets through, by id.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn list_shards_with(&self, filter: ShardFilter) -> Result<Vec<Shard>> {
        Ok(filter.apply(&self.list_shards()?))
    }

    /// Splits an open shard in two: the second owns its hash keys from `new_starting_hash_key` on, which must be above
    /// the shard's first key plus one and below its last. Records that are put from now on go to the two; the shard is
    /// closed and stays readable until retention has removed its records.
    ///
    /// Dropping the future leaves the shard split or not.
    ///
    /// # Errors
    /// `NotFound` for an unknown shard; `InvalidInput` if it is closed, the key does not split it, the stream is on
    /// demand or would have more than 10,000 open shards; `Unavailable` if the journal fails; `Closed`.
    pub async fn split_shard(&self, shard: ShardId, new_starting_hash_key: HashKey) -> Result<()> {
        self.check()?;
        self.handle.engine.split_shard(&self.stream, shard, new_starting_hash_key).await
    }

    /// Merges two open shards whose hash keys are adjacent into one. Both are closed and stay readable until retention
    /// has removed their records.
    ///
    /// Dropping the future leaves them merged or not.
    ///
    /// # Errors
    /// As [`split_shard`](Self::split_shard); `InvalidInput` if they are not adjacent.
    pub async fn merge_shards(&self, shard: ShardId, adjacent: ShardId) -> Result<()> {
        self.check()?;
        self.handle.engine.merge_shards(&self.stream, shard, adjacent).await
    }

    /// Changes the number of open shards to `target` (1 to 10,000), which then share the hash keys evenly (AWS's uniform
    /// scaling). It is done by splits and merges, all at once; some shards may be opened and closed by the same step.
    ///
    /// Dropping the future leaves the change made or not.
    ///
    /// # Errors
    /// As [`split_shard`](Self::split_shard).
    pub async fn update_shard_count(&self, target: u32) -> Result<()> {
        self.check()?;
        self.handle.engine.update_shard_count(&self.stream, target).await
    }

    /// Sets how long the stream's records stay readable, at least: 24 to 8760 hours. Whole segments are removed, so
    /// records may stay a little longer.
    ///
    /// Dropping the future leaves the retention changed or not.
    ///
    /// # Errors
    /// `InvalidInput` outside the bounds; `NotFound`; `Unavailable` if the journal fails; `Closed`.
    pub async fn set_retention(&self, retention: Duration) -> Result<()> {
        self.check()?;
        self.handle.engine.set_retention(&self.stream, retention).await
    }

    /// Sets who decides how many shards the stream has.
    ///
    /// Dropping the future leaves the mode changed or not.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` if the journal fails; `Closed`.
    pub async fn set_mode(&self, mode: StreamMode) -> Result<()> {
        self.check()?;
        self.handle.engine.set_mode(&self.stream, mode).await
    }

    /// Sets the largest record, data and partition key: at most 10 MiB.
    ///
    /// Dropping the future leaves it changed or not.
    ///
    /// # Errors
    /// `InvalidInput` for none or more than 10 MiB; `NotFound`; `Unavailable` if the journal fails; `Closed`.
    pub async fn set_record_bytes_max(&self, bytes: usize) -> Result<()> {
        self.check()?;
        self.handle.engine.set_record_bytes_max(&self.stream, bytes).await
    }

    /// Its tags.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn tags(&self) -> Result<BTreeMap<String, String>> {
        self.check()?;
        Ok(self.stream.control().config.tags.clone())
    }

    /// Adds tags; a key that is there already gets the new value.
    ///
    /// Dropping the future leaves the tags added or not.
    ///
    /// # Errors
    /// `InvalidInput` for a key of no or more than 128 characters or a value of more than 256; `LimitExceeded` past 50
    /// tags; `NotFound`; `Unavailable` if the journal fails; `Closed`.
    pub async fn add_tags(&self, tags: BTreeMap<String, String>) -> Result<()> {
        self.check()?;
        self.handle.engine.add_tags(&self.stream, tags).await
    }

    /// Removes the tags of these keys; one that is not there is as good as removed.
    ///
    /// Dropping the future leaves the tags removed or not.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` if the journal fails; `Closed`.
    pub async fn remove_tags(&self, keys: BTreeSet<String>) -> Result<()> {
        self.check()?;
        self.handle.engine.remove_tags(&self.stream, keys).await
    }

    /// Registers a consumer for enhanced fan-out.
    ///
    /// Dropping the future leaves it registered or not.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidInput` for a bad name; `LimitExceeded` past the limit of registered consumers;
    /// `NotFound`; `Unavailable` if the journal fails; `Closed`.
    pub async fn register_stream_consumer(&self, name: &str) -> Result<StreamConsumer> {
        self.check()?;
        self.handle.engine.register_consumer(&self.stream, name).await
    }

    /// Ends a consumer's registration.
    ///
    /// Dropping the future leaves it registered or not.
    ///
    /// # Errors
    /// `NotFound` if there is no such consumer; `Unavailable` if the journal fails; `Closed`.
    pub async fn deregister_stream_consumer(&self, name: &str) -> Result<()> {
        self.check()?;
        self.handle.engine.deregister_consumer(&self.stream, name).await
    }

    /// The registered consumers, by name.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn stream_consumers(&self) -> Result<Vec<StreamConsumer>> {
        self.check()?;
        Ok(self.stream.control().config.consumers.values().cloned().collect())
    }

    /// Puts one record; durable and visible to readers once this returns.
    ///
    /// Dropping the future leaves the record put or not; it is never there in part.
    ///
    /// # Errors
    /// As [`put_batch`](Self::put_batch).
    pub async fn put_record(&self, record: PutRecord) -> Result<PutRecordOutput> {
        self.check()?;
        self.handle.engine.put_record(&self.stream, record).await
    }

    /// Puts up to 500 records in one step, durable and visible to readers once this returns. Where the instance has
    /// [`Limits`](crate::Limits), records of shards whose throughput is used up are left out, and their outcome says so;
    /// without, all are put or none.
    ///
    /// Dropping the future leaves the records put or none of them.
    ///
    /// # Errors
    /// As [`put_batch`](Self::put_batch), but for `Throttled`.
    pub async fn put_records(&self, records: Vec<PutRecord>) -> Result<PutRecordsOutput> {
        let mut batch = PutBatch::new(records);
        batch.partial = true;
        self.put_batch(batch).await
    }

    /// Puts a batch: all of its records or none, over however many shards, in its order within each. A record goes to
    /// the shard that owns the MD5 of its partition key, or its explicit hash key.
    ///
    /// Waits while the tail is full. Dropping the future leaves all records put or none; a producer that numbers its
    /// events sends them again.
    ///
    /// # Errors
    /// `InvalidInput` past a limit (500 records, 10 MiB together, 1 MiB each unless set otherwise, keys of 1 to 256
    /// characters) or for numbers that do not fit; `Conflict` if events of the producer are missing before these, or the
    /// newest record of a shard is not the expected one; `Throttled` if the throughput of a shard is used up;
    /// `LimitExceeded` if the disk is full, the batch larger than half the tail, or there are too many producers;
    /// `Unavailable` if journal or store fail: the batch may or may not be there after the next opening; `NotFound`;
    /// `Closed`.
    pub async fn put_batch(&self, batch: PutBatch) -> Result<PutRecordsOutput> {
        self.check()?;
        self.handle.engine.put_records(&self.stream, &batch).await
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
        self.get_records_within(iterator, limit, GET_RECORDS_BYTES_MAX).await
    }

    /// As [`get_records`](Self::get_records), with at most `bytes` of payloads and keys (1 byte to 10 MiB), for a reader
    /// with little memory. The first record is given though it be larger, so that a reader always gets on.
    ///
    /// # Errors
    /// As [`get_records`](Self::get_records); `InvalidInput` for a bad number of bytes.
    pub async fn get_records_within(
        &self,
        iterator: &ShardIterator,
        limit: usize,
        bytes: usize,
    ) -> Result<GetRecordsOutput> {
        self.handle.engine.get_records(&self.stream, iterator, limit, bytes).await
    }

    /// The records of a shard from `from` on, and then every new one as soon as it is durable: waits without polling.
    ///
    /// No event is without records, but for the last one of a closed shard, which names the shards that follow. The stream
    /// ends behind that, and after an error (as [`get_records`](Self::get_records) and [`shard_iterator`](Self::shard_iterator) have them; `Closed` once the
    /// instance is). Dropping it ends the subscription.
    #[must_use]
    pub fn subscribe(&self, shard: ShardId, from: IteratorType) -> BoxStream<'static, Result<SubscribeToShardEvent>> {
        self.subscribe_within(shard, from, Budget::of_a_read())
    }

    /// A [subscription](Self::subscribe) with at most `budget` an event.
    pub(crate) fn subscribe_within(
        &self,
        shard: ShardId,
        from: IteratorType,
        budget: Budget,
    ) -> BoxStream<'static, Result<SubscribeToShardEvent>> {
        subscribe(self.handle.clone(), self.stream.clone(), shard, from, budget)
    }

    /// A [subscription](Self::subscribe) from an iterator on.
    #[cfg(feature = "server")]
    pub(crate) fn subscribe_at(&self, at: ShardIterator) -> BoxStream<'static, Result<SubscribeToShardEvent>> {
        crate::engine::read::subscribe_at(self.handle.clone(), self.stream.clone(), at)
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
