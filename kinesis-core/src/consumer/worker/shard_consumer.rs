//! One shard in one worker's hands: records go to its processor until the shard ends or the lease goes.
//!
//! Invariant: a processor's calls never overlap, and no record is passed over: what fails is tried again.

use std::sync::Arc;
use std::time::Duration;

use durable_core::{Clock, ErrorKind};
use futures::StreamExt;
use tokio::sync::watch;

use super::checkpointer::{Checkpointer, Owned};
use super::lease::Checkpoint;
use super::liveness::Life;
use super::processor::{ProcessRecords, ProcessorError, RecordProcessor};
use crate::aggregation::UserRecord;
use crate::error::{Error, Result};
use crate::read::{IteratorType, SubscribeToShardEvent};
use crate::stream::{DataStream, ShardId};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What a shard's consumer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    /// Give the lease away, to this worker if it is known.
    HandOver(Option<String>),
    /// It is in other hands already.
    Lost,
}

/// Why a consumer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of the shard was processed.
    Done,
    /// The lease was given away or lost.
    Gone,
}

pub(super) struct ShardConsumer<P> {
    pub(super) hands: Hands,
    pub(super) records_max: usize,
    pub(super) processor: P,
}

/// A shard in a worker's hands.
pub(super) struct Hands {
    pub(super) stream: DataStream,
    pub(super) shard: ShardId,
    pub(super) owned: Arc<Owned>,
    pub(super) life: Arc<Life>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) orders: watch::Receiver<Order>,
}

/// What ends the work on a shard early.
enum Stop {
    Order(Order),
    /// The stream or its instance is gone.
    Stream(Error),
}

impl<P: RecordProcessor> ShardConsumer<P> {
    pub(super) async fn run(mut self) -> Ended {
        let stop = match self.process().await {
            Ok(()) => return Ended::Done,
            Err(stop) => stop,
        };
        let checkpointer = Checkpointer::new(self.hands.owned.clone());
        match stop {
            Stop::Order(Order::HandOver(to)) => {
                if let Err(error) = self.processor.shutdown_requested(&checkpointer).await {
                    tracing::warn!(%error, shard = %self.hands.shard, "a processor did not shut down well");
                }
                if let Err(error) = self.hands.owned.hand_over(to).await {
                    tracing::warn!(%error, shard = %self.hands.shard, "a lease was not handed over; it runs out");
                }
            }
            Stop::Order(_) => {
                tracing::info!(shard = %self.hands.shard, "the lease is lost");
                self.processor.lease_lost().await;
            }
            Stop::Stream(error) => {
                tracing::info!(%error, shard = %self.hands.shard, "the shard can be read no more");
                self.processor.lease_lost().await;
            }
        }
        Ended::Gone
    }

    async fn process(&mut self) -> Result<(), Stop> {
        let from = self.hands.owned.checkpoint();
        let mut waits = Waits::default();
        while let Err(error) = self.processor.initialize(self.hands.shard, from).await {
            self.hands.retry(&mut waits, "initialize", &error).await?;
        }
        // None: all records were processed, but not the end.
        let mut place = from.iterator();
        let mut done = from;
        while let Some(from) = place {
            place = self.read(from, &mut done).await?;
        }
        self.end().await
    }

    /// Reads from a place on to the shard's end, or to where reading has to begin again.
    async fn read(&mut self, from: IteratorType, done: &mut Checkpoint) -> Result<Option<IteratorType>, Stop> {
        let mut events = self.hands.stream.subscribe(self.hands.shard, from);
        let mut waits = Waits::default();
        loop {
            let mut orders = self.hands.orders.clone();
            let event = tokio::select! {
                biased;
                order = ordered(&mut orders) => return Err(Stop::Order(order)),
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => {
                    let is_last = event.continuation_sequence_number.is_none();
                    self.give(&event, done).await?;
                    if is_last {
                        return Ok(None);
                    }
                }
                // The end of a shard is told by an event; a subscription that ends without one is begun anew.
                None => return Ok(done.iterator()),
                Some(Err(error)) => match error.kind() {
                    ErrorKind::Expired => {
                        tracing::warn!(shard = %self.hands.shard, "retention has removed records that were not processed");
                        return Ok(Some(IteratorType::TrimHorizon));
                    }
                    ErrorKind::Closed | ErrorKind::NotFound => return Err(Stop::Stream(error)),
                    _ => {
                        self.hands.retry(&mut waits, "read", &error).await?;
                        return Ok(done.iterator());
                    }
                },
            }
        }
    }

    /// Has all records of an event processed, in parts of at most so many.
    async fn give(&mut self, event: &SubscribeToShardEvent, done: &mut Checkpoint) -> Result<(), Stop> {
        let records: Vec<UserRecord> = event
            .records
            .iter()
            .flat_map(crate::Record::user_records)
            // A checkpoint within a record: what it had before that is done.
            .filter(|user| position(user, false) > *done)
            .collect();
        let parts = records.chunks(self.records_max);
        let next_parts = parts.clone().skip(1).map(Some).chain([None]);
        for (part, next_part) in parts.zip(next_parts) {
            let Some(last) = part.last() else { continue };
            // The last part has all user records of its last record.
            let through = position(last, next_part.is_none() || !last.is_aggregated);
            let behind_latest = match next_part.and_then(<[UserRecord]>::first) {
                Some(next) => (self.hands.clock.now() - next.record.arrival).to_std().unwrap_or_default(),
                None => event.behind_latest,
            };
            let mut waits = Waits::default();
            loop {
                self.hands.check()?;
                self.hands.owned.give(through);
                let input = ProcessRecords { shard: self.hands.shard, records: part, behind_latest };
                let checkpointer = Checkpointer::new(self.hands.owned.clone());
                match self.processor.process_records(input, &checkpointer).await {
                    Ok(()) => break,
                    Err(error) => self.hands.retry(&mut waits, "process_records", &error).await?,
                }
            }
            *done = through;
            tracing::debug!(
                target: "kinesis_core::worker",
                shard = %self.hands.shard,
                records = part.len(),
                millis_behind_latest = u64::try_from(behind_latest.as_millis()).unwrap_or(u64::MAX),
                "processed"
            );
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Stop> {
        let checkpointer = Checkpointer::new(self.hands.owned.clone());
        let mut waits = Waits::default();
        loop {
            self.hands.check()?;
            self.hands.owned.give(Checkpoint::ShardEnd);
            match self.processor.shard_ended(&checkpointer).await {
                Ok(()) if self.hands.owned.checkpoint() == Checkpoint::ShardEnd => return Ok(()),
                Ok(()) => {
                    let error = Error::invalid("shard_ended must checkpoint, or the shards that follow never begin");
                    self.hands.retry(&mut waits, "shard_ended", &error).await?;
                }
                Err(error) => self.hands.retry(&mut waits, "shard_ended", &error).await?,
            }
        }
    }
}

impl Hands {
    /// Whether the work may go on.
    fn check(&self) -> Result<(), Stop> {
        let order = self.orders.borrow().clone();
        match order {
            // Without its sender the worker is gone.
            Order::GoOn if self.owned.is_lost() || !self.life.holds() || self.orders.has_changed().is_err() => {
                Err(Stop::Order(Order::Lost))
            }
            Order::GoOn => Ok(()),
            order => Err(Stop::Order(order)),
        }
    }

    async fn retry<E: std::fmt::Display + ?Sized>(&self, waits: &mut Waits, what: &str, error: &E) -> Result<(), Stop> {
        self.check()?;
        tracing::warn!(%error, shard = %self.shard, call = what, "failed; it is tried again");
        let mut orders = self.orders.clone();
        tokio::select! {
            biased;
            order = ordered(&mut orders) => Err(Stop::Order(order)),
            () = self.clock.sleep(waits.next()) => self.check(),
        }
    }
}

/// Where a user record stands: behind it, or behind all of its record.
fn position(user: &UserRecord, whole: bool) -> Checkpoint {
    let sequence_number = user.record.sequence_number;
    match whole {
        true => Checkpoint::after(sequence_number),
        false => Checkpoint::After { sequence_number, sub_sequence_number: user.sub_sequence_number },
    }
}

/// Resolves once there is an order other than to go on.
async fn ordered(orders: &mut watch::Receiver<Order>) -> Order {
    match orders.wait_for(|order| *order != Order::GoOn).await {
        Ok(order) => order.clone(),
        // The worker is gone without a word.
        Err(_) => Order::Lost,
    }
}

/// Waits between attempts: doubled each time.
#[derive(Debug, Default)]
struct Waits {
    count: u32,
}

impl Waits {
    fn next(&mut self) -> Duration {
        let wait = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.count)).min(RETRY_MAX);
        self.count += 1;
        wait
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<ProcessorError>();
};
