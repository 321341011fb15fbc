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
use crate::read::{From, GetRecordsOutput, IteratorType, Record, ShardIterator};
use crate::stream::ShardId;
use crate::tail::Limits;

impl Engine {
    pub(crate) async fn shard_iterator(
        &self,
        stream: &StreamState,
        shard: ShardId,
        from: IteratorType,
    ) -> Result<ShardIterator> {
        self.check_open()?;
        stream.check()?;
        let state = stream.shard(shard)?;
        let from = match from {
            IteratorType::TrimHorizon => From::Oldest,
            IteratorType::Latest => From::Index(*state.end.borrow() + 1),
            IteratorType::AtSequenceNumber(number) => From::Index(state.index_of(number)?),
            IteratorType::AfterSequenceNumber(number) => From::Index(state.index_of(number)?.saturating_add(1)),
            IteratorType::AtTimestamp(at) => self.at_timestamp(stream, state, at.timestamp_millis()).await?,
        };
        Ok(ShardIterator { stream: stream.id, shard, from: at_least_starting(from, state) })
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
        let rows = self.cache.get(&path, &segment).await?;
        Ok(From::Index(rows.first_at_or_after(at_ms).unwrap_or(segment.first)))
    }

    pub(crate) async fn get_records(
        &self,
        stream: &StreamState,
        iterator: &ShardIterator,
        limit: usize,
    ) -> Result<GetRecordsOutput> {
        self.check_open()?;
        stream.check()?;
        if iterator.stream != stream.id {
            return Err(Error::invalid(format!("this iterator is not one of stream '{}'", stream.name)));
        }
        if !(1..=GET_RECORDS_MAX).contains(&limit) {
            return Err(Error::invalid(format!("a limit of {limit} records: ask for 1 to {GET_RECORDS_MAX}")));
        }
        let shard = stream.shard(iterator.shard)?;
        let records = self.run(stream, shard, iterator.from, limit).await?;
        let bytes = records.iter().map(|record| (record.data.len() + record.partition_key.len()) as u64).sum();
        self.state.counters.read_records.add(records.len() as u64);
        self.state.counters.read_bytes.add(bytes);
        let next = records.last().map_or(iterator.from, |last| From::Index(last.sequence_number.index() + 1));
        Ok(self.answer(iterator, shard, records, next))
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
        let ended = unread.is_none() && log.closed_at.is_some();
        GetRecordsOutput {
            records,
            next_iterator: (!ended).then(|| ShardIterator { from: next, ..iterator.clone() }),
            behind_latest: unread.map_or_else(Default::default, |arrival_ms| self.time.since(arrival_ms)),
            child_shards: if ended { log.children.clone() } else { Vec::new() },
        }
    }

    async fn run(&self, stream: &StreamState, shard: &ShardState, from: From, limit: usize) -> Result<Vec<Record>> {
        let mut limits = Limits { records: limit, bytes: GET_RECORDS_BYTES_MAX, taken: 0 };
        loop {
            let found = shard.log().find(shard.stamp.id, from, &mut limits)?;
            match found {
                Found::Tail(entries) => return entries.iter().map(|entry| entry.record(shard.stamp)).collect(),
                Found::Segment(segment, from) => {
                    let path = self.segment_path(stream.id, shard.stamp.id, &segment);
                    match self.cache.get(&path, &segment).await {
                        Ok(rows) => {
                            let mut records = Vec::with_capacity(limit.min(1024));
                            rows.read(shard.stamp, from, &mut limits, &mut records);
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

    /// What it means that a segment's object is not there.
    fn lost(
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
}

enum Place {
    Begin(IteratorType),
    At(ShardIterator),
    Ended,
}

/// Records of a shard as they become durable; ends behind the last of a closed shard, or after an error.
pub(crate) fn subscribe(
    handle: Arc<crate::kinesis::Handle>,
    stream: Arc<StreamState>,
    shard: ShardId,
    from: IteratorType,
) -> BoxStream<'static, Result<Vec<Record>>> {
    let shard = match stream.shard(shard) {
        Ok(shard) => shard.clone(),
        Err(error) => return stream::once(async { Err(error) }).boxed(),
    };
    // Latest means from this call on, not from the first poll on.
    let place = match from {
        IteratorType::Latest => {
            let from = From::Index(*shard.end.borrow() + 1);
            Place::At(ShardIterator { stream: stream.id, shard: shard.stamp.id, from })
        }
        from => Place::Begin(from),
    };
    let subscription = Subscription { handle, stream, shard, place };
    stream::unfold(subscription, |mut subscription| async move {
        let next = subscription.next().await.transpose()?;
        if next.is_err() {
            subscription.place = Place::Ended;
        }
        Some((next, subscription))
    })
    .boxed()
}

impl Subscription {
    async fn next(&mut self) -> Result<Option<Vec<Record>>> {
        let engine = &self.handle.engine;
        let mut end = self.shard.end.subscribe();
        loop {
            // Marked as seen before the read, so that what comes during it wakes the wait.
            end.mark_unchanged();
            let iterator = match &self.place {
                Place::Ended => return Ok(None),
                Place::At(iterator) => iterator.clone(),
                Place::Begin(from) => engine.shard_iterator(&self.stream, self.shard.stamp.id, *from).await?,
            };
            let output = engine.get_records(&self.stream, &iterator, GET_RECORDS_MAX).await?;
            self.place = output.next_iterator.map_or(Place::Ended, Place::At);
            if !output.records.is_empty() {
                return Ok(Some(output.records));
            }
            if matches!(self.place, Place::At(_)) {
                // An error means that the shard is gone with its instance, which the next read reports.
                let _ = end.changed().await;
            }
        }
    }
}
