//! Recovery: the newest checkpoint, then the frames after it through the function that live commands use.

use durable_core::journal::Recovery;

use super::checkpoint::{Parts, restore};
use crate::engine::{State, decode_frame};
use crate::error::{Error, Result};

/// What a journal held.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    /// The names of the checkpoint's parts.
    pub(crate) parts: Parts,
    /// Bytes of frames since the checkpoint.
    pub(crate) tail_bytes: u64,
}

pub(crate) async fn recover(journal: &mut Recovery) -> Result<Recovered> {
    let (mut state, parts) = match journal.checkpoint() {
        Some(checkpoint) => (restore(&checkpoint.parts)?, Parts::new(checkpoint.parts.keys().cloned())),
        None => (State::new()?, Parts::default()),
    };
    let mut tail_bytes = 0;
    while let Some(frame) = journal.next().await? {
        tail_bytes += frame.body.len() as u64;
        for record in decode_frame(&frame.body)? {
            state.apply(&record).map_err(|error| {
                let at = frame.position;
                Error::corrupt(format!("the frame at {at} does not fit the state before it")).with_source(error)
            })?;
        }
    }
    Ok(Recovered { state, parts, tail_bytes })
}
