//! Reads, lists, puts and deletes that ask a failing store again, with growing waits and jitter.
//!
//! For objects that are written once under their name, where asking again is harmless. Invariant: what is answered is
//! what the store said last; nothing is made up.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetResult, ObjectStore, ObjectStoreExt};
use rand::Rng;

use crate::{Clock, Error, Result};

/// How often a failing store is asked before the call gives up; with the waits between, about 12 seconds.
pub const STORE_ATTEMPTS_MAX: u32 = 10;
const WAIT_FIRST: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Reads a whole object; `None` if there is none. Dropping the future changes nothing.
///
/// # Errors
/// As the store reports them.
pub async fn read(store: &dyn ObjectStore, clock: &dyn Clock, path: &Path) -> Result<Option<Bytes>> {
    let mut attempt = 0;
    loop {
        let failed = match store.get(path).await {
            Ok(found) => match whole(found).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) => error,
            },
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => error,
        };
        attempt += 1;
        retry(clock, attempt, failed).await?;
    }
}

/// The bytes that a get answers with, if they are all there: a connection may end early without an error.
pub(crate) async fn whole(found: GetResult) -> object_store::Result<Bytes> {
    let expected = found.range.end - found.range.start;
    let location = found.meta.location.clone();
    let bytes = found.bytes().await?;
    if bytes.len() as u64 == expected {
        return Ok(bytes);
    }
    let told = format!("{location}: {} of {expected} bytes arrived", bytes.len());
    Err(object_store::Error::Generic { store: "durable-core", source: told.into() })
}

/// The numbers that name the objects directly under `prefix`, sorted.
pub(crate) async fn numbers(store: &dyn ObjectStore, clock: &dyn Clock, prefix: &Path) -> Result<Vec<u64>> {
    let names = names(store, clock, prefix).await?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|path| path.filename()?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The objects under `prefix`, sorted. Dropping the future changes nothing.
///
/// # Errors
/// As the store reports them.
pub async fn names(store: &dyn ObjectStore, clock: &dyn Clock, prefix: &Path) -> Result<Vec<Path>> {
    let mut attempt = 0;
    loop {
        let listed = store.list(Some(prefix)).map_ok(|meta| meta.location).try_collect::<Vec<_>>().await;
        match listed {
            Ok(mut names) => {
                names.sort_unstable();
                return Ok(names);
            }
            Err(error) => {
                attempt += 1;
                retry(clock, attempt, error).await?;
            }
        }
    }
}

/// Puts an object, replacing what has its name: right only where whoever puts it puts the same. Dropping the future may
/// leave it put or not.
///
/// # Errors
/// As the store reports them.
pub async fn put(store: &dyn ObjectStore, clock: &dyn Clock, path: &Path, bytes: Bytes) -> Result<()> {
    let mut attempt = 0;
    loop {
        match store.put(path, bytes.clone().into()).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                attempt += 1;
                retry(clock, attempt, error).await?;
            }
        }
    }
}

/// Deletes an object; that it is gone already is as good. Dropping the future may leave it deleted or not.
///
/// # Errors
/// As the store reports them.
pub async fn delete(store: &dyn ObjectStore, clock: &dyn Clock, path: &Path) -> Result<()> {
    let mut attempt = 0;
    loop {
        match store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => {
                attempt += 1;
                retry(clock, attempt, error).await?;
            }
        }
    }
}

/// Waits before the next attempt, or gives up with `error`.
async fn retry(clock: &dyn Clock, attempt: u32, error: object_store::Error) -> Result<()> {
    let error = Error::from(error);
    if attempt >= STORE_ATTEMPTS_MAX || !error.is_retryable() {
        return Err(error);
    }
    clock.sleep(wait(attempt)).await;
    Ok(())
}

/// Doubles from attempt to attempt, with jitter so that many who fail together do not come back together.
pub(crate) fn wait(attempt: u32) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1 << attempt.min(16)).min(WAIT_MAX);
    doubled.mul_f64(rand::rng().random_range(0.5..1.0))
}
