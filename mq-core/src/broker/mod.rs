//! The broker in process: what an app, and later every protocol, calls.

mod builder;
mod consumer;
mod core;
mod delivery;
mod keeper;
mod mailbox;
mod outbox;
mod receipt;
mod room;
mod settings;

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinError, JoinHandle};

pub use builder::BrokerBuilder;
pub use consumer::{ConsumeSpec, Consumer, PREFETCH_DEFAULT};
pub use delivery::Delivery;
pub use receipt::{PendingReceipt, PendingSettlement, Receipt};
pub use settings::{BODY_BYTES_DEFAULT, CHECKPOINT_BYTES_DEFAULT, MEMORY_BYTES_DEFAULT, Overload, Settings};

use self::core::Core;
use self::mailbox::{Mailbox, Seen};
use crate::ErrorKind;
use crate::engine::{BindingSpec, Command, DeleteIf, Target};
use crate::error::{Error, ReplyCode, Result};
use crate::message::Message;
use crate::name::{ExchangeName, QueueName, RESERVED_PREFIX, RoutingKey};
use crate::queue::{ENTRY_BYTES, QueueSpec, weight};
use crate::topology::ExchangeSpec;
use crate::value::Table;

/// A message broker: a cheap handle, to be cloned at will.
///
/// Dropping the last handle, with all consumers and deliveries, ends the broker's tasks without waiting for them; what
/// was confirmed is durable by then. [`close`](Self::close) waits.
#[derive(Clone, Debug)]
pub struct Broker {
    handle: Arc<Handle>,
}

/// What the handles share: dropped with the last of them.
#[derive(Debug)]
pub(crate) struct Handle {
    core: Arc<Core>,
    runtime: tokio::runtime::Handle,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stop.send_replace(true);
    }
}

/// Whether a message has to reach a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routing {
    /// It is confirmed although no binding matched.
    #[default]
    Optional,
    /// It comes back in the [`Receipt`] if no binding matched: AMQP's mandatory flag.
    Mandatory,
}

/// What a queue holds at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Its name.
    pub name: QueueName,
    /// Messages that wait.
    pub ready: usize,
    /// Messages that consumers hold.
    pub unacked: usize,
    /// Consumers.
    pub consumers: usize,
    /// Bytes in the bodies of the messages that wait.
    pub ready_bytes: u64,
}

impl Broker {
    fn core(&self) -> &Core {
        &self.handle.core
    }

    /// Declares an exchange; an equal one may exist.
    ///
    /// Dropping the future may leave it declared or not.
    ///
    /// # Errors
    /// Code `PRECONDITION_FAILED` (kind `AlreadyExists`) if it exists and differs, `ACCESS_REFUSED` if the name is
    /// empty or begins with `amq.`.
    pub async fn declare_exchange(&self, spec: ExchangeSpec) -> Result<()> {
        self.core().declare(Command::DeclareExchange(spec)).await.map(|_| ())
    }

    /// Deletes an exchange and its bindings; it need not exist.
    ///
    /// Dropping the future may leave it deleted or not.
    ///
    /// # Errors
    /// Code `PRECONDITION_FAILED` if the condition does not hold, `ACCESS_REFUSED` for the broker's own exchanges.
    pub async fn delete_exchange(&self, name: &str, condition: DeleteIf) -> Result<()> {
        let name = ExchangeName::new(name)?;
        self.core().declare(Command::DeleteExchange { name, condition }).await.map(|_| ())
    }

    /// Declares a queue; an equal one may exist. An empty name asks for a new one, which the status tells.
    ///
    /// Dropping the future may leave it declared or not.
    ///
    /// # Errors
    /// Code `PRECONDITION_FAILED` (kind `AlreadyExists`) if it exists and differs, `ACCESS_REFUSED` if the name begins
    /// with `amq.`.
    pub async fn declare_queue(&self, spec: QueueSpec) -> Result<QueueStatus> {
        let server_named = spec.name().as_str().is_empty();
        let spec = if server_named { spec.named(&generated_name())? } else { spec };
        let name = spec.name().clone();
        self.core().declare(Command::DeclareQueue { spec, server_named }).await?;
        self.status(&name)
    }

    /// Deletes a queue with all that is in it, and answers how many messages were ready; it need not exist.
    ///
    /// Dropping the future may leave it deleted or not.
    ///
    /// # Errors
    /// Code `PRECONDITION_FAILED` (kind `Conflict`) if the condition does not hold.
    pub async fn delete_queue(&self, name: &str, condition: DeleteIf) -> Result<usize> {
        let name = QueueName::new(name)?;
        Ok(self.core().declare(Command::DeleteQueue { name, condition }).await?.removed)
    }

    /// Removes all ready messages of a queue for good, and answers how many there were.
    ///
    /// Dropping the future may leave it purged or not.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if there is no such queue.
    pub async fn purge_queue(&self, name: &str) -> Result<usize> {
        Ok(self.core().run(Command::PurgeQueue(QueueName::new(name)?)).await?.removed)
    }

    /// Binds a queue to an exchange under a key (a pattern, where the exchange is a topic).
    ///
    /// Dropping the future may leave it bound or not.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if either does not exist, `ACCESS_REFUSED` for the default exchange.
    pub async fn bind(&self, exchange: &str, queue: &str, routing_key: &str) -> Result<()> {
        self.bind_with(exchange, queue, routing_key, Table::new()).await
    }

    /// The same with arguments, by which a headers exchange routes.
    ///
    /// Dropping the future may leave it bound or not.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); code `PRECONDITION_FAILED` for an unknown `x-match`.
    pub async fn bind_with(&self, exchange: &str, queue: &str, routing_key: &str, arguments: Table) -> Result<()> {
        let spec = binding(exchange, Target::Queue(QueueName::new(queue)?), routing_key, arguments)?;
        self.core().declare(Command::Bind(spec)).await.map(|_| ())
    }

    /// Binds one exchange to another: what reaches `source` under the key is routed by `destination` as well.
    ///
    /// Dropping the future may leave it bound or not.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_exchange(&self, source: &str, destination: &str, routing_key: &str) -> Result<()> {
        let target = Target::Exchange(ExchangeName::new(destination)?);
        let spec = binding(source, target, routing_key, Table::new())?;
        self.core().declare(Command::Bind(spec)).await.map(|_| ())
    }

    /// Removes the binding that [`bind_with`](Self::bind_with) made with the same arguments; it need not exist.
    ///
    /// Dropping the future may leave it bound or not.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if exchange or queue do not exist, `ACCESS_REFUSED` for the default exchange.
    pub async fn unbind(&self, exchange: &str, queue: &str, routing_key: &str, arguments: Table) -> Result<()> {
        let spec = binding(exchange, Target::Queue(QueueName::new(queue)?), routing_key, arguments)?;
        self.core().declare(Command::Unbind(spec)).await.map(|_| ())
    }

    /// Publishes a message and waits for the confirm: it is in every queue that it was routed to, durably where message
    /// and queue are. The empty exchange leads to the queue named by the routing key.
    ///
    /// Dropping the future may leave the message published or not.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if there is no such exchange; `LimitExceeded` if a queue is full and refuses messages (others
    /// may have taken this one), the message is too large (`CONTENT_TOO_LARGE`), or memory or disk are full;
    /// `Unavailable` if the journal failed: the message may or may not be found after the broker was opened anew.
    pub async fn publish(&self, exchange: &str, routing_key: &str, message: Message) -> Result<Receipt> {
        self.publish_later(exchange, routing_key, message, Routing::Optional).await?.await
    }

    /// Publishes a message without waiting for its confirm: many may be on their way, and they keep their order.
    /// Returns as soon as the message has its place, and waits for room in memory and in the journal before.
    ///
    /// Dropping the future publishes nothing.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_later(
        &self,
        exchange: &str,
        routing_key: &str,
        message: Message,
        routing: Routing,
    ) -> Result<PendingReceipt> {
        message.check()?;
        let (bytes, most) = (message.body().len(), self.core().settings.body_bytes_max);
        if bytes > most {
            let message = format!("a body of {bytes} bytes: this broker takes up to {most}");
            return Err(Error::limit(message).with_reply(ReplyCode::ContentTooLarge));
        }
        let credit = self.core().room.take(weight(&message) + ENTRY_BYTES).await;
        let credit = credit.map_err(|error| self.core().refusal(error))?;
        let exchange = ExchangeName::new(exchange)?;
        let routing_key = RoutingKey::new(routing_key)?;
        let mandatory = routing == Routing::Mandatory;
        let command = Command::Publish { exchange, routing_key, message, mandatory };
        let taken = self.core().take(command, None, Some(credit)).await?;
        Ok(PendingReceipt::new(Arc::clone(&self.handle.core), taken))
    }

    /// Consumes a queue.
    ///
    /// Dropping the future leaves no consumer behind.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if there is no such queue; `InvalidInput` for a prefetch of 0.
    pub async fn consume(&self, queue: &str, spec: ConsumeSpec) -> Result<Consumer> {
        let (queue, prefetch) = (QueueName::new(queue)?, spec.prefetch());
        // One more than it may hold, for a notice that it was cancelled.
        let (sender, mail) = mpsc::channel(usize::from(prefetch) + 1);
        let seen = Arc::new(Seen::default());
        let mailbox = Mailbox { mail: sender, seen: Arc::clone(&seen) };
        let taken = self.core().take(Command::Consume { queue, prefetch }, Some(mailbox), None).await?;
        let missing = || Error::new(ErrorKind::Internal, "the engine gave a consumer no number");
        let id = taken.outcome.consumer.ok_or_else(missing)?;
        Ok(Consumer::new(Arc::clone(&self.handle), id, mail, seen))
    }

    /// What a queue holds at the moment.
    ///
    /// # Errors
    /// Code `NOT_FOUND` if there is no such queue; `Internal` or `Corrupt` if the broker failed by a fault of its own.
    pub fn queue_status(&self, name: &str) -> Result<QueueStatus> {
        self.status(&QueueName::new(name)?)
    }

    fn status(&self, name: &QueueName) -> Result<QueueStatus> {
        let hub = self.core().lock();
        hub.check_state()?;
        let id = hub.engine.state.topology.queue(name)?;
        let queue = hub.engine.state.queue(id)?;
        Ok(QueueStatus {
            name: name.clone(),
            ready: queue.ready_len(),
            unacked: queue.unacked_len(),
            consumers: hub.engine.consumer_count(id),
            ready_bytes: queue.ready_bytes(),
        })
    }

    /// Memory that the messages of all queues take at the moment, in bytes, as far as the broker accounts for it.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.core().lock().engine.state.bytes()
    }

    /// How many dead letters, since the broker was opened, did not get where they should have: the dead letter exchange
    /// is missing, leads to no queue or only round in a ring, or a journal frame does not hold all that it reaches. Each
    /// is told to the log as well.
    #[must_use]
    pub fn lost_dead_letters(&self) -> u64 {
        self.core().lock().lost_dead_letters
    }

    /// Does what dropped deliveries and consumers left to do, makes everything durable, and ends the broker's tasks and
    /// its journal. All handles answer `Closed` from then on; consumers come to their end, and what they had not yielded
    /// goes back uncounted.
    ///
    /// Dropping the future lets the closing go on by itself.
    ///
    /// # Errors
    /// The error that failed the broker, if one did.
    pub async fn close(&self) -> Result<()> {
        let handle = Arc::clone(&self.handle);
        let closing = self.handle.runtime.spawn(async move { handle.close().await });
        closing.await.map_err(|error| unfinished("the closing", error))?
    }
}

impl Handle {
    async fn close(&self) -> Result<()> {
        // Who closes it as well waits here until the first is through.
        let mut tasks = self.tasks.lock().await;
        self.core.stop.send_replace(true);
        let mut joined = Ok(());
        for task in tasks.drain(..) {
            joined = joined.and(task.await.map_err(|error| unfinished("a task", error)));
        }
        // What cannot be taken back any more is taken back at the next opening.
        let settled = keeper::settle_up(&self.core).await;
        self.core.end();
        let closed = match self.core.log.journal() {
            Some(journal) => journal.close().await.map_err(Error::from),
            None => Ok(()),
        };
        let ended_before = |error: Error| if error.kind() == ErrorKind::Closed { Ok(()) } else { Err(error) };
        joined.and(closed).and(settled.or_else(ended_before))
    }
}

fn unfinished(what: &str, error: JoinError) -> Error {
    let message = format!("{what} of the broker did not finish: open it anew");
    Error::new(ErrorKind::Internal, message).with_reply(ReplyCode::InternalError).with_source(error)
}

fn binding(exchange: &str, target: Target, routing_key: &str, arguments: Table) -> Result<BindingSpec> {
    let (source, routing_key) = (ExchangeName::new(exchange)?, RoutingKey::new(routing_key)?);
    Ok(BindingSpec { source, target, routing_key, arguments })
}

fn generated_name() -> String {
    format!("{RESERVED_PREFIX}gen-{:032x}", rand::random::<u128>())
}
