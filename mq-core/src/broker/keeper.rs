//! The two tasks behind a broker: one runs errands and lets time pass, one writes checkpoints.
//!
//! Invariant: both end when the last handle is dropped or the broker is closed; neither is waited for by a drop.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, pending, select};
use tokio::sync::watch;

use super::core::Core;
use crate::engine::{Command, Verdict, Which};
use crate::error::Result;
use crate::journal::{Image, Parts};

/// How many dropped deliveries one command takes back.
const ERRANDS_MAX: usize = 256;
/// How long to wait after a disk that was full, or a store that did not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// The longest wait between two attempts at a checkpoint.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Runs errands and ticks until the broker ends.
pub(crate) async fn keep(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut put_off = false;
    while !*stop.borrow() {
        let rung = core.bell.notified();
        // What time asks for does not wait for an errand that could not be run.
        let (errands, ticks) = (run_errands(&core).await, tick(&core).await);
        let done = errands.and(ticks);
        let wait = match &done {
            Ok(()) => core.until_deadline(),
            Err(_) if core.has_ended() => return,
            Err(error) => {
                if !put_off {
                    tracing::warn!(?error, "what came back or is due waits: it is tried again until it succeeds");
                }
                Some(RETRY_AFTER)
            }
        };
        put_off = done.is_err();
        let timer = match wait {
            Some(wait) => core.clock.sleep(wait),
            None => Box::pin(pending()),
        };
        let (rung, stopped) = (std::pin::pin!(rung), std::pin::pin!(stop.changed()));
        if let Either::Left((Err(_), _)) = select(stopped, select(rung, timer)).await {
            return;
        }
    }
}

/// Does what was left to do.
pub(crate) async fn run_errands(core: &Core) -> Result<()> {
    let mut errands = core.take_errands();
    while let Some((_, verdict)) = errands.settle.first().copied() {
        // Where many dead letters may go would exceed a frame.
        let most = if verdict == Verdict::Reject { 1 } else { ERRANDS_MAX };
        let count = errands.settle.iter().take(most).take_while(|(_, other)| *other == verdict).count();
        let tags = errands.settle.iter().take(count).map(|(tag, _)| *tag).collect();
        let which = Which::AnyOf(tags);
        if let Err(error) = core.run(Command::Settle { which, verdict }).await {
            core.leave(|left| left.take_over(errands));
            return Err(error);
        }
        errands.settle.drain(..count);
    }
    while let Some((consumer, last_seen)) = errands.cancel.last().copied() {
        match core.run(Command::Cancel { consumer, last_seen }).await {
            Ok(outcome) if outcome.unfinished => continue,
            Ok(_) => {}
            Err(error) => {
                core.leave(|left| left.take_over(errands));
                return Err(error);
            }
        }
        core.lock().forget_mailbox(consumer);
        errands.cancel.pop();
    }
    Ok(())
}

/// Does what is left to do before the broker is closed: what consumers were never shown goes back uncounted. Nothing waits
/// until it is durable, which closing the journal does.
pub(crate) async fn settle_up(core: &Core) -> Result<()> {
    core.lock().check()?;
    run_errands(core).await?;
    let seen = core.lock().shut_mailboxes();
    let consumers = seen.iter().map(|(consumer, _)| *consumer).collect();
    core.take(Command::Dismiss(consumers), None, None).await?;
    for (consumer, last_seen) in seen {
        while core.take(Command::Cancel { consumer, last_seen }, None, None).await?.outcome.unfinished {}
    }
    Ok(())
}

/// Does what time asks for.
async fn tick(core: &Core) -> Result<()> {
    while core.until_deadline() == Some(Duration::ZERO) {
        core.run(Command::Tick).await?;
    }
    Ok(())
}

/// Writes a checkpoint whenever enough has been journaled, and again until it succeeds, until the broker ends.
pub(crate) async fn checkpoint(core: Arc<Core>, mut parts: Parts, mut stop: watch::Receiver<bool>) {
    loop {
        if is_stopped(&mut stop, core.checkpoint_due.notified()).await {
            return;
        }
        let mut retry_after = RETRY_AFTER;
        while let Err(error) = write_checkpoint(&core, &mut parts).await {
            if core.has_ended() {
                return;
            }
            tracing::warn!(?error, ?retry_after, "a checkpoint failed: the journal grows until one succeeds");
            if is_stopped(&mut stop, core.clock.sleep(retry_after)).await {
                return;
            }
            retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
        }
    }
}

/// Waits, and answers whether the broker was stopped meanwhile.
async fn is_stopped(stop: &mut watch::Receiver<bool>, wait: impl Future<Output = ()>) -> bool {
    let (wait, stopped) = (std::pin::pin!(wait), std::pin::pin!(stop.wait_for(|stopped| *stopped)));
    matches!(select(wait, stopped).await, Either::Right(_))
}

/// Makes the state durable as of now, and lets the journal before it go.
async fn write_checkpoint(core: &Core, parts: &mut Parts) -> Result<()> {
    let Some(journal) = core.log.journal() else { return Ok(()) };
    let (at, image) = {
        let mut hub = core.lock();
        hub.check()?;
        hub.journaled_bytes = 0;
        (hub.end, Image::take(&mut hub.engine.state))
    };
    let written = async {
        journal.flush().await?;
        let changes = parts.changes(&image).await;
        let names: Vec<(String, bool)> = changes.iter().map(|(name, part)| (name.clone(), part.is_some())).collect();
        // Failed, it may be in force all the same.
        parts.tried(&names);
        journal.checkpoint(at, changes).await?;
        parts.made(&names);
        Ok::<(), durable_core::Error>(())
    };
    written.await.map_err(|error| {
        image.put_back(&mut core.lock().engine.state);
        core.fail(error.into())
    })
}
