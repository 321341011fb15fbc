//! The two kinds of message, their exchange and their queues.
//!
//! | queue | bound by | message |
//! |---|---|---|
//! | `crawl.<table>` | `delivered.<table>` | an object of the table is in the store |
//! | `alerts.<table>` | `alert.<table>` | an event that somebody should know of |
//! | either | `end.<queue>` | this run sends no more |
//!
//! Invariant: everything is durable and mandatory: a message that no queue takes is an error, not a loss.

use futures::StreamExt;
use mq_core::{Broker, ConsumeSpec, Delivery, ExchangeKind, ExchangeSpec, Message, PendingReceipt, QueueSpec, Routing};
use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure, Result};

const EXCHANGE: &str = "pipeline";
/// What the key of an end begins with.
const END: &str = "end.";

/// The queue of delivered objects.
pub const CRAWL: &str = "crawl";
/// The queue of alerts.
pub const ALERTS: &str = "alerts";

/// Messages that a consumer works on before it acknowledges them together.
pub const BATCH_MESSAGES: u16 = 1_000;

/// An object of a table is in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDelivered {
    /// Its path within the store.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The messages of one table.
#[derive(Clone, Debug)]
pub struct Messages {
    broker: Broker,
    table: String,
    /// Tells this run's end from that of a run which was killed before its end was read.
    run: String,
}

/// The messages that a consumer settles together.
#[derive(Debug)]
pub struct Batch {
    deliveries: Vec<Delivery>,
    ended: bool,
}

impl Messages {
    /// Declares what the table's messages need; what exists already stays. Dropping the future may leave some undeclared.
    ///
    /// # Errors
    /// The broker cannot write, or something else has taken the names.
    pub async fn declare(broker: &Broker, table: &str) -> Result<Self> {
        let doing = || format!("cannot declare the queues of {table}");
        let exchange = ExchangeSpec::new(EXCHANGE, ExchangeKind::Topic).doing(doing)?;
        broker.declare_exchange(exchange).await.doing(doing)?;
        for (queue, key) in [(CRAWL, "delivered"), (ALERTS, "alert")] {
            let name = format!("{queue}.{table}");
            // Both consumers can do their work twice, so a message that came back often is no poison.
            let spec = QueueSpec::new(&name).doing(doing)?.with_delivery_limit(None);
            broker.declare_queue(spec).await.doing(doing)?;
            broker.bind(EXCHANGE, &name, &format!("{key}.{table}")).await.doing(doing)?;
            broker.bind(EXCHANGE, &name, &format!("{END}{name}")).await.doing(doing)?;
        }
        let run = format!("{:032x}", rand::random::<u128>());
        Ok(Self { broker: broker.clone(), table: table.to_owned(), run })
    }

    /// Sends that an object was delivered, confirmed on return. Dropping the future may leave it sent or not.
    ///
    /// # Errors
    /// The broker cannot write it.
    pub async fn object_delivered(&self, object: &ObjectDelivered) -> Result<()> {
        let message =
            Message::json(object).doing(|| "cannot write a message".to_owned())?.with_message_id(&object.path);
        self.send(format!("delivered.{}", self.table), message).await?.confirmed().await
    }

    /// Sends an alert, in order; its confirm is waited for with what is returned. Dropping the future sends nothing.
    ///
    /// # Errors
    /// The broker cannot take it.
    pub async fn alert(&self, id: &str, event: &[u8]) -> Result<Sent> {
        let message = Message::new(event.to_vec()).with_content_type("application/json").with_message_id(id);
        self.send(format!("alert.{}", self.table), message).await
    }

    /// Sends to a queue, [`CRAWL`] or [`ALERTS`], that this run sends no more there. Dropping the future may leave it sent or not.
    ///
    /// # Errors
    /// The broker cannot write it.
    pub async fn end(&self, queue: &str) -> Result<()> {
        let message = Message::new(Vec::new()).with_message_id(&self.run);
        self.send(format!("{END}{queue}.{}", self.table), message).await?.confirmed().await
    }

    async fn send(&self, key: String, message: Message) -> Result<Sent> {
        let pending = self.broker.publish_later(EXCHANGE, &key, message, Routing::Mandatory).await;
        Ok(Sent { pending: pending.doing(|| format!("cannot publish under {key}"))?, key })
    }

    /// A consumer of the table's queue of this kind, [`CRAWL`] or [`ALERTS`]. Dropping the future leaves none behind.
    ///
    /// # Errors
    /// The queue is gone.
    pub async fn consume(&self, queue: &str) -> Result<Inbox> {
        let name = format!("{queue}.{}", self.table);
        // One more than a batch, so that the next message is there when a batch is settled.
        let spec = ConsumeSpec::default().with_prefetch(BATCH_MESSAGES + 1);
        let consumer = self.broker.consume(&name, spec).await.doing(|| format!("cannot consume {name}"))?;
        Ok(Inbox { consumer, queue: name, run: self.run.clone() })
    }
}

/// A message on its way.
#[derive(Debug)]
pub struct Sent {
    pending: PendingReceipt,
    key: String,
}

impl Sent {
    /// Waits until it is durably in its queue. Dropping the future does not take it back.
    ///
    /// # Errors
    /// The broker could not write it, or no queue took it.
    pub async fn confirmed(self) -> Result<()> {
        let receipt = self.pending.await.doing(|| format!("cannot publish under {}", self.key))?;
        match receipt.returned() {
            None => Ok(()),
            Some(_) => Err(Failure::new(format!("no queue took a message under {}", self.key))),
        }
    }
}

/// The messages of a queue, in batches.
#[derive(Debug)]
pub struct Inbox {
    consumer: mq_core::Consumer,
    queue: String,
    run: String,
}

impl Inbox {
    /// The next messages, up to [`BATCH_MESSAGES`] or the end of this run, whichever comes first: it waits for one of the two. Dropping the future gives the messages back.
    ///
    /// # Errors
    /// The broker failed.
    pub async fn next_batch(&mut self) -> Result<Batch> {
        let mut batch = Batch { deliveries: Vec::new(), ended: false };
        while !batch.ended && batch.deliveries.len() < usize::from(BATCH_MESSAGES) {
            let gone = || Failure::new(format!("the broker was closed while {} was read", self.queue));
            let delivery =
                self.consumer.next().await.ok_or_else(gone)?.doing(|| format!("cannot read {}", self.queue))?;
            // An end of another run is left from one that was killed: it says nothing.
            batch.ended = is_end(&delivery) && delivery.message().properties().message_id.as_deref() == Some(&self.run);
            batch.deliveries.push(delivery);
        }
        Ok(batch)
    }
}

impl Batch {
    /// Those that carry something, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(|delivery| !is_end(delivery))
    }

    /// Whether this run sends no more.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Acknowledges all of them in one step: they are never delivered again. Dropping the future may leave them delivered again.
    ///
    /// # Errors
    /// The broker cannot write it.
    pub async fn acknowledge(mut self) -> Result<()> {
        match self.deliveries.pop() {
            None => Ok(()),
            Some(last) => last.ack_multiple().await.doing(|| "cannot acknowledge messages".to_owned()),
        }
    }
}

fn is_end(delivery: &Delivery) -> bool {
    delivery.routing_key().starts_with(END)
}
