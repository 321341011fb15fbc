//! Put-if-absent that knows its own hand: the one compare-and-swap that every store has.
//!
//! A put that failed may have been applied. The name is then read back: the same bytes (they hold the writer's id) mean
//! that it was. Invariant: [`Created::Mine`] is answered only if exactly these bytes stand under the name.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rand::Rng;

use crate::{Clock, Error, ErrorKind, Result};

/// How often a failing store is asked before the call gives up; with the waits between, about 12 seconds.
pub const STORE_ATTEMPTS_MAX: u32 = 10;
const WAIT_FIRST: Duration = Duration::from_millis(20);
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How a put-if-absent ended.
#[derive(Debug)]
pub(crate) enum Created {
    /// The object holds these bytes.
    Mine,
    /// Another got the name first, with these bytes.
    Taken(Bytes),
}

/// Creates `path` unless it exists. `bytes` must name their writer, so that no two writers ever put the same.
pub(crate) async fn create(store: &dyn ObjectStore, clock: &dyn Clock, path: &Path, bytes: Bytes) -> Result<Created> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let mut last = None;
    for attempt in 0..STORE_ATTEMPTS_MAX {
        if attempt > 0 {
            clock.sleep(wait(attempt)).await;
        }
        match store.put_opts(path, bytes.clone().into(), options.clone()).await {
            Ok(_) => return Ok(Created::Mine),
            Err(error @ (object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })) => {
                let message = "the store has no put-if-absent, on which every commit stands; take another store";
                return Err(Error::new(ErrorKind::InvalidInput, message).with_source(error));
            }
            Err(error) => last = Some(error),
        }
        match store.get(path).await {
            Ok(found) => match found.bytes().await {
                Ok(found) if found == bytes => return Ok(Created::Mine),
                Ok(found) => return Ok(Created::Taken(found)),
                Err(error) => last = Some(error),
            },
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => last = Some(error),
        }
    }
    let message = format!("creating {path} failed {STORE_ATTEMPTS_MAX} times; whether it exists is not known");
    let error = Error::new(ErrorKind::Unavailable, message);
    Err(match last {
        Some(cause) => error.with_source(cause),
        None => error,
    })
}

/// Reads a whole object; `None` if there is none.
pub(crate) async fn read(store: &dyn ObjectStore, clock: &dyn Clock, path: &Path) -> Result<Option<Bytes>> {
    let mut attempt = 0;
    loop {
        let failed = match store.get(path).await {
            Ok(found) => match found.bytes().await {
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

/// The numbers that name the objects directly under `prefix`, sorted.
pub(crate) async fn numbers(store: &dyn ObjectStore, clock: &dyn Clock, prefix: &Path) -> Result<Vec<u64>> {
    let names = names(store, clock, prefix).await?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|path| path.filename()?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The objects under `prefix`, sorted.
pub(crate) async fn names(store: &dyn ObjectStore, clock: &dyn Clock, prefix: &Path) -> Result<Vec<Path>> {
    use futures::TryStreamExt;
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

/// Deletes an object; that it is gone already is as good.
pub(crate) async fn delete(store: &dyn ObjectStore, clock: &dyn Clock, path: &Path) -> Result<()> {
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
fn wait(attempt: u32) -> Duration {
    let doubled = WAIT_FIRST.saturating_mul(1 << attempt.min(16)).min(WAIT_MAX);
    doubled.mul_f64(rand::rng().random_range(0.5..1.0))
}
