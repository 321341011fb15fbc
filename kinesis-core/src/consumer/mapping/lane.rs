//! One lane of a shard: batch after batch, each until it is done or given up.
//!
//! Invariant: a batch is called, or given up, before the next one is gathered.

use std::collections::VecDeque;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use tokio::sync::mpsc;

use super::failure::{Condition, FailedBatch};
use super::function::{Function, FunctionError, KinesisEvent, Response, TumblingWindow};
use super::outcome::{Decision, Outcome, decide};
use super::shard::{ShardWork, Stopped, Waits};
use super::window::Saved;
use crate::read::Record;
use crate::stream::SequenceNumber;

/// Lambda's bound of a call's input, counted as its JSON has it.
const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;
/// What a record has in that JSON besides its data.
const RECORD_OVERHEAD_BYTES: usize = 512;
/// A window whose state is larger ends early.
const STATE_BYTES_MAX: usize = 1024 * 1024;

pub(super) struct Lane<F> {
    work: Arc<ShardWork<F>>,
    records: mpsc::Receiver<Record>,
    /// Taken from the queue, for the next batch.
    stash: Option<Record>,
    window: Option<Saved>,
}

/// What to do next.
enum Next {
    Batch(Vec<Record>),
    WindowOver,
    End,
}

impl<F: Function> Lane<F> {
    pub(super) fn new(work: Arc<ShardWork<F>>, records: mpsc::Receiver<Record>, window: Option<Saved>) -> Self {
        Self { work, records, stash: None, window }
    }

    pub(super) async fn run(mut self) -> Result<(), Stopped> {
        loop {
            match self.gather().await? {
                Next::Batch(batch) => self.process(batch).await?,
                Next::WindowOver => self.close_window(false).await?,
                Next::End => {
                    // Else the mapping stops, and the window goes on when it starts again.
                    if self.window.is_some() && self.work.is_read.load(Ordering::Relaxed) {
                        self.close_window(false).await?;
                    }
                    return Ok(());
                }
            }
        }
    }

    async fn gather(&mut self) -> Result<Next, Stopped> {
        let work = Arc::clone(&self.work);
        let first = match self.stash.take() {
            Some(first) => Some(first),
            None => {
                let (records, window) = (&mut self.records, self.window.as_ref());
                let first = async {
                    tokio::select! {
                        biased;
                        first = records.recv() => Some(first),
                        () = over(&work, window) => None,
                    }
                };
                match work.or_stop(first).await? {
                    Some(first) => first,
                    None => return Ok(Next::WindowOver),
                }
            }
        };
        let Some(first) = first else { return Ok(Next::End) };
        if let Some(size) = work.config.tumbling_window {
            let start_ms = Saved::start_of(first.arrival, size);
            match &self.window {
                Some(open) if start_ms > open.start_ms => {
                    self.stash = Some(first);
                    return Ok(Next::WindowOver);
                }
                Some(_) => {}
                None => self.window = Some(Saved { start_ms, state: Bytes::new() }),
            }
        }
        self.fill(first).await.map(Next::Batch)
    }

    /// Fills a batch until it is full or its time is over.
    async fn fill(&mut self, first: Record) -> Result<Vec<Record>, Stopped> {
        let work = Arc::clone(&self.work);
        let mut over = match work.config.batching_window.is_zero() {
            true => async {}.boxed(),
            false => work.config.clock.sleep(work.config.batching_window),
        };
        let mut bytes = payload_bytes(&first);
        let mut batch = vec![first];
        while batch.len() < work.config.batch_size {
            let next = async {
                tokio::select! {
                    biased;
                    next = self.records.recv() => next,
                    () = &mut over => None,
                }
            };
            let Some(next) = work.or_stop(next).await? else { break };
            bytes += payload_bytes(&next);
            let is_later = match (&self.window, work.config.tumbling_window) {
                (Some(window), Some(size)) => Saved::start_of(next.arrival, size) > window.start_ms,
                _ => false,
            };
            if is_later || bytes > PAYLOAD_BYTES_MAX {
                self.stash = Some(next);
                break;
            }
            batch.push(next);
        }
        Ok(batch)
    }

    async fn process(&mut self, batch: Vec<Record>) -> Result<(), Stopped> {
        let mut waits = Waits::default();
        let mut pieces = VecDeque::from([(batch, 0)]);
        while let Some((mut records, retries)) = pieces.pop_front() {
            self.give_up_old(&mut records, retries).await?;
            if records.is_empty() {
                continue;
            }
            let called = self.call(records.clone(), false, false).await?;
            let numbers: Vec<SequenceNumber> = records.iter().map(|record| record.sequence_number).collect();
            let (outcome, state) = match called {
                Ok(response) => {
                    let (failures, state) = response.into_parts();
                    (Outcome::Returned(failures), Some(state))
                }
                Err(error) => {
                    tracing::warn!(%error, shard = %self.work.shard, records = records.len(), retries, "a batch failed");
                    (Outcome::Failed, None)
                }
            };
            let Decision { done, again, given_up } = decide(&numbers, retries, &outcome, self.work.config.policy);
            let is_whole = done == records.len();
            if done > 0 {
                self.keep_state(state).await?;
                let saved = self.saved();
                self.work.done(numbers.iter().take(done).copied(), saved).await?;
            }
            if !given_up.is_empty() {
                let lost = records.get(given_up).unwrap_or_default().to_vec();
                self.give_up(lost, Condition::RetryAttemptsExhausted, retries + 1).await?;
            }
            for (range, retries) in again.into_iter().rev() {
                pieces.push_front((records.get(range).unwrap_or_default().to_vec(), retries));
            }
            if is_whole {
                waits = Waits::default();
            } else if !pieces.is_empty() {
                self.work.wait(&mut waits).await?;
            }
        }
        Ok(())
    }

    /// Gives up the records at the front that are older than they may be.
    async fn give_up_old(&self, records: &mut Vec<Record>, retries: u32) -> Result<(), Stopped> {
        let Some(max) = self.work.config.record_age_max else { return Ok(()) };
        let now = self.work.config.clock.now();
        let is_old = |record: &Record| (now - record.arrival).to_std().is_ok_and(|age| age > max);
        let old = records.iter().take_while(|record| is_old(record)).count();
        if old > 0 {
            let lost = records.drain(..old).collect();
            self.give_up(lost, Condition::RecordAgeExceeded, retries).await?;
        }
        Ok(())
    }

    async fn give_up(&self, records: Vec<Record>, condition: Condition, calls: u32) -> Result<(), Stopped> {
        let config = &self.work.config;
        let numbers: Vec<SequenceNumber> = records.iter().map(|record| record.sequence_number).collect();
        tracing::warn!(shard = %self.work.shard, records = records.len(), ?condition, "a batch is given up");
        if let Some(on_failure) = &config.on_failure {
            let failed = FailedBatch {
                mapping: config.name.clone(),
                stream: self.work.stream.name().clone(),
                shard: self.work.shard,
                records,
                condition,
                approximate_invoke_count: calls,
                timestamp: config.clock.now(),
            };
            let mut waits = Waits::default();
            while let Err(error) = self.work.or_stop(on_failure.deliver(failed.clone())).await? {
                tracing::warn!(%error, shard = %self.work.shard, "a failed batch was not delivered; it is tried again");
                self.work.wait(&mut waits).await?;
            }
        }
        self.work.done(numbers, self.saved()).await
    }

    /// Calls the function; a panic is an error.
    async fn call(
        &self,
        records: Vec<Record>,
        is_final_invoke: bool,
        is_terminated_early: bool,
    ) -> Result<Result<Response, FunctionError>, Stopped> {
        let moment = |ms: i64| DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let window = self.window.as_ref().zip(self.work.config.tumbling_window).map(|(window, size)| TumblingWindow {
            start: moment(window.start_ms),
            end: moment(window.end_ms(size)),
            state: window.state.clone(),
            is_final_invoke,
            is_terminated_early,
        });
        let event = KinesisEvent { stream: self.work.stream.name().clone(), shard: self.work.shard, records, window };
        // A call under way is let finish: what it did would otherwise come again for nothing.
        let called = AssertUnwindSafe(self.work.function.invoke(event)).catch_unwind().await;
        Ok(called.unwrap_or_else(|_| Err("the function panicked".into())))
    }

    /// Takes a call's state up; one that is too large ends the window.
    async fn keep_state(&mut self, state: Option<Bytes>) -> Result<(), Stopped> {
        let (Some(window), Some(state)) = (&mut self.window, state) else { return Ok(()) };
        window.state = state;
        if window.state.len() > STATE_BYTES_MAX {
            let start_ms = window.start_ms;
            self.close_window(true).await?;
            // What is left of it goes on with nothing.
            self.window = Some(Saved { start_ms, state: Bytes::new() });
        }
        Ok(())
    }

    /// Makes the window's last call, and forgets it.
    async fn close_window(&mut self, is_terminated_early: bool) -> Result<(), Stopped> {
        let mut waits = Waits::default();
        let mut retries = 0;
        while let Err(error) = self.call(Vec::new(), true, is_terminated_early).await? {
            tracing::warn!(%error, shard = %self.work.shard, retries, "the last call of a window failed");
            if self.work.config.policy.retries_max.is_some_and(|max| retries >= max) {
                break;
            }
            retries += 1;
            self.work.wait(&mut waits).await?;
        }
        self.window = None;
        self.work.done([], self.saved()).await
    }

    /// The window as it is committed, if there are windows.
    fn saved(&self) -> Option<Bytes> {
        self.work.config.tumbling_window.map(|_| Saved::encode(self.window.as_ref()))
    }
}

/// Resolves once the window's time is over and no record of it can be on its way.
async fn over<F: Function>(work: &ShardWork<F>, window: Option<&Saved>) {
    let (Some(window), Some(size)) = (window, work.config.tumbling_window) else { return pending().await };
    let mut at_tip = work.at_tip.subscribe();
    loop {
        let left = window.end_ms(size).saturating_sub(work.config.clock.now().timestamp_millis());
        if left <= 0 {
            let _ = at_tip.wait_for(|at_tip| *at_tip).await;
            return;
        }
        work.config.clock.sleep(std::time::Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
    }
}

fn payload_bytes(record: &Record) -> usize {
    record.data.len().div_ceil(3) * 4 + record.partition_key.len() + RECORD_OVERHEAD_BYTES
}
