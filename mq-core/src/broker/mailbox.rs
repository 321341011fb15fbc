//! A consumer's mailbox: where its deliveries arrive, and how far its app has come.
//!
//! Invariant: a delivery is shown to the app or taken back uncounted, never both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::engine::Handover;
use crate::error::Error;

/// What a consumer finds in its mailbox.
pub(crate) type Mail = Result<Handover, Error>;

/// The broker's end of a mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) mail: mpsc::Sender<Mail>,
    pub(crate) seen: Arc<Seen>,
}

/// The number of the last delivery that the app was shown.
#[derive(Debug, Default)]
pub(crate) struct Seen(AtomicU64);

/// It is shown no more.
const SHUT: u64 = u64::MAX;

impl Seen {
    /// Notes that the app is about to see this delivery. Answers whether it may.
    pub(crate) fn show(&self, number: u64) -> bool {
        let next = |seen: u64| (seen != SHUT).then_some(number);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// Ends the showing, and answers the last number that was shown; nothing if it had ended before.
    pub(crate) fn shut(&self) -> Option<u64> {
        Some(self.0.swap(SHUT, Ordering::SeqCst)).filter(|seen| *seen != SHUT)
    }
}
