//! Put-if-absent that knows its own hand: the one compare-and-swap that every store has.
//!
//! A put that failed may have been applied. The name is then read back: the same bytes (they hold the writer's id) mean
//! that it was. Invariant: [`Created::Mine`] is answered only if exactly these bytes stand under the name.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use crate::retrying::{STORE_ATTEMPTS_MAX, wait, whole};
use crate::{Clock, Error, ErrorKind, Result};

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
    let (mut last, mut refusal) = (None, None);
    let mut other = None;
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
            Ok(found) => match whole(found).await {
                Ok(found) if found == bytes => return Ok(Created::Mine),
                // Read a second time: a bit that flipped on the way would make one's own look like another's.
                Ok(found) if Some(&found) == other.as_ref() => return Ok(Created::Taken(found)),
                Ok(found) => other = Some(found),
                Err(error) => last = Some(error),
            },
            Err(object_store::Error::NotFound { .. }) => {
                if let Some(refused) = last.take().map(Error::from) {
                    if !refused.is_retryable() {
                        return Err(refused);
                    }
                    refusal = Some(refused);
                }
            }
            Err(error) => last = Some(error),
        }
    }
    let message = format!("creating {path} failed {STORE_ATTEMPTS_MAX} times; whether it exists is not known");
    let Some(cause) = last.map(Error::from).or(refusal) else {
        return Err(Error::new(ErrorKind::Unavailable, message));
    };
    // A full store says so, since that passes when there is room.
    let kind = if cause.kind() == ErrorKind::LimitExceeded { cause.kind() } else { ErrorKind::Unavailable };
    Err(Error::new(kind, message).with_source(cause))
}
