//! Control commands: streams come and go, change their settings and their shards.
//!
//! Invariant: a change is judged against the shape that it is submitted on; if another one came first, it is judged anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::ErrorKind;
use durable_core::journal::Reservation;

use super::Engine;
use super::command::{Command, NewStream, Reshard};
use super::sequencer::Shape;
use super::state::StreamState;
use super::time::seconds;
use crate::error::{Error, Result};
use crate::limits::{SHARDS_MAX, STREAM_CONSUMERS_MAX};
use crate::quota::ControlCall;
use crate::stream::{
    Change, HashKey, HashKeyRange, Reshaping, ShardId, StreamConsumer, StreamMode, StreamName, StreamSpec, check_name,
    check_retention,
};

impl Engine {
    pub(crate) async fn create_stream(&self, name: StreamName, spec: StreamSpec) -> Result<Arc<StreamState>> {
        check_shards(spec.shards as usize)?;
        spec.config.check()?;
        if !name.is_internal() {
            self.quotas.control(ControlCall::CreateStream)?;
        }
        let created_ms = self.time.arrival_ms();
        let shards = HashKeyRange::split_evenly(spec.shards);
        let new = NewStream { name: name.clone(), created_ms, shards, config: spec.config };
        let frame = self.frame(&Command::CreateStream(new.clone())).await?;
        self.settle(self.sequencer.create(&new, self.quotas.limits(), frame)?).await?;
        self.stream(&name)
    }

    pub(crate) async fn delete_stream(&self, stream: &StreamState) -> Result<()> {
        if !stream.name.is_internal() {
            self.quotas.control(ControlCall::DeleteStream)?;
        }
        let frame = self.frame(&Command::DeleteStream { stream: stream.id }).await?;
        self.settle(self.sequencer.delete(stream.id, frame)?).await?;
        self.quotas.forget(stream.id);
        // Its objects and checkpoint parts go with the next checkpoint: now.
        self.state.room.work.notify_one();
        Ok(())
    }

    pub(crate) async fn delete_consumer(&self, stream: &StreamState, consumer: &str) -> Result<()> {
        check_name("consumer name", consumer)?;
        let command = Command::DeleteConsumer { stream: stream.id, consumer: consumer.to_owned() };
        let frame = self.frame(&command).await?;
        self.settle(self.sequencer.delete_consumer(stream.id, consumer, frame)?).await
    }

    pub(crate) async fn set_retention(&self, stream: &StreamState, retention: Duration) -> Result<()> {
        check_retention(retention)?;
        self.quotas.control(ControlCall::SetRetention)?;
        self.change(stream, |_| Ok(Change::RetentionSeconds(retention.as_secs()))).await?;
        // What is too old by now goes now.
        self.state.room.work.notify_one();
        Ok(())
    }

    pub(crate) async fn set_mode(&self, stream: &StreamState, mode: StreamMode) -> Result<()> {
        self.quotas.control(ControlCall::SetMode)?;
        self.change(stream, |_| Ok(Change::Mode(mode))).await
    }

    pub(crate) async fn add_tags(&self, stream: &StreamState, tags: BTreeMap<String, String>) -> Result<()> {
        self.quotas.control(ControlCall::Tag)?;
        self.change(stream, |_| Ok(Change::AddTags(tags.clone()))).await
    }

    pub(crate) async fn remove_tags(&self, stream: &StreamState, keys: BTreeSet<String>) -> Result<()> {
        self.quotas.control(ControlCall::Tag)?;
        self.change(stream, |_| Ok(Change::RemoveTags(keys.clone()))).await
    }

    pub(crate) async fn set_record_bytes_max(&self, stream: &StreamState, bytes: usize) -> Result<()> {
        self.quotas.control(ControlCall::SetRecordBytesMax)?;
        self.change(stream, |_| Ok(Change::RecordBytesMax(bytes))).await
    }

    /// Changes which shard-level metrics were asked for.
    #[cfg(feature = "server")]
    pub(crate) async fn set_shard_level_metrics(
        &self,
        stream: &StreamState,
        change: impl Fn(&mut BTreeSet<String>),
    ) -> Result<()> {
        let decide = |shape: &Shape| {
            let mut metrics = shape.config.shard_level_metrics.clone();
            change(&mut metrics);
            Ok(Change::ShardLevelMetrics(metrics))
        };
        self.change(stream, decide).await
    }

    pub(crate) async fn register_consumer(&self, stream: &StreamState, name: &str) -> Result<StreamConsumer> {
        check_name("consumer name", name)?;
        self.quotas.control(ControlCall::RegisterConsumer)?;
        let most = self.quotas.limits().registered_consumers.map_or(STREAM_CONSUMERS_MAX, |most| most as usize);
        let consumer = StreamConsumer::new(name, self.time.arrival_ms());
        let register = |shape: &Shape| {
            let known = &shape.config.consumers;
            if known.contains_key(name) {
                let message = format!("consumer '{name}' is registered already; deregister it first, or use it");
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            if known.len() >= most {
                let message = format!("the stream has {most} registered consumers; deregister one before '{name}'");
                return Err(Error::limit(message));
            }
            Ok(Change::RegisterConsumer(consumer.clone()))
        };
        self.change(stream, register).await?;
        Ok(consumer)
    }

    pub(crate) async fn deregister_consumer(&self, stream: &StreamState, name: &str) -> Result<()> {
        self.quotas.control(ControlCall::DeregisterConsumer)?;
        let deregister = |shape: &Shape| {
            if shape.config.consumers.contains_key(name) {
                return Ok(Change::DeregisterConsumer(name.to_owned()));
            }
            Err(Error::not_found(format!("stream '{}' has no registered consumer '{name}'", stream.name)))
        };
        self.change(stream, deregister).await
    }

    pub(crate) async fn split_shard(&self, stream: &StreamState, shard: ShardId, at: HashKey) -> Result<()> {
        self.quotas.control(ControlCall::SplitShard)?;
        self.reshard(stream, |shape, reshaping| {
            check_provisioned(stream, shape)?;
            stream.shard(shard)?;
            reshaping.split(shard, at)
        })
        .await
    }

    pub(crate) async fn merge_shards(&self, stream: &StreamState, shard: ShardId, adjacent: ShardId) -> Result<()> {
        self.quotas.control(ControlCall::MergeShards)?;
        self.reshard(stream, |shape, reshaping| {
            check_provisioned(stream, shape)?;
            stream.shard(shard)?;
            stream.shard(adjacent)?;
            reshaping.merge(shard, adjacent)
        })
        .await
    }

    pub(crate) async fn update_shard_count(&self, stream: &StreamState, shards: u32) -> Result<()> {
        check_shards(shards as usize)?;
        self.quotas.control(ControlCall::UpdateShardCount)?;
        let shape = self.sequencer.shape(stream.id)?;
        check_provisioned(stream, &shape)?;
        self.quotas.update_shard_count(stream.id, shape.open.len(), shards)?;
        self.reshard(stream, |shape, reshaping| {
            check_provisioned(stream, shape)?;
            reshaping.resize(shards)
        })
        .await
    }

    /// Gives a stream on demand so many open shards; one that is no longer on demand stays as it is.
    pub(super) async fn scale_on_demand(&self, stream: &StreamState, shards: u32) -> Result<()> {
        self.reshard(stream, |shape, reshaping| match shape.config.mode {
            StreamMode::OnDemand => reshaping.resize(shards),
            StreamMode::Provisioned => Ok(()),
        })
        .await
    }

    /// Makes the change that `decide` takes the stream's shape to ask for.
    async fn change(&self, stream: &StreamState, decide: impl Fn(&Shape) -> Result<Change>) -> Result<()> {
        loop {
            let before = self.sequencer.shape(stream.id)?;
            let change = decide(&before)?;
            let mut after = Shape::clone(&before);
            after.config.apply(change.clone());
            after.config.check()?;
            let frame = self.frame(&Command::Change { stream: stream.id, change }).await?;
            if let Some(pending) = self.sequencer.reshape(stream.id, &before, after, self.quotas.limits(), frame)? {
                return self.settle(pending).await;
            }
        }
    }

    /// Opens and closes shards as `decide` does it.
    async fn reshard(&self, stream: &StreamState, decide: impl Fn(&Shape, &mut Reshaping) -> Result<()>) -> Result<()> {
        loop {
            let before = self.sequencer.shape(stream.id)?;
            let at_ms = self.time.arrival_ms();
            let mut reshaping = Reshaping::of(&before.open, before.next_shard, seconds(at_ms));
            decide(&before, &mut reshaping)?;
            if reshaping.opened.is_empty() {
                return Ok(());
            }
            let reshard =
                Reshard { at_ms, opened: reshaping.opened.clone(), closed: std::mem::take(&mut reshaping.closed) };
            let next_shard = reshaping.next_id();
            let after = Shape { config: before.config.clone(), open: reshaping.into_open(), next_shard };
            check_shards(after.open.len())?;
            let frame = self.frame(&Command::Reshard { stream: stream.id, reshard }).await?;
            if let Some(pending) = self.sequencer.reshape(stream.id, &before, after, self.quotas.limits(), frame)? {
                return self.settle(pending).await;
            }
        }
    }

    async fn frame(&self, command: &Command) -> Result<(Reservation, Bytes)> {
        let body = command.encode()?;
        Ok((self.reserve(body.len()).await?, body))
    }
}

fn check_shards(shards: usize) -> Result<()> {
    if (1..=SHARDS_MAX).contains(&shards) {
        return Ok(());
    }
    Err(Error::invalid(format!("a stream of {shards} shards: it has 1 to {SHARDS_MAX}")))
}

fn check_provisioned(stream: &StreamState, shape: &Shape) -> Result<()> {
    match shape.config.mode {
        StreamMode::Provisioned => Ok(()),
        StreamMode::OnDemand => Err(Error::invalid(format!(
            "stream '{}' is on demand and decides on its shards itself; set its mode to provisioned first",
            stream.name
        ))),
    }
}
