//! The bound on records in memory: room is taken before a put is submitted, and given back when records are evicted.
//!
//! Invariant: room taken never exceeds the tail's bytes, but for what recovery found in the journal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use durable_core::ErrorKind;
use tokio::sync::{Notify, Semaphore, watch};

use crate::error::{Error, Result};

/// Room for records in memory.
#[derive(Debug)]
pub(crate) struct Room {
    bytes_max: usize,
    free: Semaphore,
    /// What recovery took beyond the bound; paid back before room is free again.
    debt: Mutex<usize>,
    waiting: AtomicUsize,
    /// Wakes the sealer.
    pub(crate) work: Notify,
    /// Why sealing fails, while it does.
    pub(crate) fault: watch::Sender<Option<Fault>>,
}

/// Why sealing fails.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: ErrorKind,
    reason: String,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        // Whoever was deposed has to know it; all else may pass.
        let kind = if error.kind() == ErrorKind::Fenced { ErrorKind::Fenced } else { ErrorKind::Unavailable };
        Self { kind, reason: format!("{error:?}") }
    }
}

/// Room that was taken and not yet used: dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Taken<'_> {
    /// Leaves the room to the records that are about to fill it.
    pub(crate) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

impl Room {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            free: Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS)),
            debt: Mutex::new(0),
            waiting: AtomicUsize::new(0),
            work: Notify::new(),
            fault: watch::Sender::new(None),
        }
    }

    /// Bytes that records take now.
    pub(crate) fn used(&self) -> usize {
        let debt = *self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        (self.bytes_max + debt).saturating_sub(self.free.available_permits())
    }

    /// Whether somebody waits for room.
    pub(crate) fn wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Waits for room for `bytes`; others that came first are served first. Dropping the future gives up the place.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Taken<'_>> {
        let most = self.bytes_max / 2;
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= most).ok_or_else(|| {
            Error::limit(format!(
                "a batch takes {bytes} bytes of memory, the tail has room for {most}; raise tail_bytes"
            ))
        })?;
        if let Ok(permit) = self.free.try_acquire_many(permits) {
            permit.forget();
            return Ok(Taken { room: self, bytes });
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let _leave = scopeguard(|| {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        });
        self.work.notify_one();
        let mut fault = self.fault.subscribe();
        tokio::select! {
            biased;
            permit = self.free.acquire_many(permits) => {
                permit.map_err(|_| Error::closed())?.forget();
                Ok(Taken { room: self, bytes })
            }
            Ok(fault) = fault.wait_for(Option::is_some) => {
                let (kind, reason) = fault.as_ref().map_or((ErrorKind::Unavailable, ""), |fault| (fault.kind, &fault.reason));
                Err(Error::new(kind, format!("memory is full and records cannot be sealed: {reason}")))
            }
        }
    }

    /// Takes room for what recovery found, whatever there is.
    pub(crate) fn take_recovered(&self, bytes: usize) {
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.free.forget_permits(bytes);
        *debt += bytes - taken;
    }

    /// Gives room back.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let paid = bytes.min(*debt);
        *debt -= paid;
        self.free.add_permits(bytes - paid);
    }

    /// Refuses everybody from now on.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

/// Runs `leave` when dropped.
fn scopeguard<F: Fn()>(leave: F) -> impl Drop {
    struct Guard<F: Fn()>(F);
    impl<F: Fn()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(leave)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_recovery_took_beyond_the_bound_is_paid_back_first() {
        let room = Room::new(100);
        room.take_recovered(130);
        assert_eq!(room.used(), 130);
        room.give_back(40);
        assert_eq!(room.used(), 90);
        assert!(room.take(20).now_or_never().is_none());
        room.give_back(90);
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn a_failing_store_is_an_error_not_a_hang() {
        let room = Room::new(100);
        room.take(50).now_or_never().unwrap().unwrap().keep();
        room.take(50).now_or_never().unwrap().unwrap().keep();
        let mut waiter = Box::pin(room.take(1));
        assert!(waiter.as_mut().now_or_never().is_none() && room.wanted());
        room.fault.send_replace(Some(Fault::from(&Error::limit("no space"))));
        assert_eq!(waiter.now_or_never().unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(!room.wanted());
        // One that was deposed is told so.
        room.fault.send_replace(Some(Fault::from(&Error::new(ErrorKind::Fenced, "taken over"))));
        assert_eq!(room.take(1).now_or_never().unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    }

    #[test]
    fn room_that_was_not_used_is_free_again() {
        let room = Room::new(100);
        drop(room.take(50).now_or_never().unwrap().unwrap());
        assert_eq!(room.used(), 0);
        assert_eq!(room.take(51).now_or_never().unwrap().unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}
