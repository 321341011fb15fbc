//! The broker's heart: the engine under a lock, the journal behind it, and what leads from one to the other.
//!
//! A command reserves room in the journal, takes the lock, changes the state, gives its records their place in the order
//! and lets the lock go; it is answered when the records are durable. Everything that arrives meanwhile forms the next
//! commit. Invariant: the order of the records is the order in which the engine made them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use durable_core::Clock;
use durable_core::journal::{Journal, Pending, Position};
use tokio::sync::{Notify, watch};

use super::mailbox::Mailbox;
use super::outbox::{Outbox, Parcel};
use super::room::{Credit, Debt, Room};
use super::settings::Settings;
use crate::ErrorKind;
use crate::engine::{Command, ConsumerId, DeliveryTag, Effect, Engine, Step, Verdict};
use crate::error::{Error, ReplyCode, Result};
use crate::journal::{Log, Slot};
use crate::message::Message;
use crate::name::QueueName;
use crate::queue::Millis;

#[derive(Debug)]
pub(crate) struct Core {
    hub: Mutex<Hub>,
    pub(crate) outbox: Outbox,
    pub(crate) log: Log,
    pub(crate) room: Room,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    epoch: Epoch,
    errands: Mutex<Errands>,
    /// Rouses the keeper: errands, a nearer deadline.
    pub(crate) bell: Notify,
    /// Rouses the checkpointer.
    pub(crate) checkpoint_due: Notify,
    pub(crate) stop: watch::Sender<bool>,
}

/// What the lock guards.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) engine: Engine,
    mailboxes: BTreeMap<ConsumerId, Mailbox>,
    debt: Debt,
    /// The first position after the last record.
    pub(crate) end: Position,
    /// Bytes of records since the last checkpoint was begun.
    pub(crate) journaled_bytes: u64,
    deadline: Option<Millis>,
    /// Since the broker was opened.
    pub(crate) lost_dead_letters: u64,
    ended: Option<Ended>,
}

/// Why the broker takes no more commands.
#[derive(Clone, Debug)]
enum Ended {
    Closed,
    Failed(ErrorKind, String),
}

/// The broker's time: wall time when it was opened, and from then on monotonic time, so that no jump of the wall clock
/// expires a message early or late.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    wall: Millis,
    monotonic: Duration,
}

/// What those who cannot wait leave to be done: handles that were dropped.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    pub(crate) settle: Vec<(DeliveryTag, Verdict)>,
    pub(crate) cancel: Vec<(ConsumerId, u64)>,
}

impl Errands {
    /// Adds what could not be done yet.
    pub(crate) fn take_over(&mut self, undone: Self) {
        self.settle.extend(undone.settle);
        self.cancel.extend(undone.cancel);
    }
}

/// What a command came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many queues took a published message.
    pub(crate) queues: usize,
    /// The queue that refused it.
    pub(crate) refused: Option<QueueName>,
    pub(crate) returned: Option<Box<Message>>,
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) removed: usize,
    /// The same command has more to do.
    pub(crate) unfinished: bool,
}

/// A command that was taken: it is done once `pending` is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) outcome: Outcome,
    pub(crate) pending: Option<Pending>,
}

impl Core {
    pub(crate) fn new(
        engine: Engine,
        log: Log,
        outbox: Outbox,
        settings: Settings,
        clock: Arc<dyn Clock>,
        journaled_bytes: u64,
    ) -> Self {
        let (room, debt) = Room::new(settings.memory_bytes, engine.state.bytes(), settings.overload);
        let epoch = Epoch { wall: clock.now().timestamp_millis(), monotonic: clock.monotonic() };
        let end = log.journal().map_or(Position::ZERO, Journal::durable);
        let mailboxes = BTreeMap::new();
        let hub =
            Hub { engine, mailboxes, debt, end, journaled_bytes, deadline: None, lost_dead_letters: 0, ended: None };
        Self {
            hub: Mutex::new(hub),
            outbox,
            log,
            room,
            settings,
            clock,
            epoch,
            errands: Mutex::default(),
            bell: Notify::new(),
            checkpoint_due: Notify::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// The state. A panic in the middle of a change ends the broker: nobody knows what it left undone.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(|poisoned| {
            let mut hub = poisoned.into_inner();
            let message = "a panic inside the broker left its state unknown";
            self.fail_locked(&mut hub, Error::new(ErrorKind::Internal, message).with_reply(ReplyCode::InternalError));
            hub
        })
    }

    /// The broker's time; it never goes back.
    pub(crate) fn now(&self) -> Millis {
        let passed = self.clock.monotonic().saturating_sub(self.epoch.monotonic).as_millis();
        self.epoch.wall.saturating_add_unsigned(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// How long until the engine has something to do by itself, if ever.
    pub(crate) fn until_deadline(&self) -> Option<Duration> {
        let deadline = self.lock().engine.next_deadline()?;
        Some(Duration::from_millis(u64::try_from(deadline.saturating_sub(self.now())).unwrap_or(0)))
    }

    /// Does one thing, and answers when it is durable.
    pub(crate) async fn run(&self, command: Command) -> Result<Outcome> {
        let Taken { outcome, pending } = self.take(command, None, None).await?;
        self.durable(pending).await?;
        Ok(outcome)
    }

    /// The same for a declaration: if it exists already, it may not be durable yet.
    pub(crate) async fn declare(&self, command: Command) -> Result<Outcome> {
        let Taken { outcome, pending } = self.take(command, None, None).await?;
        match (pending, self.log.journal()) {
            (None, Some(journal)) => journal.flush().await.map_err(|error| self.fail(error.into()))?,
            (pending, _) => self.durable(pending).await?,
        }
        Ok(outcome)
    }

    /// Waits until what was taken is durable.
    pub(crate) async fn durable(&self, pending: Option<Pending>) -> Result<()> {
        match pending {
            None => Ok(()),
            Some(pending) => pending.await.map(|_| ()).map_err(|error| self.fail(error.into())),
        }
    }

    /// Gives a command its place in the order. Once this has returned, dropping everything undoes nothing.
    pub(crate) async fn take(
        &self,
        command: Command,
        mailbox: Option<Mailbox>,
        mut credit: Option<Credit<'_>>,
    ) -> Result<Taken> {
        let mut command = Some(command);
        let mut bytes = command.as_ref().map_or(0, guess).min(self.log.frame_bytes_max());
        loop {
            let slot = self.log.reserve(bytes).await.map_err(|error| self.fail(error))?;
            match self.try_take(&mut command, slot, mailbox.as_ref(), &mut credit)? {
                Attempt::Taken(taken) => return Ok(taken),
                Attempt::Needs(more) if more > self.log.frame_bytes_max() => {
                    let most = self.log.frame_bytes_max();
                    let message = format!(
                        "this would be {more} bytes in one journal frame, which takes up to {most}: do it in parts, or \
                         open the broker with larger segments"
                    );
                    return Err(Error::limit(message).with_reply(ReplyCode::ContentTooLarge));
                }
                Attempt::Needs(more) => bytes = more,
            }
        }
    }

    /// Applies the command if the slot is large enough for what it leads to.
    fn try_take(
        &self,
        command: &mut Option<Command>,
        slot: Slot,
        mailbox: Option<&Mailbox>,
        credit: &mut Option<Credit<'_>>,
    ) -> Result<Attempt> {
        let mut hub = self.lock();
        hub.check()?;
        let Some(wanted) = command.as_ref() else { return Err(Error::closed()) };
        let bound = if self.log.journal().is_some() { hub.engine.bound(wanted) } else { 0 };
        let spare = hub.engine.spare(wanted, bound);
        if self.log.journal().is_some() && bound + spare > slot.bytes {
            return Ok(Attempt::Needs(bound + spare));
        }
        let Some(command) = command.take() else { return Err(Error::closed()) };
        let before = hub.engine.state.bytes();
        let step = match hub.engine.apply(self.now(), command, spare) {
            // Only a fault of ours leads there, and then the state is not to be trusted.
            Err(error) if error.kind() == ErrorKind::Corrupt => return Err(self.fail_locked(&mut hub, error)),
            step => step?,
        };
        let after = hub.engine.state.bytes();
        self.room.settle(&mut hub.debt, credit.take(), before, after);
        self.post(&mut hub, step, slot, mailbox).map(Attempt::Taken)
    }

    /// Writes the records, and puts what follows from them where the journal finds it.
    fn post(&self, hub: &mut Hub, step: Step, slot: Slot, mailbox: Option<&Mailbox>) -> Result<Taken> {
        let (outcome, parcels) = hub.sort(step.effects, mailbox);
        let mut pending = None;
        let put = self.outbox.put(parcels, || {
            let Some(written) = slot.write(&step.records)? else { return Ok(None) };
            hub.end = written.end;
            hub.journaled_bytes += written.bytes as u64;
            pending = Some(written.pending);
            Ok(Some(written.end))
        });
        if let Err(error) = put {
            // The state has changed, and the journal does not know: nothing may follow from it.
            return Err(self.fail_locked(hub, error));
        }
        if hub.journaled_bytes >= self.settings.checkpoint_bytes && self.log.journal().is_some() {
            self.checkpoint_due.notify_one();
        }
        let deadline = hub.engine.next_deadline();
        if deadline != hub.deadline {
            hub.deadline = deadline;
            self.bell.notify_one();
        }
        Ok(Taken { outcome, pending })
    }

    /// Leaves something to the keeper: for those who cannot wait.
    pub(crate) fn leave(&self, errand: impl FnOnce(&mut Errands)) {
        errand(&mut self.errands.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    pub(crate) fn take_errands(&self) -> Errands {
        std::mem::take(&mut self.errands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that the journal has failed, if it has, and answers with the error. After any other error the broker goes
    /// on: nothing has happened, or it can be done again.
    pub(crate) fn fail(&self, error: Error) -> Error {
        let poisoned = self.log.journal().is_some_and(Journal::is_poisoned);
        if poisoned || error.kind() == ErrorKind::Fenced { self.fail_locked(&mut self.lock(), error) } else { error }
    }

    /// Whether the broker takes no more commands.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    fn fail_locked(&self, hub: &mut Hub, error: Error) -> Error {
        if hub.ended.is_none() {
            tracing::error!(?error, "the broker failed: nothing is confirmed any more");
            hub.ended = Some(Ended::Failed(error.kind(), format!("{error:?}")));
            self.outbox.clear();
            for mailbox in std::mem::take(&mut hub.mailboxes).into_values() {
                // A consumer that is gone needs no notice.
                let _ = mailbox.mail.try_send(Err(hub.refusal()));
            }
            self.room.close();
        }
        error
    }

    /// Takes no more commands; consumers come to their end.
    pub(crate) fn end(&self) {
        let mut hub = self.lock();
        hub.ended.get_or_insert(Ended::Closed);
        hub.mailboxes.clear();
        self.room.close();
    }

    /// Why a command that waited for room was not taken.
    pub(crate) fn refusal(&self, error: Error) -> Error {
        if error.kind() == ErrorKind::Closed { self.lock().refusal() } else { error }
    }
}

/// Room that usually suffices; if not, the engine says how much more.
fn guess(command: &Command) -> usize {
    match command {
        Command::Publish { message, .. } => message.weight() + 4096,
        _ => 4096,
    }
}

/// What became of a command that was about to be taken.
enum Attempt {
    Taken(Taken),
    /// It may lead to so many bytes of records.
    Needs(usize),
}

impl Hub {
    pub(crate) fn check(&self) -> Result<()> {
        if self.ended.is_some() { Err(self.refusal()) } else { Ok(()) }
    }

    /// Refuses if what is in memory may not be what was commanded.
    pub(crate) fn check_state(&self) -> Result<()> {
        match self.ended {
            Some(Ended::Failed(ErrorKind::Internal | ErrorKind::Corrupt, _)) => Err(self.refusal()),
            _ => Ok(()),
        }
    }

    fn refusal(&self) -> Error {
        match &self.ended {
            Some(Ended::Failed(kind, cause)) => {
                let message = format!("the broker failed, open it anew: {cause}");
                Error::new(*kind, message).with_reply(ReplyCode::ConnectionForced)
            }
            Some(Ended::Closed) | None => Error::closed(),
        }
    }

    /// Parts what goes to consumers from what goes to who asked.
    fn sort(&mut self, effects: Vec<Effect>, mailbox: Option<&Mailbox>) -> (Outcome, Vec<Parcel>) {
        let mut outcome = Outcome::default();
        let mut parcels = Vec::new();
        for effect in effects {
            match effect {
                Effect::Confirm { queues } => outcome.queues = queues,
                Effect::Refuse { queue } => outcome.refused = Some(queue),
                Effect::Return { message } => outcome.returned = Some(Box::new(message)),
                Effect::Removed { messages } => outcome.removed = messages,
                Effect::Unfinished => outcome.unfinished = true,
                Effect::Consuming(id) => {
                    outcome.consumer = Some(id);
                    if let Some(mailbox) = mailbox {
                        self.mailboxes.insert(id, mailbox.clone());
                    }
                }
                Effect::Lost { queue, cause, messages } => {
                    tracing::warn!(%queue, messages, "a dead letter is lost: {cause}");
                    self.lost_dead_letters += messages as u64;
                }
                Effect::Deliver(handover) => {
                    let to = self.mailboxes.get(&handover.tag.consumer).map(|mailbox| mailbox.mail.clone());
                    parcels.extend(to.map(|to| Parcel { to, mail: Ok(handover) }));
                }
                Effect::Cancelled(id) => {
                    let notice = || Error::not_found("the consumer was cancelled: its queue was deleted");
                    let mailbox = self.mailboxes.remove(&id);
                    parcels.extend(mailbox.map(|mailbox| Parcel { to: mailbox.mail, mail: Err(notice()) }));
                }
            }
        }
        (outcome, parcels)
    }

    /// Shows consumers nothing more, and answers the last delivery that each was shown.
    pub(crate) fn shut_mailboxes(&self) -> Vec<(ConsumerId, u64)> {
        self.mailboxes.iter().filter_map(|(id, mailbox)| Some((*id, mailbox.seen.shut()?))).collect()
    }

    pub(crate) fn forget_mailbox(&mut self, consumer: ConsumerId) {
        self.mailboxes.remove(&consumer);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Broker, ConsumeSpec};
    use super::*;
    use crate::queue::QueueSpec;

    #[tokio::test]
    async fn a_panic_under_the_lock_ends_the_broker() {
        let broker = Broker::memory().open().await.unwrap();
        broker.declare_queue(QueueSpec::new("q").unwrap()).await.unwrap();
        let mut consumer = broker.consume("q", ConsumeSpec::default()).await.unwrap();
        let core = Arc::clone(&broker.handle.core);
        let panicked = std::thread::spawn(move || {
            let _hub = core.lock();
            panic!("in the middle of a change");
        });
        panicked.join().unwrap_err();
        let error = broker.publish("", "q", Message::new("m")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
        assert_eq!(broker.queue_status("q").unwrap_err().kind(), ErrorKind::Internal);
        let notice = futures::StreamExt::next(&mut consumer).await.unwrap().unwrap_err();
        assert_eq!(notice.kind(), ErrorKind::Internal);
        assert_eq!(broker.close().await.unwrap_err().kind(), ErrorKind::Internal);
    }
}
