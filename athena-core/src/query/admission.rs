//! How many queries run at a time, and how many may wait.
//!
//! Invariant: never more than the bounds; a query past them is refused at once and can be tried again.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, ErrorKind, Result, Stage};

/// The two bounds.
#[derive(Debug)]
pub(crate) struct Admission {
    running: Arc<Semaphore>,
    /// Permits for every query that is in the house, waiting or running.
    present: Arc<Semaphore>,
    present_max: usize,
}

/// A place in the queue; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    running: Arc<Semaphore>,
    /// The turn, if it came at once and was not yet taken up.
    turn: Option<OwnedSemaphorePermit>,
    _present: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(running_max: usize, queued_max: usize) -> Self {
        let present_max = running_max.saturating_add(queued_max).min(Semaphore::MAX_PERMITS);
        Self {
            running: Arc::new(Semaphore::new(running_max)),
            present: Arc::new(Semaphore::new(present_max)),
            present_max,
        }
    }

    /// A place, or a refusal when the queue is full. The turn comes with it if one is free, so that who enters first
    /// runs first.
    pub(crate) fn enter(&self) -> Result<Place> {
        match Arc::clone(&self.present).try_acquire_owned() {
            Ok(present) => {
                let turn = Arc::clone(&self.running).try_acquire_owned().ok();
                Ok(Place { running: Arc::clone(&self.running), turn, _present: present })
            }
            Err(_) => {
                let message = format!("{} queries run or wait already: try again when one has ended", self.present_max);
                Err(Error::new(ErrorKind::Throttled, Stage::Request, message))
            }
        }
    }
}

impl Place {
    /// Whether the query's turn has come already.
    pub(crate) fn is_free(&self) -> bool {
        self.turn.is_some()
    }

    /// Waits for the query's turn; the turn lasts as long as what this returns is held.
    pub(crate) async fn turn(&mut self) -> Result<OwnedSemaphorePermit> {
        if let Some(turn) = self.turn.take() {
            return Ok(turn);
        }
        let permit = Arc::clone(&self.running).acquire_owned().await;
        permit.map_err(|_| Error::new(ErrorKind::Closed, Stage::Request, "this instance is closed"))
    }
}
