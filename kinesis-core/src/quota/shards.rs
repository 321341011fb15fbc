//! What is left of each quota.
//!
//! Invariant: without a quota nothing is counted and nothing is kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use durable_core::{Clock, ErrorKind};

use super::bucket::Bucket;
use super::limits::Limits;
use crate::error::{Error, Result};
use crate::stream::{ShardId, StreamName};

/// Shards whose buckets are kept before those that are full again are forgotten.
const SHARDS_KEPT: usize = 4096;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An operation that creates or changes a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ControlCall {
    CreateStream,
    DeleteStream,
    SplitShard,
    MergeShards,
    UpdateShardCount,
    SetRetention,
    SetMode,
    SetRecordBytesMax,
    Tag,
    RegisterConsumer,
    DeregisterConsumer,
}

/// The quotas of one instance and what is left of them.
#[derive(Debug)]
pub(crate) struct Quotas {
    limits: Limits,
    clock: Arc<dyn Clock>,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    shards: HashMap<(u64, ShardId), Shard>,
    control: BTreeMap<ControlCall, Bucket>,
    /// When the shard count of a stream was updated.
    updates: BTreeMap<u64, VecDeque<Duration>>,
}

#[derive(Debug, Default)]
struct Shard {
    write_bytes: Option<Bucket>,
    write_records: Option<Bucket>,
    read_bytes: Option<Bucket>,
    read_calls: Option<Bucket>,
    iterators: Option<Bucket>,
}

impl Shard {
    fn buckets(&mut self) -> impl Iterator<Item = &mut Bucket> {
        let Self { write_bytes, write_records, read_bytes, read_calls, iterators } = self;
        [write_bytes, write_records, read_bytes, read_calls, iterators].into_iter().flatten()
    }
}

impl Quotas {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { limits, clock, left: Mutex::default() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether puts are counted at all.
    pub(crate) fn limit_writes(&self) -> bool {
        self.limits.shard_write_bytes_per_second.is_some() || self.limits.shard_write_records_per_second.is_some()
    }

    /// Takes a record's writing, if the shard has it left.
    pub(crate) fn write(&self, stream: u64, shard: ShardId, bytes: usize) -> bool {
        let (now, bytes) = (self.clock.monotonic(), bytes as u64);
        let mut left = self.lock();
        let shard = left.shard(&self.limits, now, stream, shard);
        let (Some(of_bytes), Some(of_records)) =
            (allows(&mut shard.write_bytes, bytes, now), allows(&mut shard.write_records, 1, now))
        else {
            return false;
        };
        of_bytes.into_iter().for_each(|bucket| bucket.take(bytes));
        of_records.into_iter().for_each(|bucket| bucket.take(1));
        true
    }

    /// Gives back the writing of a record that was not written.
    pub(crate) fn unwrite(&self, stream: u64, shard: ShardId, bytes: usize) {
        let mut left = self.lock();
        let Some(shard) = left.shards.get_mut(&(stream, shard)) else { return };
        shard.write_bytes.iter_mut().for_each(|bucket| bucket.give_back(bytes as u64));
        shard.write_records.iter_mut().for_each(|bucket| bucket.give_back(1));
    }

    /// Takes a call of `get_records`.
    ///
    /// # Errors
    /// `Throttled` if the shard has none left.
    pub(crate) fn read(&self, stream: u64, name: &StreamName, shard: ShardId) -> Result<()> {
        if self.limits.shard_read_bytes_per_second.is_none() && self.limits.shard_read_calls_per_second.is_none() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut left = self.lock();
        let of = left.shard(&self.limits, now, stream, shard);
        let has_bytes = of.read_bytes.as_mut().is_none_or(|bucket| bucket.is_open(now));
        match allows(&mut of.read_calls, 1, now) {
            Some(bucket) if has_bytes => {
                bucket.into_iter().for_each(|bucket| bucket.take(1));
                Ok(())
            }
            _ => Err(exceeded(name, shard)),
        }
    }

    /// Counts what a call of `get_records` gave.
    pub(crate) fn have_read(&self, stream: u64, shard: ShardId, bytes: u64) {
        if self.limits.shard_read_bytes_per_second.is_some() {
            let now = self.clock.monotonic();
            let mut left = self.lock();
            let shard = left.shard(&self.limits, now, stream, shard);
            shard.read_bytes.iter_mut().for_each(|bucket| bucket.take(bytes));
        }
    }

    /// Takes a call of `shard_iterator`.
    ///
    /// # Errors
    /// `Throttled` if the shard has none left.
    pub(crate) fn iterate(&self, stream: u64, name: &StreamName, shard: ShardId) -> Result<()> {
        if self.limits.shard_iterators_per_second.is_none() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut left = self.lock();
        let of = left.shard(&self.limits, now, stream, shard);
        match allows(&mut of.iterators, 1, now) {
            Some(bucket) => {
                bucket.into_iter().for_each(|bucket| bucket.take(1));
                Ok(())
            }
            None => Err(exceeded(name, shard)),
        }
    }

    /// Takes a control call.
    ///
    /// # Errors
    /// `LimitExceeded` if there were too many within the second.
    pub(crate) fn control(&self, call: ControlCall) -> Result<()> {
        let Some(per_second) = self.limits.control_calls_per_second else { return Ok(()) };
        let now = self.clock.monotonic();
        let mut left = self.lock();
        let bucket = left.control.entry(call).or_insert_with(|| Bucket::new(per_second, now));
        if bucket.allows(1, now) {
            bucket.take(1);
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Throttled,
            format!("{call:?}: more than {per_second} calls in a second; wait and repeat"),
        ))
    }

    /// Takes an update of a stream's shard count from `from` to `to`.
    ///
    /// # Errors
    /// `LimitExceeded` if there were too many in 24 hours, or the step is too large.
    pub(crate) fn update_shard_count(&self, stream: u64, from: usize, to: u32) -> Result<()> {
        if let Some(factor) = self.limits.shard_count_factor {
            let (from, to, factor) = (from as u64, u64::from(to), u64::from(factor));
            if to > from * factor || to * factor < from {
                let message =
                    format!("from {from} to {to} shards in one step: at most {factor} times as many or as few");
                return Err(Error::limit(message));
            }
        }
        let Some(most) = self.limits.shard_count_updates_per_day else { return Ok(()) };
        let now = self.clock.monotonic();
        let mut left = self.lock();
        let updates = left.updates.entry(stream).or_default();
        while updates.pop_front_if(|at| *at + DAY <= now).is_some() {}
        if updates.len() >= most as usize {
            return Err(Error::limit(format!("the shard count was updated {most} times in 24 hours")));
        }
        updates.push_back(now);
        Ok(())
    }

    /// Forgets a stream that was deleted.
    pub(crate) fn forget(&self, stream: u64) {
        let mut left = self.lock();
        left.updates.remove(&stream);
        left.shards.retain(|(of, _), _| *of != stream);
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Left {
    fn shard(&mut self, limits: &Limits, now: Duration, stream: u64, shard: ShardId) -> &mut Shard {
        if self.shards.len() >= SHARDS_KEPT && !self.shards.contains_key(&(stream, shard)) {
            self.shards.retain(|_, shard| shard.buckets().any(|bucket| !bucket.is_full(now)));
        }
        let bucket = |limit: Option<u64>| limit.map(|per_second| Bucket::new(per_second, now));
        self.shards.entry((stream, shard)).or_insert_with(|| Shard {
            write_bytes: bucket(limits.shard_write_bytes_per_second),
            write_records: bucket(limits.shard_write_records_per_second),
            read_bytes: bucket(limits.shard_read_bytes_per_second),
            read_calls: bucket(limits.shard_read_calls_per_second),
            iterators: bucket(limits.shard_iterators_per_second),
        })
    }
}

/// The bucket, if there is one, if it allows the amount; `None` if it does not.
#[allow(clippy::option_option, reason = "no bucket is not the same as an empty one")]
fn allows(bucket: &mut Option<Bucket>, amount: u64, now: Duration) -> Option<Option<&mut Bucket>> {
    match bucket {
        None => Some(None),
        Some(bucket) => bucket.allows(amount, now).then_some(Some(bucket)),
    }
}

/// The error of a shard past its throughput.
pub(crate) fn exceeded(stream: &StreamName, shard: ShardId) -> Error {
    Error::new(
        ErrorKind::Throttled,
        format!("the throughput of shard {shard} of stream '{stream}' is used up; wait and repeat, or split the shard"),
    )
}
