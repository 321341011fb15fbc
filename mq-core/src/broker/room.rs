//! Memory as credit: a publisher pays for its message before the engine takes it, and gets it back when it leaves.
//!
//! Invariant: what was handed out less what came back is what the engine's messages take, or the limit if that is less.
//! What a command took beyond what it had paid (a message in many queues, a dead letter) is taken from what is free, and
//! from what comes back next.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::settings::Overload;
use crate::error::{Error, Result};

/// The broker's memory for messages.
#[derive(Debug)]
pub(crate) struct Room {
    free: Semaphore,
    limit: usize,
    overload: Overload,
}

/// What was taken beyond the limit: by recovery, by dead letters, by a message in many queues. It is paid back first.
#[derive(Debug, Default)]
pub(crate) struct Debt(usize);

impl Room {
    /// Room of `limit` bytes, of which `used` are taken.
    pub(crate) fn new(limit: usize, used: usize, overload: Overload) -> (Self, Debt) {
        let free = Semaphore::new(limit.saturating_sub(used).min(Semaphore::MAX_PERMITS));
        (Self { free, limit, overload }, Debt(used.saturating_sub(limit)))
    }

    /// Takes room for a message, or waits for it, first come first served.
    pub(crate) async fn take(&self, bytes: usize) -> Result<Credit<'_>> {
        let count = u32::try_from(bytes).ok().filter(|_| bytes <= self.limit).ok_or_else(|| {
            let limit = self.limit;
            Error::limit(format!("a message that takes {bytes} bytes: the broker has memory for {limit}"))
        })?;
        let permit = match self.overload {
            Overload::Refuse => self.free.try_acquire_many(count).map_err(|_| {
                let limit = self.limit;
                Error::limit(format!("the broker's {limit} bytes for messages are full: consume some, then try again"))
            })?,
            Overload::Wait => self.free.acquire_many(count).await.map_err(|_| Error::closed())?,
        };
        Ok(Credit { permit, bytes })
    }

    /// Settles what a command cost: it paid `paid`, and the engine's messages took `before` bytes and take `after`.
    pub(crate) fn settle(&self, debt: &mut Debt, paid: Option<Credit<'_>>, before: usize, after: usize) {
        let credit = paid.map_or(0, |credit| {
            credit.permit.forget();
            credit.bytes
        });
        let (given, taken) = (credit + before, after + debt.0);
        let owed = taken.saturating_sub(given);
        debt.0 = owed - self.free.forget_permits(owed);
        self.free.add_permits(given.saturating_sub(taken));
    }

    /// Wakes whoever waits: the broker is closed.
    pub(crate) fn close(&self) {
        self.free.close();
    }
}

/// Room for one message. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Credit<'a> {
    permit: SemaphorePermit<'a>,
    bytes: usize,
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_waiter_is_served_when_enough_came_back() {
        let (room, mut debt) = Room::new(100, 0, Overload::Wait);
        let credit = room.take(80).now_or_never().unwrap().unwrap();
        room.settle(&mut debt, Some(credit), 0, 80);
        let mut waiting = Box::pin(room.take(30));
        assert!(waiting.as_mut().now_or_never().is_none());
        room.settle(&mut debt, None, 80, 60);
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[test]
    fn what_a_command_took_beyond_its_credit_is_not_free() {
        let (room, mut debt) = Room::new(100, 0, Overload::Refuse);
        let credit = room.take(20).now_or_never().unwrap().unwrap();
        room.settle(&mut debt, Some(credit), 0, 70);
        assert!(room.take(31).now_or_never().unwrap().is_err());
        let credit = room.take(30).now_or_never().unwrap().unwrap();
        room.settle(&mut debt, Some(credit), 70, 130);
        room.settle(&mut debt, None, 130, 90);
        assert!(room.take(11).now_or_never().unwrap().is_err());
        assert!(room.take(10).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn debts_are_paid_first() {
        let (room, mut debt) = Room::new(100, 150, Overload::Refuse);
        room.settle(&mut debt, None, 150, 110);
        let refusal = room.take(1).now_or_never().unwrap().unwrap_err();
        assert_eq!((refusal.kind(), refusal.code()), (crate::ErrorKind::LimitExceeded, Some("RESOURCE_ERROR")));
        room.settle(&mut debt, None, 110, 40);
        assert!(room.take(60).now_or_never().unwrap().is_ok());
        assert!(room.take(61).now_or_never().unwrap().is_err());
        assert!(room.take(101).now_or_never().unwrap().is_err(), "never fits");
    }
}
