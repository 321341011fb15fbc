//! One shard under a mapping: records are read, filtered and spread over lanes; what is done is committed.
//!
//! Invariant: records of one partition key are in one lane, in order; a commit passes no record that is not done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use durable_core::ErrorKind;
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Config;
use super::function::Function;
use super::lane::Lane;
use super::tracker::Tracker;
use super::window::Saved;
use crate::error::{Error, Result};
use crate::read::{IteratorType, Record};
use crate::stream::{DataStream, SequenceNumber, Shard, ShardId};

/// Records that wait in front of a lane, at least.
const QUEUE_MIN: usize = 100;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Why work on a shard ends early.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The mapping stops.
    Asked,
    /// The stream or its instance is gone.
    Gone(Error),
}

/// What the lanes of a shard share.
pub(super) struct ShardWork<F> {
    pub(super) stream: DataStream,
    pub(super) shard: ShardId,
    pub(super) config: Arc<Config>,
    pub(super) function: Arc<F>,
    pub(super) stopping: watch::Receiver<bool>,
    /// Whether every record there is was handed to the lanes.
    pub(super) at_tip: watch::Sender<bool>,
    /// Whether the last record of the closed shard was handed to the lanes.
    pub(super) is_read: AtomicBool,
    tracker: Mutex<Tracker>,
    /// What was committed last.
    committed: tokio::sync::Mutex<Option<SequenceNumber>>,
}

impl<F: Function> ShardWork<F> {
    pub(super) fn new(
        stream: DataStream,
        shard: ShardId,
        config: Arc<Config>,
        function: Arc<F>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            stream,
            shard,
            config,
            function,
            stopping,
            at_tip: watch::Sender::new(false),
            is_read: AtomicBool::new(false),
            tracker: Mutex::default(),
            committed: tokio::sync::Mutex::default(),
        }
    }

    /// Works from a place on to the shard's end, and commits that.
    pub(super) async fn run(self: Arc<Self>, from: IteratorType, saved: Option<Saved>) -> Result<(), Stopped> {
        let (mut lanes, mut queues) = (JoinSet::new(), Vec::new());
        for _ in 0..self.config.parallelization_factor {
            let (queue, records) = mpsc::channel(self.config.batch_size.max(QUEUE_MIN));
            queues.push(queue);
            lanes.spawn(Lane::new(self.clone(), records, saved.clone()).run());
        }
        let pumped = self.pump(from, &queues).await;
        // Lanes end once their queues are empty.
        drop(queues);
        while let Some(lane) = lanes.join_next().await {
            match lane {
                Ok(ended) => ended?,
                Err(error) => {
                    let error = Error::new(ErrorKind::Internal, "a lane panicked").with_source(error);
                    return Err(Stopped::Gone(error));
                }
            }
        }
        pumped?;
        self.commit_end().await
    }

    async fn pump(&self, from: IteratorType, queues: &[mpsc::Sender<Record>]) -> Result<(), Stopped> {
        let mut from = from;
        let mut waits = Waits::default();
        loop {
            let mut events = self.stream.subscribe(self.shard, from);
            while let Some(event) = self.or_stop(events.next()).await? {
                match event {
                    Ok(event) => {
                        waits = Waits::default();
                        self.at_tip.send_replace(false);
                        let (is_last, is_tip) =
                            (event.continuation_sequence_number.is_none(), event.behind_latest.is_zero());
                        if let Some(last) = event.records.last() {
                            from = IteratorType::AfterSequenceNumber(last.sequence_number);
                        }
                        self.spread(event.records, queues).await?;
                        self.at_tip.send_replace(is_tip);
                        if is_last {
                            self.is_read.store(true, Ordering::Relaxed);
                            return Ok(());
                        }
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => {
                        return Err(Stopped::Gone(error));
                    }
                    Err(error) if error.kind() == ErrorKind::Expired => {
                        tracing::warn!(shard = %self.shard, "retention has removed records that were not processed");
                        from = IteratorType::TrimHorizon;
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(%error, shard = %self.shard, "a shard was not read; it is tried again");
                        self.wait(&mut waits).await?;
                        break;
                    }
                }
            }
        }
    }

    async fn spread(&self, records: Vec<Record>, queues: &[mpsc::Sender<Record>]) -> Result<(), Stopped> {
        let filters = &self.config.filters;
        let mut left_out = Vec::new();
        for record in records {
            self.tracker().read(record.sequence_number);
            if !filters.is_empty() && !filters.iter().any(|filter| filter.matches(&record)) {
                left_out.push(record.sequence_number);
                continue;
            }
            let lane = crc32c::crc32c(record.partition_key.as_bytes()) as usize % queues.len().max(1);
            // A lane that is gone has stopped, as this is about to.
            if let Some(queue) = queues.get(lane)
                && self.or_stop(queue.send(record)).await?.is_err()
            {
                return Err(Stopped::Asked);
            }
        }
        if !left_out.is_empty() {
            self.done(left_out, None).await?;
        }
        Ok(())
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes records for done, and commits how far the shard is, with a window's state if there is one. A commit that
    /// fails is made up for by the next.
    pub(super) async fn done(
        &self,
        records: impl IntoIterator<Item = SequenceNumber>,
        state: Option<Bytes>,
    ) -> Result<(), Stopped> {
        self.tracker().done(records);
        let mut committed = self.committed.lock().await;
        let checkpoint = self.tracker().checkpoint();
        if checkpoint <= *committed && state.is_none() {
            return Ok(());
        }
        match self.commit(checkpoint, state).await {
            Ok(()) => *committed = checkpoint,
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => {
                return Err(Stopped::Gone(error));
            }
            Err(error) => {
                tracing::warn!(%error, shard = %self.shard, "a checkpoint was not stored; the next one follows");
            }
        }
        Ok(())
    }

    async fn commit(&self, position: Option<SequenceNumber>, state: Option<Bytes>) -> Result<()> {
        let positions: BTreeMap<_, _> = position.map(|position| (self.shard, position)).into_iter().collect();
        self.stream.commit(&self.config.consumer(self.shard), positions, state).await
    }

    /// Commits that all of the shard is done.
    async fn commit_end(&self) -> Result<(), Stopped> {
        let mut waits = Waits::default();
        loop {
            let shards = self.stream.list_shards().map_err(Stopped::Gone)?;
            let ending = |shard: &Shard| shard.ending_sequence_number.filter(|_| shard.id == self.shard);
            let end = shards.iter().find_map(ending);
            match self.commit(end, self.config.tumbling_window.map(|_| Bytes::new())).await {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => {
                    return Err(Stopped::Gone(error));
                }
                Err(error) => {
                    tracing::warn!(%error, shard = %self.shard, "a shard's end was not stored; it is tried again");
                    self.wait(&mut waits).await?;
                }
            }
        }
    }

    /// The work's result, unless the mapping stops before.
    pub(super) async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => Err(Stopped::Asked),
            result = work => Ok(result),
        }
    }

    pub(super) async fn wait(&self, waits: &mut Waits) -> Result<(), Stopped> {
        self.or_stop(self.config.clock.sleep(waits.next())).await
    }
}

/// Waits between attempts: doubled each time.
#[derive(Debug, Default)]
pub(super) struct Waits {
    count: u32,
}

impl Waits {
    fn next(&mut self) -> Duration {
        let wait = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.count)).min(RETRY_MAX);
        self.count += 1;
        wait
    }
}
