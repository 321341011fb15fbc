//! What is done once a minute: metrics are told to `tracing`, and streams on demand get the shards that they want.
//!
//! Invariant: nothing here is awaited by a caller, and what fails is done a minute later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::seal::{SWEEP_EVERY, until_closed};
use super::state::StreamState;
use crate::metrics::{ShardMetrics, StreamMetrics};
use crate::stream::{Load, OnDemand, ShardId, StreamMode};

/// The one task that does it.
#[derive(Debug)]
pub(crate) struct EachMinute {
    engine: Arc<Engine>,
    /// When it looked last.
    at: Duration,
    seen: BTreeMap<u64, Seen>,
}

/// A stream as it was at the last look.
#[derive(Debug, Default)]
struct Seen {
    metrics: StreamMetrics,
    shards: BTreeMap<ShardId, ShardMetrics>,
    on_demand: Option<OnDemand>,
}

impl EachMinute {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { at: engine.clock.monotonic(), engine, seen: BTreeMap::new() }
    }

    /// Works until the instance is closed.
    pub(crate) async fn run(mut self) {
        let engine = self.engine.clone();
        let mut closed = engine.closed.subscribe();
        loop {
            tokio::select! {
                biased;
                () = until_closed(&mut closed) => return,
                () = engine.clock.sleep(SWEEP_EVERY) => {}
            }
            tokio::select! {
                biased;
                () = until_closed(&mut closed) => return,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        let now = self.engine.clock.monotonic();
        let passed = now.saturating_sub(self.at);
        self.at = now;
        let streams = self.engine.state.catalog().streams.clone();
        self.seen.retain(|id, _| streams.contains_key(id));
        for stream in streams.values() {
            let seen = self.seen.entry(stream.id).or_default();
            let metrics = stream.counters.snapshot();
            let load = Load::of(
                metrics.incoming_bytes.saturating_sub(seen.metrics.incoming_bytes),
                metrics.incoming_records.saturating_sub(seen.metrics.incoming_records),
                passed,
            );
            seen.tell(stream, metrics);
            if let Some(target) = seen.target(stream, load, now)
                && let Err(error) = self.engine.scale_on_demand(stream, target).await
            {
                tracing::warn!(stream = %stream.name, target, error = ?error, "scaling failed and is tried again");
            }
        }
    }
}

impl Seen {
    /// Tells what has changed.
    fn tell(&mut self, stream: &StreamState, metrics: StreamMetrics) {
        if metrics != self.metrics {
            metrics.trace(&stream.name, None);
            self.metrics = metrics;
        }
        if stream.control().config.shard_level_metrics.is_empty() {
            self.shards.clear();
            return;
        }
        let shards = stream.shards();
        self.shards.retain(|id, _| shards.contains_key(id));
        for (id, shard) in shards.iter() {
            let (metrics, before) = (shard.counters.snapshot(), self.shards.entry(*id).or_default());
            if metrics != *before {
                metrics.trace(&stream.name, Some(*id));
                *before = metrics;
            }
        }
    }

    /// How many shards the stream should have, if it is on demand and should have another number.
    fn target(&mut self, stream: &StreamState, load: Load, now: Duration) -> Option<u32> {
        if stream.control().config.mode != StreamMode::OnDemand {
            self.on_demand = None;
            return None;
        }
        let open = stream.shards().values().filter(|shard| shard.is_open()).count();
        let on_demand = self.on_demand.get_or_insert_with(|| OnDemand::new(open, now));
        on_demand.observe(load, now);
        on_demand.target(open)
    }
}
