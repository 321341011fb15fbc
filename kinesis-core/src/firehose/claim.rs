//! One delivery stream of a name at a time on one stream: two would both deliver the same records.
//!
//! Other processes are kept out by the instance itself, which one process at a time has open. A claim is given up when
//! all that works under it is gone, not when its handle is: until then the next one waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use crate::{Error, ErrorKind, Result};

/// Who consumes a stream exclusively, by consumer.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<BTreeMap<String, Weak<Claim>>>);

/// The right to consume. It ends when the last clone is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    abandoned: AtomicBool,
    held: watch::Sender<()>,
}

impl Claims {
    /// Claims `consumer`, after waiting for an abandoned claim to end.
    ///
    /// # Errors
    ///
    /// `Conflict` if it is claimed by somebody who still works.
    pub(super) async fn claim(&self, consumer: &str) -> Result<Arc<Claim>> {
        loop {
            let mut released = match self.claim_now(consumer)? {
                Ok(claim) => return Ok(claim),
                Err(released) => released,
            };
            // Nothing is ever sent: this ends with the claim.
            let _ = released.changed().await;
        }
    }

    /// The claim, or what ends when the abandoned one before it does.
    fn claim_now(&self, consumer: &str) -> Result<Result<Arc<Claim>, watch::Receiver<()>>> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match claims.get(consumer).and_then(Weak::upgrade) {
            Some(claim) if claim.abandoned.load(Ordering::Acquire) => Ok(Err(claim.held.subscribe())),
            Some(_) => Err(Error::new(
                ErrorKind::Conflict,
                format!("'{consumer}' works on this stream already: use its handle, or close it first"),
            )),
            None => {
                let claim = Arc::new(Claim { abandoned: AtomicBool::new(false), held: watch::Sender::new(()) });
                claims.insert(consumer.to_owned(), Arc::downgrade(&claim));
                Ok(Ok(claim))
            }
        }
    }
}

impl Claim {
    /// Whoever comes next may wait for the end.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_next_one_waits_for_the_end_of_an_abandoned_claim_only() {
        let claims = Claims::default();
        let first = claims.claim("a").now_or_never().unwrap().unwrap();
        assert_eq!(claims.claim("a").now_or_never().unwrap().unwrap_err().kind(), ErrorKind::Conflict);
        assert!(claims.claim("b").now_or_never().unwrap().is_ok());
        first.abandon();
        let mut second = Box::pin(claims.claim("a"));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().unwrap().is_ok());
    }
}
