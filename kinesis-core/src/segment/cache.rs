//! Segments that were fetched, kept for the next reader within a bound of bytes; the one used longest ago goes first.
//!
//! Invariant: a segment is checked once, before it enters; one that does not agree with its shard's checkpoint is an
//! error that names its object, for every reader, and never enters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::OnceCell;

use super::format::decode;
use super::meta::SegmentMeta;
use super::rows::Segment;
use crate::error::{Error, Result};
use crate::metrics::Counters;

/// The segments of one instance.
#[derive(Debug)]
pub(crate) struct SegmentCache {
    store: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
    bytes_max: usize,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_path: BTreeMap<Path, Slot>,
    bytes: usize,
    tick: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Filled by the first reader; those who come meanwhile wait for it.
    segment: Arc<OnceCell<Arc<Segment>>>,
    counted: usize,
    used: u64,
}

impl SegmentCache {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, counters: Arc<Counters>, bytes_max: usize) -> Self {
        Self { store, counters, bytes_max, slots: Mutex::default() }
    }

    /// The segment at `path`. Dropping the future leaves the fetch to whoever asks next.
    pub(crate) async fn get(&self, path: &Path, meta: &SegmentMeta) -> Result<Arc<Segment>> {
        let cell = self.slot(path);
        if let Some(segment) = cell.get() {
            self.counters.cache_hits.add(1);
            return Ok(segment.clone());
        }
        let segment = cell.get_or_try_init(|| self.fetch(path, meta)).await.cloned();
        self.settle(path, &cell);
        segment
    }

    /// Bytes of segments held now.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Forgets what retention removed.
    pub(crate) fn forget(&self, path: &Path) {
        let mut slots = self.lock();
        if let Some(slot) = slots.by_path.remove(path) {
            slots.bytes -= slot.counted;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, path: &Path) -> Arc<OnceCell<Arc<Segment>>> {
        let mut slots = self.lock();
        slots.tick += 1;
        let used = slots.tick;
        let new = || Slot { segment: Arc::default(), counted: 0, used };
        let slot = slots.by_path.entry(path.clone()).or_insert_with(new);
        slot.used = used;
        slot.segment.clone()
    }

    /// Counts what was fetched, and lets others go until all fit.
    fn settle(&self, path: &Path, cell: &Arc<OnceCell<Arc<Segment>>>) {
        let mut slots = self.lock();
        match (slots.by_path.get_mut(path), cell.get()) {
            (Some(slot), Some(segment)) if slot.counted == 0 && Arc::ptr_eq(&slot.segment, cell) => {
                slot.counted = segment.bytes();
                slots.bytes += segment.bytes();
            }
            (Some(slot), None) if Arc::ptr_eq(&slot.segment, cell) => {
                slots.by_path.remove(path);
            }
            _ => {}
        }
        while slots.bytes > self.bytes_max {
            let filled = slots.by_path.iter().filter(|(_, slot)| slot.counted > 0);
            let Some(oldest) = filled.min_by_key(|(_, slot)| slot.used).map(|(path, _)| path.clone()) else { break };
            if let Some(slot) = slots.by_path.remove(&oldest) {
                slots.bytes -= slot.counted;
            }
        }
    }

    async fn fetch(&self, path: &Path, meta: &SegmentMeta) -> Result<Arc<Segment>> {
        let file = self.store.get(path).await?.bytes().await?;
        self.counters.fetched_segments.add(1);
        let expected = meta.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let crc32c = crc32c::crc32c(&file);
            if (file.len() as u64, crc32c) != (expected.bytes, expected.crc32c) {
                return Err(format!(
                    "it has {} bytes with CRC32C {crc32c:08x}, sealed were {} bytes with {:08x}",
                    file.len(),
                    expected.bytes,
                    expected.crc32c
                ));
            }
            let bytes = file.len();
            let segment = Segment { batches: decode(file).map_err(|error| error.to_string())?, bytes };
            if segment.agrees_with(&expected) {
                Ok(segment)
            } else {
                Err("its records are not those that were sealed".to_owned())
            }
        });
        match checked.await {
            Ok(Ok(segment)) => Ok(Arc::new(segment)),
            Ok(Err(why)) => Err(Error::corrupt(format!(
                "segment {path} (indices {} to {}) is damaged: {why}; restore the object from a copy",
                meta.first, meta.last
            ))),
            Err(error) => Err(Error::new(durable_core::ErrorKind::Internal, format!("segment {path} was not checked"))
                .with_source(error)),
        }
    }
}
