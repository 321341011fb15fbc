//! Put-if-absent that knows its own hand: the one compare-and-swap that every store has.
//!
//! A put that failed may have been applied. The name is then read back: the same bytes (they hold the writer's id) mean
//! that it was. Invariant: [`Created::Mine`] is answered only if exactly these bytes stand under the name.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::retrying::{STORE_ATTEMPTS_MAX, wait, whole};
use crate::{Clock, Error, ErrorKind, Result};

/// How often a name is read until two readings agree.
const READINGS_MAX: u32 = 3;

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
    let mut failed = None;
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
            Err(error) => failed = Some(Error::from(error)),
        }
        // At once: whoever lost must hear of it before the name can be trimmed and be free again.
        match standing(store, path, &bytes).await {
            Ok(Some(created)) => return Ok(created),
            // Who has taken the name has freed it since.
            Ok(None) if failed.as_ref().is_some_and(|error| error.kind() == ErrorKind::AlreadyExists) => {}
            Ok(None) => {
                if let Some(refusal) = failed.take_if(|error| !error.is_retryable()) {
                    return Err(refusal);
                }
            }
            Err(error) => failed = Some(Error::from(error)),
        }
    }
    let message = format!("creating {path} failed {STORE_ATTEMPTS_MAX} times; whether it exists is not known");
    let Some(cause) = failed else { return Err(Error::new(ErrorKind::Unavailable, message)) };
    // A full store says so, since that passes when there is room.
    let kind = if cause.kind() == ErrorKind::LimitExceeded { cause.kind() } else { ErrorKind::Unavailable };
    Err(Error::new(kind, message).with_source(cause))
}

/// Who has the name; `None` if nobody has, or if each reading differs from the one before.
async fn standing(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> object_store::Result<Option<Created>> {
    let mut other = None;
    for _ in 0..READINGS_MAX {
        let found = match store.get(path).await {
            Ok(found) => whole(found).await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if found == *bytes {
            return Ok(Some(Created::Mine));
        }
        // Read a second time: a bit that flipped on the way would make one's own look like another's.
        if other.as_ref() == Some(&found) {
            return Ok(Some(Created::Taken(found)));
        }
        other = Some(found);
    }
    Ok(None)
}
