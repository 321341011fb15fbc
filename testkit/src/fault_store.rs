//! An object store that fails the way real ones do: on purpose, from a seed, and counted.
//!
//! Invariant: without rules it is the store it wraps, and it passes the same conformance suite. A rule that was given and
//! never fired is a test that proved nothing: [`FaultStore::assert_all_fired`].
//!
//! Without rules it is also what counts calls: [`FaultStore::calls`].

mod body;
mod rule;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use durable_core::{Clock, SystemClock};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use rule::{Effect, Failure, Operation, Rule};

/// How many of the newest puts a stale list does not show.
const STALE_PUTS: usize = 16;

/// A store wrapped in faults. Clones share rules and counts.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct Faults {
    rules: Vec<Rule>,
    clock: Arc<dyn Clock>,
    enabled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    /// By rule: matching calls, and those it fired on.
    matched: Vec<u64>,
    fired: Vec<u64>,
    calls: BTreeMap<Operation, u64>,
    newest: VecDeque<Path>,
}

/// What befalls one call.
#[derive(Debug, Default)]
struct Fate {
    effects: Vec<(usize, Effect)>,
}

impl FaultStore {
    /// Wraps `inner` without faults, on the system's clock.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self::with_rules(inner, 0, Arc::new(SystemClock::new()), Vec::new())
    }

    /// Wraps `inner` in `rules`; several may befall one call, in their order. The seed decides when, the clock how
    /// long latency lasts.
    #[must_use]
    pub fn with_rules(inner: Arc<dyn ObjectStore>, seed: u64, clock: Arc<dyn Clock>, rules: Vec<Rule>) -> Self {
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            matched: vec![0; rules.len()],
            fired: vec![0; rules.len()],
            calls: BTreeMap::new(),
            newest: VecDeque::new(),
        };
        let faults = Faults { rules, clock, enabled: AtomicBool::new(true), state: Mutex::new(state) };
        Self { inner, faults: Arc::new(faults) }
    }

    /// The store behind the faults.
    #[must_use]
    pub fn inner(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner)
    }

    /// Ends all faults. A call that hangs goes on hanging.
    pub fn heal(&self) {
        self.faults.enabled.store(false, Ordering::Relaxed);
    }

    /// Starts them again.
    pub fn resume(&self) {
        self.faults.enabled.store(true, Ordering::Relaxed);
    }

    /// How often a call was made, failed ones included; a delete counts once per object.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.faults.lock().calls.get(&operation).copied().unwrap_or_default()
    }

    /// How often each rule fired, in the order of the rules.
    #[must_use]
    pub fn fired(&self) -> Vec<u64> {
        self.faults.lock().fired.clone()
    }

    /// # Panics
    /// If a rule never fired.
    pub fn assert_all_fired(&self) {
        let fired = self.fired();
        for (rule, fired) in self.faults.rules.iter().zip(&fired) {
            assert!(*fired > 0, "{rule:?} never fired: the test did not reach what it is about");
        }
    }

    async fn before(&self, operation: Operation, location: Option<&Path>) -> Result<Fate> {
        let fate = self.faults.fate(operation, location);
        for (rule, effect) in &fate.effects {
            self.faults.before(*rule, effect, operation, location).await?;
        }
        Ok(fate)
    }

    /// Puts the rival's object where the caller is about to put its own.
    async fn lose_race(&self, fate: &Fate, location: &Path, mode: &PutMode) -> Result<()> {
        for (rule, effect) in &fate.effects {
            let Effect::LostRace { rival } = effect else { continue };
            let mode = if *mode == PutMode::Create { PutMode::Create } else { PutMode::Overwrite };
            match self.inner.put_opts(location, rival.clone().into(), mode.into()).await {
                Ok(_) => self.faults.count(*rule),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, rule: usize) {
        self.lock().fired[rule] += 1;
    }

    /// Decides which rules befall a call.
    fn fate(&self, operation: Operation, location: Option<&Path>) -> Fate {
        let mut state = self.lock();
        *state.calls.entry(operation).or_default() += 1;
        let mut fate = Fate::default();
        if !self.enabled.load(Ordering::Relaxed) {
            return fate;
        }
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.matches(operation, location)) {
            let number = state.matched[index];
            state.matched[index] += 1;
            if rule.befalls(number, &mut state.rng) {
                fate.effects.push((index, rule.effect().clone()));
            }
        }
        fate
    }

    /// What an effect does before the call reaches the store.
    async fn before(&self, rule: usize, effect: &Effect, operation: Operation, at: Option<&Path>) -> Result<()> {
        match effect {
            Effect::Latency { min, max } => {
                self.count(rule);
                let latency = self.lock().rng.random_range(*min..=*max);
                self.clock.sleep(latency).await;
            }
            Effect::Fail(failure) => {
                self.count(rule);
                return Err(failure.error(operation, at));
            }
            Effect::Hang => {
                self.count(rule);
                futures::future::pending::<()>().await;
            }
            Effect::ApplyThenFail(_)
            | Effect::Truncate
            | Effect::Flip
            | Effect::StaleList
            | Effect::Overwrite
            | Effect::LostRace { .. } => {}
        }
        Ok(())
    }

    /// What the effects do after the store has answered: an answer that was fine becomes an error.
    fn after<T>(&self, fate: &Fate, operation: Operation, at: Option<&Path>, answer: Result<T>) -> Result<T> {
        let answer = answer?;
        for (rule, effect) in &fate.effects {
            if let Effect::ApplyThenFail(failure) = effect {
                self.count(*rule);
                return Err(failure.error(operation, at));
            }
        }
        Ok(answer)
    }

    fn remember_put(&self, location: &Path) {
        let mut state = self.lock();
        state.newest.push_back(location.clone());
        if state.newest.len() > STALE_PUTS {
            state.newest.pop_front();
        }
    }

    /// Whether a stale list leaves the object out.
    fn hides(&self, fate: &Fate, object: &ObjectMeta) -> bool {
        let stale = fate.effects.iter().find(|(_, effect)| matches!(effect, Effect::StaleList));
        let Some((rule, _)) = stale else { return false };
        let mut state = self.lock();
        let hidden = state.newest.contains(&object.location);
        state.fired[*rule] += u64::from(hidden);
        hidden
    }
}

impl FaultStore {
    fn listed(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce(&dyn ObjectStore, Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let stream = async move {
            let fate = store.before(Operation::List, prefix.as_ref()).await?;
            // Only now: a list that comes late shows what is there by then.
            let objects = list(&store.inner, prefix.as_ref());
            let faults = Arc::clone(&store.faults);
            let shown = objects.try_filter(move |object| futures::future::ready(!faults.hides(&fate, object)));
            Ok::<_, object_store::Error>(shown)
        };
        stream.into_stream().try_flatten().boxed()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fate = self.before(Operation::Put, Some(location)).await?;
        if let Some((rule, _)) = fate.effects.iter().find(|(_, effect)| *effect == Effect::Overwrite) {
            self.faults.count(*rule);
            options.mode = PutMode::Overwrite;
        }
        self.lose_race(&fate, location, &options.mode).await?;
        let answer = self.inner.put_opts(location, payload, options).await;
        if answer.is_ok() {
            self.faults.remember_put(location);
        }
        self.faults.after(&fate, Operation::Put, Some(location), answer)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fate = self.before(Operation::Multipart, Some(location)).await?;
        let answer = self.inner.put_multipart_opts(location, options).await;
        let inner = self.faults.after(&fate, Operation::Multipart, Some(location), answer)?;
        Ok(Box::new(FaultUpload { inner, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let fate = self.before(operation, Some(location)).await?;
        let answer = self.inner.get_opts(location, options).await;
        let answer = self.faults.after(&fate, operation, Some(location), answer)?;
        if operation == Operation::Get { body::damage(&self.faults, &fate, answer).await } else { Ok(answer) }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fate = self.before(Operation::Get, Some(location)).await?;
        let answer = self.inner.get_ranges(location, ranges).await;
        let parts = self.faults.after(&fate, Operation::Get, Some(location), answer)?;
        Ok(parts.into_iter().map(|part| body::damage_bytes(&self.faults, &fate, part)).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                let fate = store.before(Operation::Delete, Some(&location)).await?;
                let one = futures::stream::once(futures::future::ready(Ok(location.clone()))).boxed();
                let answer = store.inner.delete_stream(one).try_collect::<Vec<Path>>().await;
                store.faults.after(&fate, Operation::Delete, Some(&location), answer)?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listed(prefix, |inner, prefix| inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.listed(prefix, move |inner, prefix| inner.list_with_offset(prefix, &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fate = self.before(Operation::List, prefix).await?;
        let mut answer = self.inner.list_with_delimiter(prefix).await?;
        answer.objects.retain(|object| !self.faults.hides(&fate, object));
        Ok(answer)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fate = self.before(Operation::Copy, Some(to)).await?;
        let answer = self.inner.copy_opts(from, to, options).await;
        self.faults.after(&fate, Operation::Copy, Some(to), answer)
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let fate = self.before(Operation::Rename, Some(to)).await?;
        let answer = self.inner.rename_opts(from, to, options).await;
        self.faults.after(&fate, Operation::Rename, Some(to), answer)
    }
}

#[derive(Debug)]
struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    store: FaultStore,
    location: Path,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let (store, location) = (self.store.clone(), self.location.clone());
        async move {
            let fate = store.before(Operation::Multipart, Some(&location)).await?;
            store.faults.after(&fate, Operation::Multipart, Some(&location), part.await)
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fate = self.store.before(Operation::Multipart, Some(&self.location)).await?;
        let answer = self.inner.complete().await;
        self.store.faults.after(&fate, Operation::Multipart, Some(&self.location), answer)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
