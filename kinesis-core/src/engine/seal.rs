//! The background work of an instance: tail -> segments -> checkpoint -> trim.
//!
//! Invariant: a record leaves the journal only once a checkpoint names the segment that holds it, and a segment leaves
//! the store only once a checkpoint no longer does. A failed round changes nothing that a reader sees; it is repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use durable_core::ErrorKind;
use durable_core::journal::{PartChange, Position};
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::Engine;
use super::checkpoint::{part, removals, shard_changes, shard_removals};
use super::log::ShardState;
use super::state::{Catalog, Dirty, StreamState, segments};
use crate::error::{Error, Result};
use crate::segment::{Compression, EncodedSegment, SegmentMeta, SegmentOwner, SegmentRow, encode};
use crate::stream::ShardId;
use crate::tail::TailEntry;

/// How often retention, metrics and scaling are looked after.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long the sealer waits after a failed round, unless somebody waits for room.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Segments that are encoded and put at the same time.
const SEAL_PARALLEL: usize = 4;
/// Objects that are deleted at the same time.
const DELETE_PARALLEL: usize = 8;

/// The one task that seals and trims.
#[derive(Debug)]
pub(crate) struct Sealer {
    engine: Arc<Engine>,
    /// Where the newest checkpoint stands.
    at: Position,
    /// Objects that no checkpoint names any more, once the next one is made.
    garbage: Vec<Path>,
    /// Shards of which a checkpoint still names segments that were trimmed, or the shard itself.
    trimmed: BTreeMap<(u64, ShardId), Arc<ShardState>>,
    /// A seal failed: its checkpoint may stand beyond `at`, so none can be written there until another one is made.
    unsettled: bool,
    requests: mpsc::Receiver<SealRequest>,
}

/// Somebody who waits for all that was put so far to be sealed.
pub(crate) type SealRequest = oneshot::Sender<Result<()>>;
/// How many may wait at the same time; others wait to wait.
pub(crate) const SEAL_REQUESTS_MAX: usize = 16;

/// What a round has to do, fixed at one position.
struct Cut {
    at: Position,
    /// Parts that had changed, as they are at the position.
    changes: Vec<PartChange>,
    dirty: BTreeSet<Dirty>,
    /// Shards whose parts are written once their records are sealed. Held here, since a stream may be deleted
    /// meanwhile; up to the position it was not.
    shards: BTreeMap<(u64, ShardId), Arc<ShardState>>,
    unsealed: Vec<(Arc<StreamState>, Arc<ShardState>)>,
    deleted: Vec<Arc<StreamState>>,
}

impl Sealer {
    pub(crate) fn new(
        engine: Arc<Engine>,
        at: Position,
        orphans: Vec<Path>,
        requests: mpsc::Receiver<SealRequest>,
    ) -> Self {
        Self { engine, at, garbage: orphans, trimmed: BTreeMap::new(), unsettled: false, requests }
    }

    /// Works until the instance is closed.
    pub(crate) async fn run(mut self) {
        let engine = self.engine.clone();
        let mut closed = engine.closed.subscribe();
        let mut sweep = engine.clock.sleep(SWEEP_EVERY);
        loop {
            tokio::select! {
                biased;
                () = until_closed(&mut closed) => return,
                Some(request) = self.requests.recv() => {
                    // Whoever asked may be gone.
                    let _ = request.send(self.requested().await);
                    continue;
                }
                () = engine.state.room.work.notified() => {}
                () = &mut sweep => sweep = engine.clock.sleep(SWEEP_EVERY),
            }
            if let Err(error) = self.round().await {
                engine.state.counters.failed_seals.add(1);
                tracing::warn!(error = ?error, "sealing failed and is tried again");
                engine.state.room.fault.send_replace(Some((&error).into()));
                tokio::select! {
                    biased;
                    () = until_closed(&mut closed) => return,
                    () = engine.clock.sleep(RETRY_AFTER) => {}
                }
                engine.state.room.work.notify_one();
            } else {
                engine.state.room.fault.send_replace(None);
            }
        }
    }

    /// Whatever is due: trim what is too old, seal what is too much, let sealed records go from memory.
    async fn round(&mut self) -> Result<()> {
        self.trim();
        if self.seal_is_due() {
            self.seal().await?;
            // What was too old and in no segment is in one now.
            self.trim();
        }
        self.forget().await?;
        self.evict();
        Ok(())
    }

    /// Seals all there is, whatever is due.
    async fn requested(&mut self) -> Result<()> {
        self.seal().await?;
        self.round().await
    }

    /// Takes segments off that are older than their stream's retention.
    fn trim(&mut self) {
        let engine = self.engine.clone();
        let streams: Vec<_> = engine.state.catalog().streams.values().cloned().collect();
        for stream in streams {
            let before_ms = engine.time.expired_before_ms(stream.retention());
            for shard in stream.shards().values() {
                let (gone, freed) = shard.log().trim(before_ms);
                engine.state.room.give_back(freed);
                engine.state.counters.trimmed_segments.add(gone.len() as u64);
                for segment in gone {
                    let path = engine.segment_path(stream.id, shard.stamp.id, &segment);
                    engine.cache.forget(&path);
                    self.garbage.push(path);
                    self.trimmed.insert((stream.id, shard.stamp.id), shard.clone());
                }
            }
            let catalog = engine.state.catalog();
            let expired = stream.expire(before_ms, self.at);
            drop(catalog);
            self.trimmed.extend(expired.into_iter().map(|shard| ((stream.id, shard.stamp.id), shard)));
        }
    }

    fn seal_is_due(&self) -> bool {
        let state = &self.engine.state;
        let full = state.unsealed_bytes.load(Ordering::Acquire) >= state.seal_at_bytes;
        if self.unsettled || full || state.room.wanted() {
            return true;
        }
        let (unsealed, deleted) = {
            let catalog = state.catalog();
            (catalog.unsealed_shards(), !catalog.deleted.is_empty())
        };
        // What is in no segment cannot be trimmed, so what is too old is sealed first.
        let expired = |(stream, shard): &(Arc<StreamState>, Arc<ShardState>)| {
            let before_ms = self.engine.time.expired_before_ms(stream.retention());
            shard.log().oldest_unsealed_ms().is_some_and(|arrival_ms| arrival_ms < before_ms)
        };
        deleted || unsealed.iter().any(expired)
    }

    async fn seal(&mut self) -> Result<()> {
        let cut = self.cut()?;
        let result = self.seal_cut(&cut).await;
        self.unsettled = result.is_err();
        let mut catalog = self.engine.state.catalog();
        match result {
            Ok(()) => {
                self.at = cut.at;
                self.trimmed.clear();
                for stream in &cut.deleted {
                    let of = |(shard, segment): (ShardId, Arc<SegmentMeta>)| {
                        self.engine.segment_path(stream.id, shard, &segment)
                    };
                    self.garbage.extend(segments(stream).into_iter().map(of));
                }
            }
            Err(error) => {
                let unsealed = cut.unsealed.iter().map(|(stream, shard)| (stream.id, shard.stamp.id));
                catalog.unsealed.extend(unsealed);
                catalog.dirty.extend(cut.dirty);
                catalog.deleted.extend(cut.deleted);
                return Err(error);
            }
        }
        drop(catalog);
        self.collect_garbage().await
    }

    /// Fixes a position, and with it everything but the records below it.
    fn cut(&self) -> Result<Cut> {
        let mut catalog = self.engine.state.catalog();
        let dirty = std::mem::take(&mut catalog.dirty);
        // Shards are written once their segments are.
        let mut changes =
            dirty.iter().filter_map(|dirty| part(&catalog, dirty).transpose()).collect::<Result<Vec<_>>>()?;
        changes.extend(catalog.deleted.iter().flat_map(|stream| removals(stream)));
        let unsealed = catalog.unsealed_shards();
        let mut shards: BTreeMap<_, _> =
            unsealed.iter().map(|(stream, shard)| ((stream.id, shard.stamp.id), shard.clone())).collect();
        for dirty in &dirty {
            if let Dirty::Shard(id, shard) = dirty
                && let Some(state) = catalog.streams.get(id).and_then(|stream| stream.shards().get(shard).cloned())
            {
                shards.insert((*id, *shard), state);
            }
        }
        for ((stream, id), shard) in &self.trimmed {
            if catalog.has_shard(*stream, *id) {
                shards.insert((*stream, *id), shard.clone());
            } else {
                changes.extend(shard_removals(*stream, shard));
            }
        }
        catalog.unsealed.clear();
        let deleted = std::mem::take(&mut catalog.deleted);
        Ok(Cut { at: catalog.applied, changes, dirty, shards, unsealed, deleted })
    }

    async fn seal_cut(&self, cut: &Cut) -> Result<()> {
        let seal = |(stream, shard): &(Arc<StreamState>, Arc<ShardState>)| {
            seal_shard(self.engine.clone(), stream.clone(), shard.clone(), cut.at)
        };
        let seals: Vec<_> = cut.unsealed.iter().map(seal).collect();
        stream::iter(seals).buffer_unordered(SEAL_PARALLEL).try_collect::<Vec<()>>().await?;
        let mut changes = cut.changes.clone();
        for ((stream, _), shard) in &cut.shards {
            changes.extend(shard_changes(*stream, shard)?);
        }
        self.write(cut.at, changes).await?;
        cut.shards.values().for_each(|shard| shard.log().segments.set_written());
        Ok(())
    }

    /// Writes the parts of shards from which segments were trimmed, where the checkpoint stands, and deletes those.
    async fn forget(&mut self) -> Result<()> {
        if self.trimmed.is_empty() {
            return Ok(());
        }
        let changes = {
            let catalog = self.engine.state.catalog();
            if self.trimmed.keys().any(|(stream, _)| !catalog.streams.contains_key(stream)) {
                // A stream was deleted meanwhile, behind where the checkpoint stands: the seal that is due with that
                // takes all of it out.
                return Ok(());
            }
            let changes = |((stream, id), shard): (&(u64, ShardId), &Arc<ShardState>)| {
                if catalog.has_shard(*stream, *id) {
                    shard_changes(*stream, shard)
                } else {
                    Ok(shard_removals(*stream, shard))
                }
            };
            self.trimmed.iter().map(changes).collect::<Result<Vec<_>>>()?.concat()
        };
        self.write(self.at, changes).await?;
        for shard in std::mem::take(&mut self.trimmed).into_values() {
            shard.log().segments.set_written();
        }
        self.collect_garbage().await
    }

    async fn write(&self, at: Position, changes: Vec<PartChange>) -> Result<()> {
        // What was applied a moment ago is not yet counted as durable.
        self.engine.journal.flush().await?;
        Ok(self.engine.journal.checkpoint(at, changes).await?)
    }

    /// Deletes what no checkpoint names. Called behind a checkpoint, which only a writer that nobody took over from can
    /// make.
    async fn collect_garbage(&mut self) -> Result<()> {
        let store = &self.engine.store;
        let deletes: Vec<_> = self.garbage.iter().map(|path| delete(store.clone(), path.clone())).collect();
        stream::iter(deletes).buffer_unordered(DELETE_PARALLEL).try_collect::<Vec<()>>().await?;
        self.garbage.clear();
        Ok(())
    }

    /// Lets sealed records go from memory: all of them if somebody waits for room, else but for the newest quarter.
    fn evict(&self) {
        let state = &self.engine.state;
        let (used, sealed_max) = (state.room.used() as u64, state.seal_at_bytes / 2);
        let sealed = used.saturating_sub(state.unsealed_bytes.load(Ordering::Acquire));
        let keep_all = if state.room.wanted() { 0 } else { sealed_max };
        if sealed <= keep_all {
            return;
        }
        let streams: Vec<_> = state.catalog().streams.values().cloned().collect();
        let shards: Vec<_> =
            streams.iter().flat_map(|stream| stream.shards().values().cloned().collect::<Vec<_>>()).collect();
        let keep = usize::try_from(keep_all / shards.len().max(1) as u64).unwrap_or(usize::MAX);
        for shard in shards {
            let freed = shard.log().evict(keep);
            state.room.give_back(freed);
        }
    }
}

pub(super) async fn until_closed(closed: &mut watch::Receiver<bool>) {
    // An error means that the instance is gone, which is as good.
    let _ = closed.wait_for(|closed| *closed).await;
}

impl Catalog {
    fn has_shard(&self, stream: u64, shard: ShardId) -> bool {
        self.streams.get(&stream).is_some_and(|stream| stream.shards().contains_key(&shard))
    }

    fn unsealed_shards(&self) -> Vec<(Arc<StreamState>, Arc<ShardState>)> {
        let shard = |(stream, shard): &(u64, ShardId)| {
            let stream = self.streams.get(stream)?;
            Some((stream.clone(), stream.shards().get(shard)?.clone()))
        };
        self.unsealed.iter().filter_map(shard).collect()
    }
}

/// Puts one shard's records below `at` into a segment.
async fn seal_shard(engine: Arc<Engine>, stream: Arc<StreamState>, shard: Arc<ShardState>, at: Position) -> Result<()> {
    let entries = shard.log().unsealed(0, at.0);
    let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(()) };
    let cost: u64 = entries.iter().map(|entry| entry.cost() as u64).sum();
    let (meta, file) = encode_segment(&stream, &shard, entries, engine.compression).await?;
    let path = engine.segment_path(stream.id, shard.stamp.id, &meta);
    engine.store.put(&path, file.into()).await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("segment {path} was not put")).with_source(error)
    })?;
    let counters = &engine.state.counters;
    counters.sealed_segments.add(1);
    counters.sealed_bytes.add(meta.bytes);
    let mut log = shard.log();
    // A stream that was deleted meanwhile has given its records up already.
    if log.sealed_through < last {
        engine.state.unsealed_bytes.fetch_sub(cost, Ordering::AcqRel);
    }
    log.sealed(meta);
    Ok(())
}

/// Deletes an object, if it is there.
async fn delete(store: Arc<dyn ObjectStore>, path: Path) -> Result<()> {
    match store.delete(&path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Encodes entries, at least one, on a blocking thread.
async fn encode_segment(
    stream: &StreamState,
    shard: &ShardState,
    entries: Vec<TailEntry>,
    compression: Compression,
) -> Result<(SegmentMeta, Vec<u8>)> {
    let owner = SegmentOwner {
        stream: stream.name.to_string(),
        shard: shard.stamp.id.to_string(),
        shard_created_secs: shard.stamp.created_secs,
    };
    let encoded = tokio::task::spawn_blocking(move || -> Result<_> {
        let rows: Vec<SegmentRow> = entries.iter().map(TailEntry::row).collect::<Result<_>>()?;
        let EncodedSegment { file, blocks, footer_at } = encode(&owner, &rows, compression)?;
        let footer = file.get(footer_at..).unwrap_or_default();
        let (first, last) = (entries.first().map_or(0, |row| row.index), entries.last().map_or(0, |row| row.index));
        let meta = SegmentMeta {
            name: format!("{first:020}-{}.arrow", Uuid::new_v4().simple()),
            first,
            last,
            records: entries.len() as u64,
            first_arrival_ms: entries.first().map_or(0, |row| row.arrival_ms),
            earliest_arrival_ms: entries.iter().map(|row| row.arrival_ms).min(),
            latest_arrival_ms: entries.iter().map(|row| row.arrival_ms).max().unwrap_or(0),
            bytes: file.len() as u64,
            crc32c: crc32c::crc32c(&file),
            blocks: u32::try_from(blocks).unwrap_or(0),
            footer_bytes: footer.len() as u64,
            footer_crc32c: crc32c::crc32c(footer),
        };
        Ok((meta, file))
    });
    encoded
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, "encoding a segment did not finish").with_source(error))?
}

#[cfg(test)]
mod tests {
    use durable_core::ManualClock;
    use durable_core::journal::Journal;
    use object_store::memory::InMemory;
    use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

    use super::*;
    use crate::engine::open::{Components, open};
    use crate::put::{PutBatch, PutRecord};
    use crate::settings::Settings;

    const DAY_AND_MORE: Duration = Duration::from_secs(25 * 3600);

    /// An engine whose sealer does only what it is told.
    async fn opened(store: &Arc<dyn ObjectStore>, clock: &ManualClock) -> (Arc<Engine>, Sealer) {
        let clock = Arc::new(clock.clone());
        let components = Components {
            store: store.clone(),
            root: Path::default(),
            journal: Journal::store(store.clone(), Path::from("journal")).clock(clock.clone()),
            clock,
            settings: Settings::default(),
        };
        let (engine, sealer, _) = open(components).await.unwrap();
        (engine, sealer)
    }

    async fn put(engine: &Engine, stream: &StreamState) {
        engine.put_records(stream, &PutBatch::new(vec![PutRecord::new("data", "key")])).await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_is_deleted_while_it_is_trimmed_does_not_keep_the_next_opening_from_reading_the_journal() {
        let (store, clock) = (Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, ManualClock::default());
        let (engine, mut sealer) = opened(&store, &clock).await;
        let stream = engine.create_stream("s".parse().unwrap(), 1.into()).await.unwrap();
        put(&engine, &stream).await;
        sealer.seal().await.unwrap();
        put(&engine, &stream).await;
        clock.advance(DAY_AND_MORE);
        sealer.trim();
        engine.delete_stream(&stream).await.unwrap();
        sealer.forget().await.unwrap();
        // As if the process had died here.
        let (engine, mut sealer) = opened(&store, &clock).await;
        assert_eq!(engine.stream(&stream.name).unwrap_err().kind(), ErrorKind::NotFound);
        sealer.seal().await.unwrap();
    }

    #[tokio::test]
    async fn retention_goes_on_after_a_checkpoint_of_which_nobody_knows_whether_it_was_made() {
        let clock = ManualClock::default();
        let rule = Rule::on(&[Operation::Delete], Effect::Fail(Failure::PermissionDenied)).under("journal").at_call(0);
        let store = FaultStore::with_rules(Arc::new(InMemory::new()), 1, Arc::new(clock.clone()), vec![rule]);
        let (engine, mut sealer) = opened(&(Arc::new(store.clone()) as Arc<dyn ObjectStore>), &clock).await;
        let stream = engine.create_stream("s".parse().unwrap(), 1.into()).await.unwrap();
        put(&engine, &stream).await;
        while sealer.seal().await.is_ok() {
            put(&engine, &stream).await;
        }
        store.assert_all_fired();
        clock.advance(DAY_AND_MORE);
        sealer.round().await.unwrap();
        let segments = store.inner().list(Some(&"segments".into())).count().await;
        assert_eq!(segments, 0);
    }
}
