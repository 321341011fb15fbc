//! The one task of a delivery stream: it owns all that changes, and everybody else sends it messages.
//!
//! Each turn it seals what is due, starts deliveries, answers whoever waits, and then waits for the first of: records
//! from the source, a delivered object, a command, the age of a buffer. The order within a turn keeps the promise: no
//! object is put before the commit that promised it is durable.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use durable_core::Clock;
use futures::future::{BoxFuture, OptionFuture};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::buffer::{BufferKey, Buffers, Push, read_budget};
use super::deliver::{Deliverer, Sealed};
use super::error_output::Failure;
use super::event::{DeliveryEvent, PartitionKeys};
use super::intake::{Intake, Recovered, Stages};
use super::ledger::{AHEAD_RUNS_MAX, Ledger};
use super::place;
use super::prefix::Prefixes;
use super::retry::Backoff;
use super::route::{Route, Routed};
use super::schema::SchemaSource;
use super::settings::DeliverySettings;
use super::source::{Progress, latest};
use crate::stream::{SequenceNumber, ShardId};
use crate::{Error, ErrorKind, Result};

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    /// Read to the tip, seal, deliver, commit.
    Flush(oneshot::Sender<Result<()>>),
    /// Seal and deliver what was read, commit, stop.
    Close(oneshot::Sender<Result<()>>),
}

struct Flush {
    epoch: u64,
    /// The last record of each shard when the flush was asked for.
    until: BTreeMap<ShardId, SequenceNumber>,
    /// Every shard was read that far, or to its tip since.
    read: bool,
    answer: oneshot::Sender<Result<()>>,
}

/// All that a delivery stream is made of.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) consumer: String,
    pub(super) settings: DeliverySettings,
    pub(super) prefixes: Prefixes,
    pub(super) zone: Tz,
    pub(super) schema: SchemaSource,
    pub(super) stages: Stages,
    pub(super) deliverer: Arc<Deliverer>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: StdRng,
    pub(super) ledger: Ledger,
    pub(super) progress: Progress,
    pub(super) buffers: Buffers,
    pub(super) queue: Queue,
    /// Whether the stream keeps records only until they are delivered.
    pub(super) releases: bool,
    /// The ledger knows of deliveries that the stream does not.
    pub(super) uncommitted: bool,
    /// Signatures of records that the inferred schema has all of.
    pub(super) covered: HashSet<u64>,
}

/// Sealed objects between their promise and the store.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Promised before a restart, not read again yet.
    recovery: VecDeque<u64>,
    waiting: VecDeque<Sealed>,
    running: JoinSet<(u64, Result<()>)>,
    held: BTreeMap<u64, Held>,
    bytes: usize,
}

/// What an undelivered object holds on to.
#[derive(Debug)]
struct Held {
    bytes: usize,
    partition: PartitionKeys,
    oldest: DateTime<Utc>,
}

impl Queue {
    pub(super) fn new(recovery: impl IntoIterator<Item = u64>) -> Self {
        Self { recovery: recovery.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn push(&mut self, sealed: Sealed) {
        let (bytes, oldest) = (sealed.buffer.bytes(), sealed.buffer.oldest());
        self.bytes += bytes;
        self.held.insert(sealed.number, Held { bytes, partition: sealed.object.partition.clone(), oldest });
        self.waiting.push_back(sealed);
    }

    fn is_empty(&self) -> bool {
        self.recovery.is_empty() && self.held.is_empty()
    }

    fn forget(&mut self, number: u64) {
        if let Some(held) = self.held.remove(&number) {
            self.bytes -= held.bytes;
        }
    }
}

impl Worker {
    /// Works until it is closed, its handles are gone, or it fails. `stopped` hears why, before anybody who waits does.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, stopped: impl FnOnce(Option<Error>)) {
        let mut flushes = Vec::new();
        let mut closing = Vec::new();
        let outcome = self.work(&mut commands, &mut flushes, &mut closing).await;
        self.queue.running.shutdown().await;
        let failure = outcome.err();
        stopped(failure.as_ref().map(duplicate));
        for answer in flushes.into_iter().map(|flush| flush.answer).chain(closing) {
            // Who no longer waits needs no answer.
            let _ = answer.send(failure.as_ref().map_or(Ok(()), |error| Err(duplicate(error))));
        }
    }

    async fn work(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        flushes: &mut Vec<Flush>,
        closing: &mut Vec<oneshot::Sender<Result<()>>>,
    ) -> Result<()> {
        let (drain, _) = watch::channel(0u64);
        let mut intake: Option<BoxFuture<'static, Result<Intake>>> = None;
        let mut timer: Option<(Duration, BoxFuture<'static, ()>)> = None;
        let mut failing = FailingReads::default();
        self.announce_recovery().await;
        loop {
            let draining = !closing.is_empty() || flushes.iter().any(|flush| flush.read);
            self.seal_due(draining).await?;
            self.start_deliveries();
            let idle = self.buffers.is_empty() && self.queue.is_empty();
            if (draining && idle) || (self.uncommitted && self.queue.is_empty()) {
                self.commit().await?;
            }
            if draining && idle {
                for flush in flushes.extract_if(.., |flush| flush.read) {
                    let _ = flush.answer.send(Ok(()));
                }
                if !closing.is_empty() {
                    return Ok(());
                }
                continue;
            }
            self.measure();
            if intake.is_none() && failing.until.is_none() {
                intake = self.begin_intake(draining, flushes, &drain);
            }
            self.set_timer(&mut timer);
            tokio::select! {
                came = OptionFuture::from(intake.as_mut()), if intake.is_some() => {
                    intake = None;
                    match came {
                        Some(Ok(came)) => {
                            failing = FailingReads::default();
                            self.take_in(came, flushes).await?;
                        }
                        Some(Err(error)) => failing.again(error, &self.clock, self.settings.retry_duration())?,
                        None => {}
                    }
                }
                () = failing.wait() => failing.until = None,
                Some(done) = self.queue.running.join_next(), if !self.queue.running.is_empty() => {
                    self.finish_delivery(done)?;
                }
                command = commands.recv() => match command {
                    None => return Ok(()),
                    Some(Command::Flush(answer)) => {
                        drain.send_modify(|epoch| *epoch += 1);
                        let epoch = *drain.borrow();
                        match latest(&self.stages.stream).await {
                            Ok(until) => flushes.push(Flush { epoch, until, read: false, answer }),
                            // Who no longer waits needs no answer.
                            Err(error) => drop(answer.send(Err(error))),
                        }
                    }
                    Some(Command::Close(answer)) => {
                        // What is being read counts as not read: the stream keeps it.
                        intake = None;
                        closing.push(answer);
                    }
                },
                Some(()) = OptionFuture::from(timer.as_mut().map(|(_, timer)| timer)), if timer.is_some() => {
                    timer = None;
                }
            }
        }
    }

    async fn announce_recovery(&self) {
        let objects = self.queue.recovery.len();
        if objects > 0 {
            tracing::info!(name = self.name, objects, "delivering what was sealed before the restart");
            self.deliverer.announcer.announce(DeliveryEvent::Recovering { objects }).await;
        }
    }

    /// Seals whatever must not wait any longer, or everything when draining, as far as there is room for promises.
    async fn seal_due(&mut self, draining: bool) -> Result<()> {
        while self.ledger.has_room() {
            let mut due = if draining {
                self.buffers.all()
            } else {
                let (bytes, interval) = (self.settings.buffer_bytes(), self.settings.buffer_interval());
                self.buffers.due(bytes, interval, self.clock.monotonic())
            };
            if due.is_empty() {
                due = self.buffers.largest_above(self.settings.memory_bytes() / 2);
            }
            if due.is_empty() && self.ledger.runs_ahead() > AHEAD_RUNS_MAX {
                due.extend(self.buffers.eldest());
            }
            if due.is_empty() {
                return Ok(());
            }
            self.seal(due).await?;
        }
        Ok(())
    }

    fn start_deliveries(&mut self) {
        while self.queue.running.len() < self.settings.deliveries()
            && let Some(sealed) = self.queue.waiting.pop_front()
        {
            let deliverer = Arc::clone(&self.deliverer);
            let number = sealed.number;
            let span = tracing::debug_span!("delivery", stream = self.name, number, path = sealed.object.path);
            let delivering = async move { (number, deliverer.deliver(sealed).await) };
            self.queue.running.spawn(delivering.instrument(span));
        }
    }

    fn finish_delivery(&mut self, done: Result<(u64, Result<()>), tokio::task::JoinError>) -> Result<()> {
        let (number, outcome) = done.map_err(|error| {
            Error::new(ErrorKind::Internal, "delivering an object panicked; open the delivery stream again")
                .with_source(error)
        })?;
        outcome?;
        self.queue.forget(number);
        self.ledger.delivered(number);
        self.uncommitted = true;
        Ok(())
    }

    /// Begins to read, unless memory is full or what was read must be delivered first. Promises of before a restart
    /// come first.
    fn begin_intake(
        &mut self,
        draining: bool,
        flushes: &[Flush],
        drain: &watch::Sender<u64>,
    ) -> Option<BoxFuture<'static, Result<Intake>>> {
        let seed = self.rng.random();
        if !self.queue.recovery.is_empty() {
            return self.begin_recovery(seed);
        }
        let room = self.settings.memory_bytes().saturating_sub(self.buffers.bytes() + self.queue.bytes);
        if draining || room == 0 || !self.ledger.has_room() {
            return None;
        }
        let (epoch, progress) = (*drain.borrow(), self.progress.clone());
        let (budget, wait) = (read_budget(room), flushes.is_empty());
        Some(Box::pin(self.stages.clone().next(progress, budget, wait, epoch, drain.subscribe(), seed)))
    }

    fn begin_recovery(&mut self, seed: u64) -> Option<BoxFuture<'static, Result<Intake>>> {
        let mut bytes = self.queue.bytes;
        let mut objects = Vec::new();
        for number in &self.queue.recovery {
            let Some(object) = self.ledger.sealed().get(number) else { continue };
            bytes = bytes.saturating_add(usize::try_from(object.bytes).unwrap_or(usize::MAX));
            let fits = bytes <= self.settings.memory_bytes();
            if !fits && (!objects.is_empty() || !self.queue.held.is_empty()) {
                break;
            }
            objects.push((*number, object.clone()));
        }
        if objects.is_empty() { None } else { Some(Box::pin(self.stages.clone().recover(objects, seed))) }
    }

    async fn take_in(&mut self, came: Intake, flushes: &mut [Flush]) -> Result<()> {
        match came {
            Intake::Records(records) => {
                self.admit(records)?;
                // The tip may be out of reach, with a producer that is faster than this.
                for flush in flushes.iter_mut() {
                    flush.read |= flush.until.iter().all(|(shard, last)| self.progress.has_passed(*shard, *last));
                }
            }
            Intake::Recovered(recovered) => self.take_recovered(recovered).await,
            Intake::Tip(epoch) => {
                for flush in flushes.iter_mut().filter(|flush| flush.epoch <= epoch) {
                    flush.read = true;
                }
            }
            Intake::Finished(shard) => self.progress.finish(shard),
            Intake::Expired(shard) => {
                self.progress.expire(shard);
                self.announce_expired(shard).await;
            }
            Intake::Woken => {}
        }
        Ok(())
    }

    async fn take_recovered(&mut self, recovered: Recovered) {
        for (number, object, buffer) in recovered.objects {
            self.queue.recovery.retain(|waiting| *waiting != number);
            let schema = object.schema.and_then(|schema| self.ledger.schema_of(schema));
            self.queue.push(Sealed { number, object, buffer, schema, seed: self.rng.random() });
        }
        for shard in recovered.expired {
            self.announce_expired(shard).await;
        }
    }

    async fn announce_expired(&self, shard: ShardId) {
        tracing::error!(name = self.name, %shard, "retention took records before they were delivered");
        self.deliverer.metrics.lock().expired_reads += 1;
        self.deliverer.announcer.announce(DeliveryEvent::Expired { shard }).await;
    }

    /// Puts records into their buffers, except those that are in a sealed object already.
    fn admit(&mut self, records: Vec<Routed>) -> Result<()> {
        let now = self.clock.monotonic();
        let (mut read, mut bytes, mut dropped) = (0, 0, 0);
        let mut previous = None;
        let backs_up = self.settings.source_backup().is_some();
        for Routed { record, part, data, route, signature } in records {
            let number = record.sequence_number;
            place::check(number.index())?;
            if part.number == 0 {
                previous = self.progress.read(number.shard());
                self.progress.advance(number);
                read += 1;
            }
            bytes += record.data.len() as u64;
            let (first, last) = (part.first(number.index()), part.last(number.index()));
            if self.ledger.ahead.get(&number.shard()).is_some_and(|ahead| ahead.contains(first, last)) {
                continue;
            }
            let (key, data, failure) = match self.within_limit(route) {
                Route::Dropped => {
                    dropped += 1;
                    if !backs_up {
                        continue;
                    }
                    (BufferKey::Dropped, &record.data, None)
                }
                Route::Partition(keys) => (BufferKey::Partition(keys), &data, None),
                Route::Failed(failure) => (BufferKey::Failed(failure.output), &record.data, Some(failure)),
            };
            let source = (backs_up && *data != record.data).then_some(record.data.as_ref());
            let push =
                Push { sequence_number: number, part, arrival: record.arrival, data, source, previous, signature };
            self.buffers.push(key, now, push, failure);
        }
        let mut metrics = self.deliverer.metrics.lock();
        metrics.read_records += read;
        metrics.read_bytes += bytes;
        metrics.dropped_records += dropped;
        Ok(())
    }

    /// Fails a record that would open one partition too many.
    fn within_limit(&self, route: Route) -> Route {
        let Route::Partition(keys) = &route else { return route };
        let most = self.settings.active_partitions_max();
        if keys.is_empty() || self.buffers.contains(&BufferKey::Partition(keys.clone())) {
            return route;
        }
        let under_way = self.queue.held.values().any(|held| held.partition == *keys);
        if under_way || self.active_partitions() < most {
            route
        } else {
            Route::Failed(Failure::active_partitions(most))
        }
    }

    /// Partitions that are buffered or under way.
    fn active_partitions(&self) -> usize {
        let under_way = self.queue.held.values().map(|held| &held.partition).filter(|keys| !keys.is_empty());
        let active: std::collections::BTreeSet<_> = self.buffers.partitions().chain(under_way).collect();
        active.len()
    }

    fn measure(&self) {
        let oldest = self.queue.held.values().map(|held| held.oldest).chain(self.buffers.oldest()).min();
        let age = oldest.and_then(|oldest| (self.clock.now() - oldest).to_std().ok());
        let active_partitions = self.active_partitions();
        let mut metrics = self.deliverer.metrics.lock();
        metrics.active_partitions = active_partitions;
        metrics.buffered_bytes = self.buffers.bytes();
        metrics.undelivered_bytes = self.queue.bytes;
        metrics.undelivered_objects = self.ledger.sealed().len();
        metrics.freshness = age.unwrap_or_default();
    }

    /// Wakes when the first buffer becomes old enough, if it may be sealed then.
    fn set_timer(&self, timer: &mut Option<(Duration, BoxFuture<'static, ()>)>) {
        let due = self.buffers.next_due(self.settings.buffer_interval()).filter(|_| self.ledger.has_room());
        if timer.as_ref().map(|(at, _)| *at) != due {
            *timer = due.map(|at| (at, self.clock.sleep(at.saturating_sub(self.clock.monotonic()))));
        }
    }
}

/// Reads of the source that failed in a row.
#[derive(Default)]
struct FailingReads {
    since: Option<Duration>,
    backoff: Option<Backoff>,
    until: Option<BoxFuture<'static, ()>>,
}

impl FailingReads {
    /// Waits for another try, unless trying is pointless or has gone on for too long.
    fn again(&mut self, error: Error, clock: &Arc<dyn Clock>, duration: Duration) -> Result<()> {
        let now = clock.monotonic();
        let since = *self.since.get_or_insert(now);
        if !error.is_retryable() || now.saturating_sub(since) > duration {
            return Err(error);
        }
        tracing::warn!(error = ?error, "reading the source failed");
        let backoff = self.backoff.get_or_insert_with(|| Backoff::new(rand::rng().random()));
        self.until = Some(clock.sleep(backoff.next_wait()));
        Ok(())
    }

    /// Resolves when the next try is due; never without one.
    async fn wait(&mut self) {
        match &mut self.until {
            Some(until) => until.await,
            None => std::future::pending().await,
        }
    }
}

/// The same error for another waiter; causes are folded into the message.
pub(super) fn duplicate(error: &Error) -> Error {
    let text = format!("{error:?}");
    let prefix = format!("{}: ", error.kind());
    Error::new(error.kind(), text.strip_prefix(&prefix).unwrap_or(&text))
}
