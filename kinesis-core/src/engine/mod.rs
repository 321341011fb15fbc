//! The embedded engine: one journal, one order, one state.
//!
//! Data flow one way: put -> journal -> tail -> segment -> trim. [`sequencer`] judges and orders what is submitted,
//! [`state`] applies what became durable, [`read`] serves it, [`seal`] moves it to the store and lets it go; [`minute`]
//! tells how it goes.

pub(crate) mod checkpoint;
pub(crate) mod command;
mod control;
mod count;
pub(crate) mod log;
pub(crate) mod minute;
pub(crate) mod open;
pub(crate) mod read;
pub(crate) mod room;
#[cfg(feature = "datafusion")]
pub(crate) mod scan;
pub(crate) mod seal;
pub(crate) mod sequencer;
pub(crate) mod state;
mod submit;
pub(crate) mod time;

use std::sync::Arc;

use durable_core::Clock;
use durable_core::journal::Journal;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Error, Result};
use crate::metrics::KinesisMetrics;
use crate::quota::Quotas;
use crate::segment::{Compression, SegmentCache, SegmentMeta};
use crate::stream::{ShardId, StreamName};
use seal::SealRequest;
use sequencer::Sequencer;
use state::{State, StreamState};
use time::RecordTime;

/// One opened instance.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: RecordTime,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Everything in the store lies below it.
    pub(crate) root: Path,
    pub(crate) journal: Journal,
    pub(crate) sequencer: Sequencer,
    pub(crate) state: Arc<State>,
    pub(crate) cache: Arc<SegmentCache>,
    pub(crate) compression: Compression,
    pub(crate) record_bytes_max: usize,
    pub(crate) quotas: Quotas,
    pub(crate) closed: watch::Sender<bool>,
    /// Asks the sealer to seal all there is.
    pub(crate) seal: mpsc::Sender<SealRequest>,
}

impl Engine {
    /// Refuses calls on an instance that was closed or cannot go on.
    pub(crate) fn check_open(&self) -> Result<()> {
        if *self.closed.borrow() { Err(Error::closed()) } else { self.check_fault() }
    }

    fn check_fault(&self) -> Result<()> {
        match self.state.fault.get() {
            None => Ok(()),
            Some(fault) => Err(Error::corrupt(format!("this instance stopped at a journal frame: {fault}"))),
        }
    }

    /// The stream of this name.
    pub(crate) fn stream(&self, name: &StreamName) -> Result<Arc<StreamState>> {
        self.check_open()?;
        let catalog = self.state.catalog();
        let stream = catalog.names.get(name).and_then(|id| catalog.streams.get(id));
        stream.cloned().ok_or_else(|| Error::not_found(format!("there is no stream '{name}'; create it first")))
    }

    /// Where a segment lies.
    pub(crate) fn segment_path(&self, stream: u64, shard: ShardId, segment: &SegmentMeta) -> Path {
        segment_folder(&self.root, stream, shard).join(segment.name.as_str())
    }

    /// Seals all that was put so far, and removes what retention has let go.
    pub(crate) async fn seal_all(&self) -> Result<()> {
        self.check_open()?;
        self.journal.flush().await?;
        let (answer, answered) = oneshot::channel();
        self.seal.send(answer).await.map_err(|_| Error::closed())?;
        answered.await.map_err(|_| Error::closed())?
    }

    /// What happened so far.
    pub(crate) fn metrics(&self) -> KinesisMetrics {
        let counters = &self.state.counters;
        KinesisMetrics {
            streams: self.state.catalog().streams.len() as u64,
            incoming_records: counters.incoming_records.get(),
            incoming_bytes: counters.incoming_bytes.get(),
            duplicate_records: counters.duplicate_records.get(),
            throttled_writes: counters.throttled_writes.get(),
            read_records: counters.read_records.get(),
            read_bytes: counters.read_bytes.get(),
            recovered_records: counters.recovered_records.get(),
            tail_bytes: self.state.room.used() as u64,
            sealed_segments: counters.sealed_segments.get(),
            sealed_bytes: counters.sealed_bytes.get(),
            failed_seals: counters.failed_seals.get(),
            trimmed_segments: counters.trimmed_segments.get(),
            fetched_segments: counters.fetched_segments.get(),
            cache_hits: counters.cache_hits.get(),
            cache_bytes: self.cache.bytes() as u64,
        }
    }

    /// Wakes every reader, so that it sees that the instance was closed.
    pub(crate) fn shut(&self) {
        self.closed.send_replace(true);
        self.state.room.close();
        for stream in self.state.catalog().streams.values() {
            stream.wake();
        }
    }
}

/// The folder of a shard's segments.
pub(crate) fn segment_folder(root: &Path, stream: u64, shard: ShardId) -> Path {
    root.clone().join("segments").join(format!("{stream:020}")).join(format!("{:010}", shard.index()))
}
