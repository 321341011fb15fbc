//! One worker's part in sharing out the leases: each turn it looks at them all, makes missing ones, takes and hands over.
//!
//! Invariant: a shard has one consumer in a worker at most, and only while the worker holds its lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_core::ErrorKind;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::Config;
use super::balance::{Move, View, moves};
use super::checkpointer::Owned;
use super::lease::{Checkpoint, Lease};
use super::liveness::{Life, Others};
use super::processor::RecordProcessor;
use super::shard_consumer::{Ended, Hands, Order, ShardConsumer};
use super::sync::{missing, outlived};
use super::table::{LeaseTable, Versioned};
use crate::error::Result;
use crate::stream::{DataStream, ShardId};

pub(super) struct Coordinator<F> {
    pub(super) stream: DataStream,
    pub(super) config: Config,
    pub(super) factory: F,
    pub(super) table: LeaseTable,
    pub(super) others: Others,
    pub(super) life: Arc<Life>,
    pub(super) running: BTreeMap<ShardId, Running>,
    /// The epochs that began with a commit of ours: others of our name may have been another process.
    pub(super) claimed: BTreeMap<ShardId, u64>,
    /// Handovers that we asked for: of which epoch, and since when.
    pub(super) asked: BTreeMap<ShardId, (u64, Duration)>,
    /// Woken when a consumer ended.
    pub(super) turn: Arc<Notify>,
}

/// A consumer at work.
pub(super) struct Running {
    owned: Arc<Owned>,
    orders: watch::Sender<Order>,
    task: JoinHandle<Ended>,
}

impl<P, F> Coordinator<F>
where
    P: RecordProcessor,
    F: Fn(ShardId) -> P + Send + Sync,
{
    /// Works until `stopping` says so; then gives all leases back.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            match self.turn().await {
                Ok(()) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => {
                    tracing::info!(%error, worker = self.config.worker_id, "a worker stops: its stream can be read no more");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, worker = self.config.worker_id, "a worker's turn failed; the next one follows");
                }
            }
            let clock = self.config.clock.clone();
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => {}
                () = clock.sleep(self.config.lease_duration / 3) => {}
                () = self.turn.notified() => {}
            }
        }
        for running in self.running.values() {
            running.orders.send_replace(Order::HandOver(None));
        }
        for (shard, running) in std::mem::take(&mut self.running) {
            if let Err(error) = running.task.await {
                tracing::warn!(%error, %shard, "a processor did not end well");
            }
        }
        if let Err(error) = self.others.forget(&self.config.worker_id).await {
            tracing::debug!(%error, "a worker's sign of life was not deleted");
        }
    }

    async fn turn(&mut self) -> Result<()> {
        self.reap().await;
        let mut leases = self.table.leases().await?;
        self.sync(&mut leases).await?;
        let mut alive = self.others.alive().await?;
        // Our own sign may be too fresh to be listed.
        alive.insert(self.config.worker_id.clone());
        self.obey(&leases);
        if !self.life.holds() {
            return Ok(());
        }
        let plain: BTreeMap<ShardId, Lease> =
            leases.iter().map(|(shard, (_, lease))| (*shard, lease.clone())).collect();
        let view = View {
            me: &self.config.worker_id,
            leases: &plain,
            alive: &alive,
            leases_max: self.config.leases_max,
            steals_max: self.config.steals_max,
        };
        let mut moves = moves(&view);
        moves.extend(self.overdue(&plain));
        let unclaimed = plain.values().filter(|lease| {
            self.is_ours(lease) && !lease.is_done() && self.claimed.get(&lease.shard) != Some(&lease.epoch)
        });
        moves.extend(unclaimed.map(|lease| Move::Take(lease.shard)));
        for one in moves {
            self.make(one, &mut leases).await?;
        }
        self.start(&leases);
        Ok(())
    }

    /// Takes up what consumers ended with.
    async fn reap(&mut self) {
        let ended: Vec<ShardId> =
            self.running.iter().filter(|(_, running)| running.task.is_finished()).map(|(shard, _)| *shard).collect();
        for shard in ended {
            let Some(running) = self.running.remove(&shard) else { continue };
            if let Err(error) = running.task.await {
                tracing::error!(%error, %shard, "a processor panicked; another one goes on behind its last checkpoint");
            }
        }
    }

    /// Makes the leases that shards lack, and deletes those of shards that are gone.
    async fn sync(&self, leases: &mut BTreeMap<ShardId, Versioned>) -> Result<()> {
        let shards = self.stream.list_shards()?;
        let plain: BTreeMap<ShardId, Lease> =
            leases.iter().map(|(shard, (_, lease))| (*shard, lease.clone())).collect();
        let newest = |shard| match self.stream.engine().newest_number(self.stream.state(), shard) {
            Ok(number) => Checkpoint::after(number),
            Err(_) => Checkpoint::TrimHorizon,
        };
        for lease in missing(&shards, &plain, self.config.initial_position, newest) {
            let shard = lease.shard;
            match self.table.commit(0, &lease).await? {
                Some(number) => drop(leases.insert(shard, (number, lease))),
                None => leases.extend(self.table.read(shard).await?.map(|found| (shard, found))),
            }
        }
        for shard in outlived(&shards, &plain) {
            self.table.remove(shard).await?;
            leases.remove(&shard);
        }
        Ok(())
    }

    /// Tells consumers what became of their leases.
    fn obey(&self, leases: &BTreeMap<ShardId, Versioned>) {
        for (shard, running) in &self.running {
            let lease = leases.get(shard).map(|(_, lease)| lease);
            let ours = lease.filter(|lease| self.is_ours(lease) && lease.epoch == running.owned.epoch());
            let order = match ours {
                None => Order::Lost,
                Some(lease) => match &lease.requested_by {
                    Some(by) if *by != self.config.worker_id => Order::HandOver(Some(by.clone())),
                    _ => continue,
                },
            };
            running.orders.send_if_modified(|now| {
                let is_new = *now == Order::GoOn;
                if is_new {
                    *now = order;
                }
                is_new
            });
        }
    }

    /// Leases that we asked for and that were not handed over in time.
    fn overdue(&mut self, leases: &BTreeMap<ShardId, Lease>) -> Vec<Move> {
        let now = self.config.clock.monotonic();
        let me = &self.config.worker_id;
        let pending: BTreeMap<ShardId, u64> = leases
            .values()
            .filter(|lease| lease.requested_by.as_ref() == Some(me) && lease.owner.as_ref() != Some(me))
            .map(|lease| (lease.shard, lease.epoch))
            .collect();
        self.asked.retain(|shard, (epoch, _)| pending.get(shard) == Some(epoch));
        for (shard, epoch) in pending {
            self.asked.entry(shard).or_insert((epoch, now));
        }
        let late =
            |(_, (_, since)): &(&ShardId, &(u64, Duration))| now.saturating_sub(*since) >= self.config.handover_timeout;
        self.asked.iter().filter(late).map(|(shard, _)| Move::Take(*shard)).collect()
    }

    async fn make(&mut self, one: Move, leases: &mut BTreeMap<ShardId, Versioned>) -> Result<()> {
        let me = self.config.worker_id.clone();
        let (shard, change): (ShardId, fn(Lease, &str) -> Lease) = match one {
            Move::Take(shard) => (shard, |lease, me| lease.handed_to(Some(me.to_owned()))),
            Move::Request(shard) => (shard, |lease, me| Lease { requested_by: Some(me.to_owned()), ..lease }),
        };
        let Some((number, lease)) = leases.get(&shard).cloned() else { return Ok(()) };
        let next = change(lease, &me);
        // Another one was first: the next turn shows it.
        if let Some(number) = self.table.commit(number, &next).await? {
            tracing::info!(%shard, worker = me, epoch = next.epoch, what = ?one, "lease");
            if self.is_ours(&next) {
                self.claimed.insert(shard, next.epoch);
            }
            leases.insert(shard, (number, next));
        }
        Ok(())
    }

    /// Starts consumers for leases that we hold.
    fn start(&mut self, leases: &BTreeMap<ShardId, Versioned>) {
        for (shard, (number, lease)) in leases {
            let is_claimed = self.is_ours(lease) && self.claimed.get(shard) == Some(&lease.epoch);
            if !is_claimed || lease.is_done() || self.running.contains_key(shard) {
                continue;
            }
            let owned = Arc::new(Owned::new(self.table.clone(), *number, lease.clone()));
            let (orders, watched) = watch::channel(Order::GoOn);
            let hands = Hands {
                stream: self.stream.clone(),
                shard: *shard,
                owned: owned.clone(),
                life: self.life.clone(),
                clock: self.config.clock.clone(),
                orders: watched,
            };
            let consumer =
                ShardConsumer { hands, records_max: self.config.records_max, processor: (self.factory)(*shard) };
            let turn = self.turn.clone();
            let task = tokio::spawn(async move {
                // Also when it panics.
                let _woken = Wake(turn);
                consumer.run().await
            });
            self.running.insert(*shard, Running { owned, orders, task });
        }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        lease.owner.as_ref() == Some(&self.config.worker_id)
    }
}

/// Begins the coordinator's next turn when it is dropped.
struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
