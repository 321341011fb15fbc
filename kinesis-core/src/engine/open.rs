//! Opening an instance: checkpoint, then frames, then the journal runs.
//!
//! Invariant: nothing is served before all of it was read; what the journal holds is applied exactly as it was when it
//! became durable.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use durable_core::Clock;
use durable_core::journal::{Checkpoint, JournalBuilder, Position, Recovery};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::{mpsc, watch};

use super::Engine;
use super::checkpoint::streams;
use super::minute::EachMinute;
use super::seal::{SEAL_REQUESTS_MAX, Sealer};
use super::segment_folder;
use super::sequencer::Sequencer;
use super::state::{State, segments};
use super::time::RecordTime;
use crate::error::Result;
use crate::metrics::Counters;
use crate::quota::Quotas;
use crate::segment::SegmentCache;
use crate::settings::Settings;

/// What an instance is made of.
#[derive(Debug)]
pub(crate) struct Components {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    pub(crate) journal: JournalBuilder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
}

/// Opens the engine and what works in its background.
pub(crate) async fn open(components: Components) -> Result<(Arc<Engine>, Sealer, EachMinute)> {
    let Components { store, root, journal, clock, settings } = components;
    settings.check()?;
    let time = RecordTime::new(clock.clone());
    let counters = Arc::new(Counters::default());
    let state = Arc::new(State::new(settings.tail_bytes(), counters.clone()));
    let mut recovery = journal.open().await?;
    let at = recover(&state, &mut recovery).await?;
    // Listed before the journal runs, while nobody can have sealed anything in between.
    let orphans = orphans(store.as_ref(), &root, &state).await?;
    let applying = state.clone();
    let journal = recovery.start(move |frames| applying.commit(frames)).await?;
    let sequencer = Sequencer::of(&state.catalog());
    let (seal, requests) = mpsc::channel(SEAL_REQUESTS_MAX);
    let quotas = Quotas::new(settings.limits().clone(), clock.clone());
    let engine = Arc::new(Engine {
        clock,
        time,
        cache: Arc::new(SegmentCache::new(store.clone(), counters, settings.cache_bytes())),
        compression: settings.segment_compression(),
        store,
        root,
        journal,
        sequencer,
        state,
        record_bytes_max: settings.record_bytes_max(),
        quotas,
        closed: watch::Sender::new(false),
        seal,
    });
    // What was found may be enough to seal, or have deleted streams in it.
    engine.state.room.work.notify_one();
    let sealer = Sealer::new(engine.clone(), at, orphans, requests);
    let each_minute = EachMinute::new(engine.clone());
    Ok((engine, sealer, each_minute))
}

/// Rebuilds the state; answers where its checkpoint stands.
async fn recover(state: &State, recovery: &mut Recovery) -> Result<Position> {
    let at = match recovery.checkpoint() {
        None => Position::ZERO,
        Some(Checkpoint { at, parts, .. }) => {
            let mut catalog = state.catalog();
            for stream in streams(parts)? {
                catalog.names.insert(stream.name.clone(), stream.id);
                catalog.streams.insert(stream.id, Arc::new(stream));
            }
            catalog.applied = *at;
            *at
        }
    };
    let unsealed = || usize::try_from(state.unsealed_bytes.load(Ordering::Acquire)).unwrap_or(usize::MAX);
    while let Some(frame) = recovery.next().await? {
        let before = unsealed();
        state.apply(std::slice::from_ref(&frame))?;
        // Frame by frame, since the deletion of a stream gives back what its records took.
        state.room.take_recovered(unsealed().saturating_sub(before));
    }
    let counters = &state.counters;
    counters.recovered_records.add(counters.incoming_records.get());
    counters.incoming_records.set(0);
    counters.incoming_bytes.set(0);
    state.catalog().streams.values().for_each(|stream| stream.forget_incoming());
    Ok(at)
}

/// Segments in the store that a crash left behind before a checkpoint named them, or after none did any more.
async fn orphans(store: &dyn ObjectStore, root: &Path, state: &State) -> Result<Vec<Path>> {
    let named: BTreeSet<Path> = {
        let catalog = state.catalog();
        let streams = catalog.streams.values().chain(&catalog.deleted);
        let paths = |stream: &Arc<super::state::StreamState>| {
            let of = |(shard, segment): (_, Arc<crate::segment::SegmentMeta>)| {
                segment_folder(root, stream.id, shard).join(segment.name.as_str())
            };
            segments(stream).into_iter().map(of).collect::<Vec<_>>()
        };
        streams.flat_map(paths).collect()
    };
    let all = store.list(Some(&root.clone().join("segments"))).map_ok(|object| object.location);
    let all: Vec<Path> = all.try_collect().await?;
    Ok(all.into_iter().filter(|path| !named.contains(path)).collect())
}
