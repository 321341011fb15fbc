//! Reading: from the tail near the tip, from segments below it, always as slices.
//!
//! Invariant: a read is a contiguous run from the iterator on, from one place; what is not there any more is an error,
//! what is not there yet is an empty answer.

use std::sync::Arc;

use durable_core::ErrorKind;
use futures::stream::{self, BoxStream, StreamExt};

use super::Engine;
use super::log::{Found, ShardState};
use super::state::StreamState;
use crate::error::{Error, Result};
use crate::limits::{GET_RECORDS_BYTES_MAX, GET_RECORDS_MAX};
use crate::read::{From, GetRecordsOutput, IteratorType, Record, ShardIterator, SubscribeToShardEvent};
use crate::segment::Wanted;
use crate::stream::{SequenceNumber, ShardId};
use crate::tail::Budget;

impl Engine {
    pub(crate) async fn shard_iterator(
        &self,
        stream: &StreamState,
        shard: ShardId,
        from: IteratorType,
    ) -> Result<ShardIterator> {
        self.check_open()?;
        stream.check()?;
        let state = &*stream.shard(shard)?;
        if !stream.name.is_internal() {
            self.quotas.iterate(stream.id, &stream.name, shard)?;
        }
        self.iterator_at(stream, state, from).await
    }

    /// As [`shard_iterator`](Self::shard_iterator); where retention has removed the record, at the oldest one instead, as
    /// AWS does it.
    #[cfg(feature = "server")]
    pub(crate) async fn kept_iterator(
        &self,
        stream: &StreamState,
        shard: ShardId,
        from: IteratorType,
    ) -> Result<ShardIterator> {
        let mut iterator = self.shard_iterator(stream, shard, from).await?;
        if matches!(iterator.from, From::Index(index) if index <= stream.shard(shard)?.log().trimmed_through) {
            iterator.from = From::Oldest;
        }
        Ok(iterator)
    }

    /// A number behind which only records follow that come from now on.
    pub(crate) fn newest_number(&self, stream: &StreamState, shard: ShardId) -> Result<SequenceNumber> {
        let shard = stream.shard(shard)?;
        let newest = (*shard.end.borrow()).max(shard.starting_index);
        Ok(shard.stamp.number(newest, self.time.arrival_ms()))
    }

    /// An iterator that stands at `from`, whatever the quotas.
    async fn iterator_at(&self, stream: &StreamState, state: &ShardState, from: IteratorType) -> Result<ShardIterator> {
        let from = match from {
            IteratorType::TrimHorizon => From::Oldest,
            IteratorType::Latest => From::Index(*state.end.borrow() + 1),
            IteratorType::AtSequenceNumber(number) => From::Index(state.index_of(number)?),
            IteratorType::AfterSequenceNumber(number) => From::Index(state.index_of(number)?.saturating_add(1)),
            IteratorType::AtTimestamp(at) => self.at_timestamp(stream, state, at.timestamp_millis()).await?,
        };
        let from = at_least_starting(from, state);
        Ok(ShardIterator { stream: stream.id, shard: state.stamp.id, from, issued_ms: self.time.arrival_ms() })
    }

    /// The first record that arrived at `at_ms` or later; behind the newest if there is none yet.
    async fn at_timestamp(&self, stream: &StreamState, shard: &ShardState, at_ms: i64) -> Result<From> {
        let segment = {
            let log = shard.log();
            if log.arrival_at(log.trimmed_through + 1).is_some_and(|oldest| at_ms <= oldest) {
                return Ok(From::Oldest);
            }
            match log.segments.iter().find(|segment| segment.latest_arrival_ms >= at_ms) {
                Some(segment) => segment.clone(),
                None => {
                    let in_tail = log.tail.first_at_or_after(at_ms);
                    return Ok(From::Index(in_tail.unwrap_or(*shard.end.borrow() + 1)));
                }
            }
        };
        let path = self.segment_path(stream.id, shard.stamp.id, &segment);
        let stretch = self.cache.get(&path, &segment, Wanted::Arrival(at_ms)).await?;
        Ok(From::Index(stretch.first_at_or_after(at_ms).unwrap_or(segment.first)))
    }

    pub(crate) async fn get_records(
        &self,
        stream: &StreamState,
        iterator: &ShardIterator,
        limit: usize,
        bytes: usize,
    ) -> Result<GetRecordsOutput> {
        self.check_open()?;
        stream.check()?;
        if iterator.stream != stream.id {
            return Err(Error::invalid(format!("this iterator is not one of stream '{}'", stream.name)));
        }
        if !(1..=GET_RECORDS_MAX).contains(&limit) {
            return Err(Error::invalid(format!("a limit of {limit} records: ask for 1 to {GET_RECORDS_MAX}")));
        }
        if !(1..=GET_RECORDS_BYTES_MAX).contains(&bytes) {
            return Err(Error::invalid(format!("a limit of {bytes} bytes: ask for 1 to {GET_RECORDS_BYTES_MAX}")));
        }
        if let Some(age_max) = self.quotas.limits().iterator_age
            && self.time.since(iterator.issued_ms) > age_max
        {
            return Err(Error::new(
                ErrorKind::Expired,
                format!("this iterator was given out more than {} s ago; ask for another one", age_max.as_secs()),
            ));
        }
        let shard = &*stream.shard(iterator.shard)?;
        let begun = self.begin();
        if !stream.name.is_internal() {
            self.quotas
                .read(stream.id, &stream.name, shard.stamp.id)
                .inspect_err(|_| Self::count_throttled_read(stream, shard))?;
        }
        let (output, bytes) = self.read(stream, shard, iterator, Budget::new(limit, bytes)).await?;
        self.quotas.have_read(stream.id, shard.stamp.id, bytes);
        self.count_get_records(stream, shard, &output, (bytes, begun));
        Ok(output)
    }

    /// The next records, whatever the quotas, and their bytes.
    async fn read(
        &self,
        stream: &StreamState,
        shard: &ShardState,
        iterator: &ShardIterator,
        budget: Budget,
    ) -> Result<(GetRecordsOutput, u64)> {
        let records = self.run(stream, shard, iterator.from, budget).await?;
        let bytes = self.count_read(shard, &records);
        let next = records.last().map_or(iterator.from, |last| From::Index(last.sequence_number.index() + 1));
        Ok((self.answer(iterator, shard, records, next), bytes))
    }

    fn answer(
        &self,
        iterator: &ShardIterator,
        shard: &ShardState,
        records: Vec<Record>,
        next: From,
    ) -> GetRecordsOutput {
        let log = shard.log();
        let unread = log.arrival_at(match next {
            From::Oldest => log.trimmed_through + 1,
            From::Index(index) => index,
        });
        let ended = unread.is_none() && log.closed.is_some();
        GetRecordsOutput {
            records,
            next_iterator: (!ended).then(|| ShardIterator {
                from: next,
                issued_ms: self.time.arrival_ms(),
                ..iterator.clone()
            }),
            behind_latest: unread.map_or_else(Default::default, |arrival_ms| self.time.since(arrival_ms)),
            child_shards: if ended { log.children.clone() } else { Vec::new() },
        }
    }

    async fn run(
        &self,
        stream: &StreamState,
        shard: &ShardState,
        from: From,
        mut budget: Budget,
    ) -> Result<Vec<Record>> {
        loop {
            let found = shard.log().find(shard.stamp.id, from, &mut budget)?;
            match found {
                Found::Tail(entries) => return entries.iter().map(|entry| entry.record(shard.stamp)).collect(),
                Found::Segment(segment, from) => {
                    let path = self.segment_path(stream.id, shard.stamp.id, &segment);
                    match self.cache.get(&path, &segment, Wanted::Index(from)).await {
                        Ok(stretch) => {
                            // Who begins a stretch at its beginning reads on, as it seems.
                            if stretch.first().is_some_and(|first| from <= first) {
                                self.prefetch(stream, shard, stretch.last().unwrap_or(from).saturating_add(1));
                            }
                            let mut records = Vec::with_capacity(budget.records.min(1024));
                            stretch.read(shard.stamp, from, &mut budget, &mut records);
                            return Ok(records);
                        }
                        // Retention may have taken it meanwhile; then the iterator says so.
                        Err(error) if error.kind() == ErrorKind::NotFound => {
                            self.lost(stream, shard, &segment, error)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Fetches ahead what a reader that goes on at `from` will want.
    pub(super) fn prefetch(&self, stream: &StreamState, shard: &ShardState, from: u64) {
        let next = shard.log().segment_at(from);
        if let Some(segment) = next {
            let path = self.segment_path(stream.id, shard.stamp.id, &segment);
            self.cache.prefetch(path, segment, from);
        }
    }

    /// What it means that a segment's object is not there.
    pub(super) fn lost(
        &self,
        stream: &StreamState,
        shard: &ShardState,
        segment: &crate::segment::SegmentMeta,
        error: Error,
    ) -> Result<()> {
        stream.check()?;
        if shard.log().trimmed_through >= segment.last {
            return Ok(());
        }
        let path = self.segment_path(stream.id, shard.stamp.id, segment);
        Err(Error::corrupt(format!("segment {path} is missing from the store; restore the object from a copy"))
            .with_source(error))
    }
}

/// An iterator never stands before the shard's start, which is an index that no record has.
fn at_least_starting(from: From, shard: &ShardState) -> From {
    match from {
        From::Index(index) if index <= shard.starting_index => From::Oldest,
        from => from,
    }
}

/// A reader that waits for records.
struct Subscription {
    /// Keeps the instance open.
    handle: Arc<crate::kinesis::Handle>,
    stream: Arc<StreamState>,
    shard: Arc<ShardState>,
    place: Place,
    /// The most records and bytes of an event.
    budget: Budget,
}

enum Place {
    Begin(IteratorType),
    At(ShardIterator),
    Ended,
}

/// Records of a shard as they become durable, at most `budget` of them an event; ends behind the last of a closed shard,
/// or after an error.
pub(crate) fn subscribe(
    handle: Arc<crate::kinesis::Handle>,
    stream: Arc<StreamState>,
    shard: ShardId,
    from: IteratorType,
    budget: Budget,
) -> BoxStream<'static, Result<SubscribeToShardEvent>> {
    let shard = match stream.shard(shard) {
        Ok(shard) => shard,
        Err(error) => return stream::once(async { Err(error) }).boxed(),
    };
    // Latest means from this call on, not from the first poll on.
    let place = match from {
        IteratorType::Latest => {
            let from = From::Index(*shard.end.borrow() + 1);
            Place::At(ShardIterator { stream: stream.id, shard: shard.stamp.id, from, issued_ms: 0 })
        }
        from => Place::Begin(from),
    };
    Subscription { handle, stream, shard, place, budget }.into_stream()
}

/// As [`subscribe`], from an iterator on.
#[cfg(feature = "server")]
pub(crate) fn subscribe_at(
    handle: Arc<crate::kinesis::Handle>,
    stream: Arc<StreamState>,
    at: ShardIterator,
) -> BoxStream<'static, Result<SubscribeToShardEvent>> {
    match stream.shard(at.shard) {
        Ok(shard) => {
            let budget = Budget::of_a_read();
            Subscription { handle, stream, shard, place: Place::At(at), budget }.into_stream()
        }
        Err(error) => stream::once(async { Err(error) }).boxed(),
    }
}

impl Subscription {
    fn into_stream(self) -> BoxStream<'static, Result<SubscribeToShardEvent>> {
        self.stream.counters.subscribe_to_shard_success.add(1);
        stream::unfold(self, |mut subscription| async move {
            let next = subscription.next().await.transpose()?;
            if next.is_err() {
                subscription.place = Place::Ended;
            }
            Some((next, subscription))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Option<SubscribeToShardEvent>> {
        let engine = &self.handle.engine;
        let mut end = self.shard.end.subscribe();
        loop {
            // Marked as seen before the read, so that what comes during it wakes the wait.
            end.mark_unchanged();
            let iterator = match &self.place {
                Place::Ended => return Ok(None),
                Place::At(iterator) => iterator.clone(),
                Place::Begin(from) => engine.iterator_at(&self.stream, &self.shard, *from).await?,
            };
            engine.check_open()?;
            self.stream.check()?;
            let (output, bytes) = engine.read(&self.stream, &self.shard, &iterator, self.budget).await?;
            let ended = output.next_iterator.is_none();
            self.place = output.next_iterator.map_or(Place::Ended, Place::At);
            if ended || !output.records.is_empty() {
                let last = output.records.last().filter(|_| !ended).map(|record| record.sequence_number);
                let event = SubscribeToShardEvent {
                    records: output.records,
                    continuation_sequence_number: last,
                    behind_latest: output.behind_latest,
                    child_shards: output.child_shards,
                };
                Engine::count_event(&self.stream, &event, bytes);
                return Ok(Some(event));
            }
            // An error means that the shard is gone with its instance, which the next read reports.
            let _ = end.changed().await;
        }
    }
}
