//! What was fetched of segments, kept for the next reader within a bound of bytes; what was used longest ago goes first.
//!
//! Invariant: bytes are checked once, before they enter; what does not agree with its shard's checkpoint is an error that
//! names its object, for every reader, and never enters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::sync::{OnceCell, Semaphore};

use super::format::{SegmentIndex, decode};
use super::meta::SegmentMeta;
use super::rows::Stretch;
use crate::error::{Error, Result};
use crate::metrics::Counters;

/// Stretches that are fetched ahead at the same time.
const PREFETCH_PARALLEL: usize = 2;

/// What is held of the segments of one instance.
#[derive(Debug)]
pub(crate) struct SegmentCache {
    store: Arc<dyn ObjectStore>,
    counters: Arc<Counters>,
    bytes_max: usize,
    slots: Mutex<Slots>,
    prefetch: Arc<Semaphore>,
}

/// Which record of a segment is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    /// The first at or above this index.
    Index(u64),
    /// The first that arrived at this time or later.
    Arrival(i64),
}

/// An object and the part of it: 0 is all of it or its footer, 1 the first block.
type Key = (Path, u32);

#[derive(Debug, Default)]
struct Slots {
    by_key: BTreeMap<Key, Slot>,
    bytes: usize,
    tick: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    /// Filled by the first reader; those who come meanwhile wait for it.
    part: Arc<OnceCell<Part>>,
    counted: usize,
    used: u64,
}

#[derive(Clone, Debug)]
enum Part {
    Rows(Arc<Stretch>),
    Index(Arc<SegmentIndex>),
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Rows(stretch) => stretch.bytes(),
            Self::Index(index) => index.bytes(),
        }
    }
}

impl SegmentCache {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, counters: Arc<Counters>, bytes_max: usize) -> Self {
        let prefetch = Arc::new(Semaphore::new(PREFETCH_PARALLEL));
        Self { store, counters, bytes_max, slots: Mutex::default(), prefetch }
    }

    /// The stretch of the segment at `path` that has the wanted record, which it must have. Dropping the future leaves the
    /// fetch to whoever asks next.
    pub(crate) async fn get(&self, path: &Path, meta: &SegmentMeta, wanted: Wanted) -> Result<Arc<Stretch>> {
        let (stretch, was_there) = self.find(path, meta, wanted).await?;
        self.counters.cache_hits.add(was_there.into());
        Ok(stretch)
    }

    /// As [`get`](Self::get), uncounted; answers too whether it was in memory.
    async fn find(&self, path: &Path, meta: &SegmentMeta, wanted: Wanted) -> Result<(Arc<Stretch>, bool)> {
        // One block is fetched with its footer in one request.
        if meta.blocks <= 1 {
            let (part, was_there) = self.part(path, 0, || self.fetch_whole(path, meta)).await?;
            return Ok((rows(path, part)?, was_there));
        }
        let index = match self.part(path, 0, || self.fetch_index(path, meta)).await? {
            (Part::Index(index), _) => index,
            (Part::Rows(stretch), was_there) => return Ok((stretch, was_there)),
        };
        let place = match wanted {
            Wanted::Index(at) => index.find(|block| block.last >= at),
            Wanted::Arrival(at_ms) => index.find(|block| block.latest_arrival_ms >= at_ms),
        };
        let place = place.unwrap_or(index.len().saturating_sub(1));
        let key = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let (part, was_there) = self.part(path, key, || self.fetch_block(path, &index, place)).await?;
        Ok((rows(path, part)?, was_there))
    }

    /// Fetches in the background what a reader at the end of a stretch will want next: from index `from` on in this
    /// segment. Does nothing where that would push out what is being read.
    pub(crate) fn prefetch(self: &Arc<Self>, path: Path, meta: Arc<SegmentMeta>, from: u64) {
        let block_bytes = meta.bytes / u64::from(meta.blocks.max(1));
        if block_bytes.saturating_mul(4) > self.bytes_max as u64 {
            return;
        }
        let Ok(permit) = self.prefetch.clone().try_acquire_owned() else { return };
        let cache = self.clone();
        tokio::spawn(async move {
            // A failure is met again by the reader, who reports it.
            let _ = cache.find(&path, &meta, Wanted::Index(from)).await;
            drop(permit);
        });
    }

    /// Bytes held now.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Forgets what retention removed.
    pub(crate) fn forget(&self, path: &Path) {
        let mut slots = self.lock();
        let of = (path.clone(), 0)..=(path.clone(), u32::MAX);
        let keys: Vec<Key> = slots.by_key.range(of).map(|(key, _)| key.clone()).collect();
        for key in keys {
            slots.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part, and whether it was in memory.
    async fn part<F: Future<Output = Result<Part>>>(
        &self,
        path: &Path,
        part: u32,
        fetch: impl FnOnce() -> F,
    ) -> Result<(Part, bool)> {
        let key = (path.clone(), part);
        let cell = self.slot(&key);
        if let Some(part) = cell.get() {
            return Ok((part.clone(), true));
        }
        let part = cell.get_or_try_init(fetch).await.cloned();
        self.settle(&key, &cell);
        part.map(|part| (part, false))
    }

    fn slot(&self, key: &Key) -> Arc<OnceCell<Part>> {
        let mut slots = self.lock();
        slots.tick += 1;
        let used = slots.tick;
        let new = || Slot { part: Arc::default(), counted: 0, used };
        let slot = slots.by_key.entry(key.clone()).or_insert_with(new);
        slot.used = used;
        slot.part.clone()
    }

    /// Counts what was fetched, and lets others go until all fit.
    fn settle(&self, key: &Key, cell: &Arc<OnceCell<Part>>) {
        let mut slots = self.lock();
        match (slots.by_key.get_mut(key), cell.get()) {
            (Some(slot), Some(part)) if slot.counted == 0 && Arc::ptr_eq(&slot.part, cell) => {
                slot.counted = part.bytes();
                slots.bytes += part.bytes();
            }
            (Some(slot), None) if Arc::ptr_eq(&slot.part, cell) => {
                slots.by_key.remove(key);
            }
            _ => {}
        }
        while slots.bytes > self.bytes_max {
            let filled = slots.by_key.iter().filter(|(_, slot)| slot.counted > 0);
            let Some(oldest) = filled.min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone()) else { break };
            slots.remove(&oldest);
        }
    }

    /// Fetches a whole segment.
    async fn fetch_whole(&self, path: &Path, meta: &SegmentMeta) -> Result<Part> {
        let file = self.store.get(path).await?.bytes().await?;
        self.counters.fetched_segments.add(1);
        let meta = meta.clone();
        check(path, move || {
            agree(&file, meta.bytes, meta.crc32c)?;
            let stretch = Stretch::new(decode(&file).map_err(|error| error.to_string())?);
            if stretch.is(meta.records, meta.first, meta.last) {
                Ok(Part::Rows(Arc::new(stretch)))
            } else {
                Err(OTHER_RECORDS.to_owned())
            }
        })
        .await
    }

    /// Fetches a segment's footer.
    async fn fetch_index(&self, path: &Path, meta: &SegmentMeta) -> Result<Part> {
        // From where it begins, not so many bytes from the end: an object that is longer or shorter is found out.
        let range = GetRange::Offset(meta.bytes.saturating_sub(meta.footer_bytes));
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let footer = match self.store.get_opts(path, options).await {
            Ok(found) => found.bytes().await?,
            Err(error @ object_store::Error::NotFound { .. }) => return Err(error.into()),
            // A range that the object does not have, as stores word it in their ways.
            Err(error) => match self.store.head(path).await {
                Ok(found) if found.size < meta.bytes => {
                    return Err(corrupt(path, &format!("it has {} bytes, sealed were {}", found.size, meta.bytes)));
                }
                _ => return Err(error.into()),
            },
        };
        let meta = meta.clone();
        check(path, move || {
            agree(&footer, meta.footer_bytes, meta.footer_crc32c)?;
            let index = SegmentIndex::read(&footer).map_err(|error| error.to_string())?;
            let first = index.meta(0).map(|block| block.first);
            let last = index.meta(index.len().saturating_sub(1)).map(|block| block.last);
            if (index.len(), first, last) == (meta.blocks as usize, Some(meta.first), Some(meta.last)) {
                Ok(Part::Index(Arc::new(index)))
            } else {
                Err(OTHER_RECORDS.to_owned())
            }
        })
        .await
    }

    /// Fetches one block.
    async fn fetch_block(&self, path: &Path, index: &Arc<SegmentIndex>, place: usize) -> Result<Part> {
        let range = index.range(place).ok_or_else(|| corrupt(path, "it has no such block"))?;
        let block = self.store.get_range(path, range.clone()).await?;
        self.counters.fetched_segments.add(1);
        let index = index.clone();
        check(path, move || {
            let meta = index.meta(place).ok_or("it has no such block")?;
            agree(&block, range.end - range.start, meta.crc32c)?;
            let rows = index.rows(place, block).map_err(|error| error.to_string())?;
            let stretch = Stretch::new(rows.into_iter().collect());
            if stretch.is(meta.records, meta.first, meta.last) {
                Ok(Part::Rows(Arc::new(stretch)))
            } else {
                Err(OTHER_RECORDS.to_owned())
            }
        })
        .await
    }
}

impl Slots {
    fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.by_key.remove(key) {
            self.bytes -= slot.counted;
        }
    }
}

const OTHER_RECORDS: &str = "its records are not those that were sealed";

fn rows(path: &Path, part: Part) -> Result<Arc<Stretch>> {
    match part {
        Part::Rows(stretch) => Ok(stretch),
        Part::Index(_) => Err(corrupt(path, "it has a footer where rows should be")),
    }
}

/// Whether bytes are as many and have the CRC32C that was sealed.
fn agree(bytes: &Bytes, length: u64, crc32c: u32) -> Result<(), String> {
    let found = crc32c::crc32c(bytes);
    if (bytes.len() as u64, found) == (length, crc32c) {
        return Ok(());
    }
    Err(format!("it has {} bytes with CRC32C {found:08x}, sealed were {length} bytes with {crc32c:08x}", bytes.len()))
}

fn corrupt(path: &Path, why: &str) -> Error {
    Error::corrupt(format!("segment {path} is damaged: {why}; restore the object from a copy"))
}

/// Checks and decodes on a blocking thread.
async fn check(path: &Path, checked: impl FnOnce() -> Result<Part, String> + Send + 'static) -> Result<Part> {
    match tokio::task::spawn_blocking(checked).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(why)) => Err(corrupt(path, &why)),
        Err(error) => {
            Err(Error::new(durable_core::ErrorKind::Internal, format!("segment {path} was not checked"))
                .with_source(error))
        }
    }
}
