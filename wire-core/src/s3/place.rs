//! Bytes that arrive, and the object they become.
//!
//! Invariant: an object is complete or absent. Bytes are held up to one part's size; what is longer goes to the store part by
//! part, and is named once it is complete and its sums are right.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, UpdateVersion,
};
use s3s::dto::ETagCondition;
use s3s::{S3Error, S3Result, s3_error};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};

use super::described::{Described, Keeping};
use super::error;

/// What a part of a long object is held in memory for: stores take parts of 5 MiB and more, and at most 10,000.
const PART_BYTES: usize = 8 << 20;

/// Bodies that are held in memory at once.
const BODIES_MAX: usize = 16;

/// Keys share locks.
const LOCKS: usize = 64;

/// Where long objects grow that are put under a condition.
const STAGING: &str = ".%staging";

/// When an object may be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// There is none of that name.
    Absent,
    /// There is one, with this entity tag if one is told.
    Present(Option<String>),
}

impl Condition {
    pub(super) fn new(if_match: Option<ETagCondition>, if_none_match: Option<ETagCondition>) -> S3Result<Self> {
        match (if_match, if_none_match) {
            (None, None) => Ok(Self::Always),
            (None, Some(ETagCondition::Any)) => Ok(Self::Absent),
            (Some(ETagCondition::Any), None) => Ok(Self::Present(None)),
            (Some(ETagCondition::ETag(e_tag)), None) => Ok(Self::Present(Some(e_tag.into_value()))),
            _ => Err(s3_error!(NotImplemented, "a put takes If-Match, or If-None-Match: *")),
        }
    }
}

/// Bytes that come in pieces. After the last piece they are known to be whole and right.
pub(super) trait Source: Send {
    fn next(&mut self) -> impl Future<Output = S3Result<Option<Bytes>>> + Send;
}

/// Puts objects into a store.
#[derive(Debug)]
pub(super) struct Placer {
    store: Arc<dyn ObjectStore>,
    room: Semaphore,
    locks: Vec<RwLock<()>>,
    pub(super) keeping: Keeping,
}

/// While it lives, nobody else on this port changes the object, if that matters for what is done.
enum Lock<'a> {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'a, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'a, ()>),
}

impl Placer {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        let locks = (0..LOCKS).map(|_| RwLock::default()).collect();
        Self { store, room: Semaphore::new(BODIES_MAX), locks, keeping: Keeping::default() }
    }

    /// Puts the bytes of a source under a name, and tells their entity tag.
    pub(super) async fn put(
        &self,
        to: &Path,
        source: &mut impl Source,
        condition: Condition,
        described: &Described,
    ) -> S3Result<String> {
        let _room = self.room.acquire().await.map_err(S3Error::internal_error)?;
        let mut parts = Parts::new(source);
        let (first, is_all) = parts.next().await?;
        if is_all {
            return self.put_whole(to, first, &condition, described).await;
        }
        if condition == Condition::Always {
            return self.put_parts(to, first, parts, described).await;
        }
        // A long object under a condition grows elsewhere, since only what is complete can be put under one.
        let staged = Path::from_iter([STAGING.to_owned(), super::random_id()]);
        self.put_parts(&staged, first, parts, described).await?;
        let outcome = self.rename(&staged, to, &condition).await;
        if outcome.is_err() {
            // What is left if this fails is never seen; it costs its bytes.
            if let Err(error) = self.store.delete(&staged).await {
                tracing::warn!(%error, %staged, "a staged object was not removed");
            }
        }
        outcome
    }

    /// Changes an object by other means, under the lock that conditions need.
    pub(super) async fn while_locked<T>(&self, at: &Path, condition: &Condition, change: impl Future<Output = T>) -> T {
        let _lock = self.lock(at, condition).await;
        change.await
    }

    async fn put_whole(&self, to: &Path, part: Part, condition: &Condition, described: &Described) -> S3Result<String> {
        let payload = PutPayload::from_iter(part.pieces);
        let _lock = self.lock(to, condition).await;
        let mut mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Present(_) => PutMode::Update(self.present(to, condition).await?),
        };
        let mut attributes = self.keeping.attributes(described);
        loop {
            let options = PutOptions { mode: mode.clone(), attributes: attributes.clone(), ..PutOptions::default() };
            let outcome = self.store.put_opts(to, payload.clone(), options).await;
            match outcome {
                // This store cannot compare by itself: the lock makes that one step for this port's clients.
                Err(Error::NotImplemented { .. }) if matches!(mode, PutMode::Update(_)) => mode = PutMode::Overwrite,
                outcome if self.keeping.learn(&attributes, &outcome) => attributes = Attributes::default(),
                outcome => return outcome.map(|put| e_tag(put.e_tag)).map_err(error::told),
            }
        }
    }

    async fn put_parts(
        &self,
        to: &Path,
        first: Part,
        mut parts: Parts<'_, impl Source>,
        described: &Described,
    ) -> S3Result<String> {
        let mut upload = self.begin(to, described).await.map_err(error::told)?;
        let outcome = async {
            let (mut part, mut is_last) = (first, false);
            loop {
                if part.bytes > 0 {
                    upload.put_part(PutPayload::from_iter(part.pieces)).await.map_err(error::told)?;
                }
                // The source says at its end whether all is right: until then nothing is named.
                if is_last {
                    break;
                }
                (part, is_last) = parts.next().await?;
            }
            let _lock = self.lock(to, &Condition::Always).await;
            upload.complete().await.map_err(error::told)
        }
        .await;
        match outcome {
            Ok(put) => Ok(e_tag(put.e_tag)),
            Err(error) => {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, %to, "an upload was not aborted");
                }
                Err(error)
            }
        }
    }

    async fn begin(&self, to: &Path, described: &Described) -> object_store::Result<Box<dyn MultipartUpload>> {
        let attributes = self.keeping.attributes(described);
        let options = PutMultipartOptions { attributes: attributes.clone(), ..PutMultipartOptions::default() };
        let outcome = self.store.put_multipart_opts(to, options).await;
        match self.keeping.learn(&attributes, &outcome) {
            true => self.store.put_multipart(to).await,
            false => outcome,
        }
    }

    /// Gives a complete object its name.
    async fn rename(&self, from: &Path, to: &Path, condition: &Condition) -> S3Result<String> {
        let _lock = self.lock(to, condition).await;
        let renamed = match condition {
            Condition::Absent => self.store.rename_if_not_exists(from, to).await,
            Condition::Always => self.store.rename(from, to).await,
            Condition::Present(_) => {
                self.present(to, condition).await?;
                self.store.rename(from, to).await
            }
        };
        renamed.map_err(error::told)?;
        Ok(e_tag(self.store.head(to).await.map_err(error::told)?.e_tag))
    }

    /// The version that is there, if it is the one that the condition wants.
    pub(super) async fn present(&self, at: &Path, condition: &Condition) -> S3Result<UpdateVersion> {
        let found = self.store.head(at).await.map_err(error::told)?;
        if let Condition::Present(Some(wanted)) = condition
            && e_tag(found.e_tag.clone()) != *wanted
        {
            return Err(error::precondition());
        }
        Ok(UpdateVersion { e_tag: found.e_tag, version: found.version })
    }

    async fn lock(&self, at: &Path, condition: &Condition) -> Option<Lock<'_>> {
        let mut hasher = DefaultHasher::new();
        at.hash(&mut hasher);
        let lock = self.locks.get(usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default())?;
        Some(match condition {
            Condition::Present(_) => Lock::Alone(lock.write().await),
            _ => Lock::Shared(lock.read().await),
        })
    }
}

/// An entity tag without its quotes.
pub(super) fn e_tag(told: Option<String>) -> String {
    let told = told.unwrap_or_default();
    told.strip_prefix("W/").unwrap_or(&told).trim_matches('"').to_owned()
}

/// A piece of an object, up to what is held in memory.
#[derive(Default)]
struct Part {
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// A source in parts.
struct Parts<'a, S> {
    source: &'a mut S,
    /// What did not fit into the part before.
    rest: Bytes,
}

impl<'a, S: Source> Parts<'a, S> {
    fn new(source: &'a mut S) -> Self {
        Self { source, rest: Bytes::new() }
    }

    /// The next part, and whether it is the last: one that is full may be followed by one that is empty.
    async fn next(&mut self) -> S3Result<(Part, bool)> {
        let mut part = Part::default();
        loop {
            let mut piece = match std::mem::take(&mut self.rest) {
                rest if !rest.is_empty() => rest,
                _ => match self.source.next().await? {
                    Some(piece) => piece,
                    None => return Ok((part, true)),
                },
            };
            self.rest = piece.split_off(piece.len().min(PART_BYTES - part.bytes));
            part.bytes += piece.len();
            part.pieces.push(piece);
            if part.bytes == PART_BYTES {
                return Ok((part, false));
            }
        }
    }
}
