//! Reading the stream: all shards in turn, children after their parents, waiting only at the tip.
//!
//! Invariant: a read changes nothing. Where reading stands is [`Progress`], which its owner moves once it has the
//! records; a read that is dropped half-way costs nothing but time.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::future::select_all;
use tokio::sync::watch;

use super::buffer::owner;
use super::ledger::SealedObject;
use super::place;
use crate::read::{From, IteratorType, Record};
use crate::stream::{DataStream, SequenceNumber, Shard, ShardId};
use crate::tail::Budget;
use crate::{Error, ErrorKind, Result};

/// How far the shards are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    shards: BTreeMap<ShardId, ShardProgress>,
    /// The shard that was read last: the next read begins with the one after it.
    last: Option<ShardId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ShardProgress {
    /// The record read last.
    read: Option<SequenceNumber>,
    /// Retention took what follows: go on at the oldest.
    expired: bool,
    finished: bool,
}

/// What one read found.
#[derive(Debug)]
pub(super) enum Reading {
    /// The next records of a shard, at least one.
    Records(Vec<Record>),
    /// Every shard had been read to its tip at some moment during the read.
    Tip,
    /// The shard is closed and read to its end.
    Finished(ShardId),
    /// Retention took the next records of the shard.
    Expired(ShardId),
    /// The wait at the tip was ended from outside.
    Woken,
}

impl Progress {
    /// Where the consumer's committed positions leave it. A position at a shard's start means that none of it is read.
    pub(super) fn new(positions: &BTreeMap<ShardId, SequenceNumber>, shards: &[Shard]) -> Self {
        let begun = |position: &SequenceNumber| shards.iter().all(|shard| shard.starting_sequence_number != *position);
        let shard = |(&shard, &read)| (shard, ShardProgress { read: Some(read), ..ShardProgress::default() });
        Self { shards: positions.iter().filter(|(_, position)| begun(position)).map(shard).collect(), last: None }
    }

    /// The record of the shard that was read last.
    pub(super) fn read(&self, shard: ShardId) -> Option<SequenceNumber> {
        self.shards.get(&shard).and_then(|progress| progress.read)
    }

    /// Whether the shard was read up to `last`, which may be its start.
    pub(super) fn has_passed(&self, shard: ShardId, last: SequenceNumber) -> bool {
        let read = self.read(shard).map_or(0, |read| read.index());
        read >= last.index() || self.is_finished(shard)
    }

    /// The position of each of `shards`: the last record below the first that is in an open buffer (`behind`), else the
    /// one read last, else the shard's start.
    ///
    /// None is left out: a shard that a commit does not name keeps the position of the commit before, without its state.
    pub(super) fn positions(
        &self,
        shards: &[Shard],
        behind: &BTreeMap<ShardId, Option<SequenceNumber>>,
    ) -> BTreeMap<ShardId, SequenceNumber> {
        let position = |shard: &Shard| {
            let read = behind.get(&shard.id).copied().unwrap_or_else(|| self.read(shard.id));
            (shard.id, read.unwrap_or(shard.starting_sequence_number))
        };
        shards.iter().map(position).collect()
    }

    pub(super) fn advance(&mut self, number: SequenceNumber) {
        let progress = self.shards.entry(number.shard()).or_default();
        progress.read = Some(number);
        progress.expired = false;
        self.last = Some(number.shard());
    }

    pub(super) fn finish(&mut self, shard: ShardId) {
        self.shards.entry(shard).or_default().finished = true;
    }

    pub(super) fn expire(&mut self, shard: ShardId) {
        self.shards.entry(shard).or_default().expired = true;
    }

    fn from(&self, shard: ShardId) -> IteratorType {
        match self.shards.get(&shard) {
            Some(ShardProgress { read: Some(read), expired: false, .. }) => IteratorType::AfterSequenceNumber(*read),
            _ => IteratorType::TrimHorizon,
        }
    }

    fn is_finished(&self, shard: ShardId) -> bool {
        self.shards.get(&shard).is_some_and(|progress| progress.finished)
    }

    /// Shards to read now, beginning behind the one read last: not finished, and no parent unfinished.
    fn readable(&self, stream: &DataStream) -> Result<Vec<ShardId>> {
        let shards = stream.list_shards()?;
        let unfinished = |parent: Option<ShardId>| {
            parent.is_some_and(|parent| shards.iter().any(|shard| shard.id == parent) && !self.is_finished(parent))
        };
        let mut readable: Vec<_> = shards
            .iter()
            .filter(|shard| !self.is_finished(shard.id))
            .filter(|shard| !unfinished(shard.parent) && !unfinished(shard.adjacent_parent))
            .map(|shard| shard.id)
            .collect();
        let behind_last = readable.partition_point(|shard| Some(*shard) <= self.last);
        readable.rotate_left(behind_last);
        Ok(readable)
    }
}

/// The next records of any shard, at most `budget` of them. At the tip it waits for more until `drain` changes from `seen`, or answers at once
/// without `wait`.
///
/// # Errors
///
/// As [`DataStream::get_records`].
pub(super) async fn read_next(
    stream: DataStream,
    progress: Progress,
    budget: Budget,
    wait: bool,
    seen: u64,
    mut drain: watch::Receiver<u64>,
) -> Result<Reading> {
    let readable = progress.readable(&stream)?;
    for &shard in &readable {
        match read_shard(&stream, shard, progress.from(shard), budget).await? {
            Reading::Tip => {}
            reading => return Ok(reading),
        }
    }
    if !wait {
        return Ok(Reading::Tip);
    }
    let woken = async {
        // An error means that the owner is gone, and this future with it.
        let _ = drain.wait_for(|epoch| *epoch != seen).await;
        Ok(Reading::Woken)
    };
    let news = readable.iter().map(|&shard| {
        let mut events = stream.subscribe_within(shard, progress.from(shard), budget);
        Box::pin(async move {
            match events.next().await {
                Some(Ok(event)) if event.records.is_empty() => Ok(Reading::Finished(shard)),
                Some(Ok(event)) => Ok(Reading::Records(event.records)),
                Some(Err(error)) if error.kind() == ErrorKind::Expired => Ok(Reading::Expired(shard)),
                Some(Err(error)) => Err(error),
                None => Ok(Reading::Finished(shard)),
            }
        })
    });
    let news: Vec<_> = news.collect();
    if news.is_empty() {
        return woken.await;
    }
    tokio::select! {
        (reading, _, _) = select_all(news) => reading,
        woken = woken => woken,
    }
}

async fn read_shard(stream: &DataStream, shard: ShardId, from: IteratorType, budget: Budget) -> Result<Reading> {
    let read = async {
        let iterator = stream.shard_iterator(shard, from).await?;
        stream.get_records_within(&iterator, budget.records, budget.bytes).await
    };
    match read.await {
        Ok(output) if !output.records.is_empty() => Ok(Reading::Records(output.records)),
        Ok(output) if output.next_iterator.is_none() => Ok(Reading::Finished(shard)),
        Ok(_) => Ok(Reading::Tip),
        Err(error) if error.kind() == ErrorKind::Expired => Ok(Reading::Expired(shard)),
        Err(error) => Err(error),
    }
}

/// The last record of each shard, whether it exists or not: where [`StartAt::Latest`](super::StartAt::Latest) begins.
///
/// # Errors
///
/// As [`DataStream::shard_iterator`].
pub(super) async fn latest(stream: &DataStream) -> Result<BTreeMap<ShardId, SequenceNumber>> {
    let mut positions = BTreeMap::new();
    for shard in stream.list_shards()? {
        let iterator = stream.shard_iterator(shard.id, IteratorType::Latest).await?;
        // An iterator at the oldest record of a shard that has none: nothing to pass over.
        if let From::Index(next) = iterator.from
            && let Some(index) = next.checked_sub(1)
        {
            positions.insert(shard.id, number(shard.starting_sequence_number, index));
        }
    }
    Ok(positions)
}

/// The number of `index` in the shard that `start` begins. The second of arrival is not known, nor does it matter:
/// within a shard the index decides.
fn number(start: SequenceNumber, index: u64) -> SequenceNumber {
    SequenceNumber::new(start.shard_created_secs(), start.shard(), index, start.shard_created_secs())
}

/// Runs of places in a shard by the first of each: its last, and the number of the object that they are promised to.
pub(super) type Owners = BTreeMap<u64, (u64, u64)>;

/// Who owns what in each shard.
pub(super) fn owners(objects: &[(u64, SealedObject)]) -> BTreeMap<ShardId, Owners> {
    let mut by_shard: BTreeMap<ShardId, Owners> = BTreeMap::new();
    for (object, sealed) in objects {
        for (&shard, members) in &sealed.members {
            let runs = by_shard.entry(shard).or_default();
            runs.extend(members.iter().map(|(first, last)| (first, (last, *object))));
        }
    }
    by_shard
}

/// Records that were promised to objects, whole or in parts.
#[derive(Debug, Default)]
pub(super) struct Reread {
    pub(super) records: Vec<Record>,
    /// Shards in which retention took some of them.
    pub(super) expired: Vec<ShardId>,
}

/// Reads again exactly the records of which something is owned.
///
/// # Errors
///
/// As [`DataStream::get_records`].
pub(super) async fn reread(stream: &DataStream, owners: &BTreeMap<ShardId, Owners>) -> Result<Reread> {
    let starts: BTreeMap<_, _> =
        stream.list_shards()?.into_iter().map(|shard| (shard.id, shard.starting_sequence_number)).collect();
    let mut reread = Reread::default();
    for (shard, runs) in owners {
        match starts.get(shard) {
            Some(&start) => reread_shard(stream, start, runs, &mut reread).await?,
            None => reread.expired.push(*shard),
        }
    }
    Ok(reread)
}

async fn reread_shard(stream: &DataStream, start: SequenceNumber, runs: &Owners, reread: &mut Reread) -> Result<()> {
    let shard = start.shard();
    let mut next = runs.first_key_value().map(|(&first, _)| place::index(first));
    let mut expired = false;
    let budget = Budget::of_a_read();
    while let Some(index) = next {
        let from = if expired {
            IteratorType::TrimHorizon
        } else {
            // Not at the shard's start, which would mean its oldest record, whatever retention took before it.
            IteratorType::AtSequenceNumber(number(start, index.max(start.index().saturating_add(1))))
        };
        let records = match read_shard(stream, shard, from, budget).await? {
            Reading::Records(records) => records,
            Reading::Expired(_) if !expired => {
                expired = true;
                reread.expired.push(shard);
                continue;
            }
            // Behind the last record of the shard: what was promised is no longer there.
            _ if expired => return Ok(()),
            _ => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("shard {shard} ends before record {index}, which was promised to an object"),
                ));
            }
        };
        let last = records.last().map_or(index, |record| record.sequence_number.index());
        reread.records.extend(records.into_iter().filter(|record| {
            let index = record.sequence_number.index();
            next_run(runs, index) == Some(index)
        }));
        expired = false;
        next = next_run(runs, last.saturating_add(1));
    }
    Ok(())
}

/// The first index at or above `index` of which something belongs to a run.
fn next_run(runs: &Owners, index: u64) -> Option<u64> {
    let first = place::first(index);
    match owner(runs, first) {
        Some(_) => Some(index),
        None => runs.range(first..).next().map(|(&first, _)| place::index(first)),
    }
}
