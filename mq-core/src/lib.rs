//! A message broker in your process: exchanges, durable queues, confirms and acknowledgements over one journal.
//!
//! # What it does
//!
//! It has RabbitMQ's model: messages are published to exchanges (direct, fanout, topic, headers), bindings lead them to
//! queues, consumers take them as a stream and acknowledge them. Queues dead-letter what is rejected, expires, overflows
//! or comes back too often; publishers get a confirm; consumers have a prefetch. Everything durable goes through one
//! group-commit journal, in a directory or in any object store, so that a dead-letter move or an acknowledgement of
//! thousands is one atomic record, and one sync covers all publishers.
//!
//! # What it does not
//!
//! It listens on no socket, and it is one process: no standby, no cluster. Messages wait in memory, up to a limit; they
//! are not paged out. There are no priorities, no exclusive queues, no transactions, no streams.
//!
//! # In ten lines
//!
//! ```
//! use futures::StreamExt;
//! use mq_core::{Broker, ConsumeSpec, Message, QueueSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), mq_core::Error> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! let broker = Broker::at(dir.path()).open().await?;
//! broker.declare_queue(QueueSpec::new("alerts")?).await?;
//! broker.bind("amq.topic", "alerts", "flights.*.late").await?;
//! broker.publish("amq.topic", "flights.EWR.late", Message::new("UA1545")).await?; // synced once this returns
//!
//! let mut alerts = broker.consume("alerts", ConsumeSpec::default()).await?;
//! let delivery = alerts.next().await.expect("one message")?;
//! assert_eq!(delivery.body(), "UA1545");
//! delivery.ack().await?; // never delivered again once this returns
//! broker.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Concepts
//!
//! - A [`Broker`] is a cheap handle. [`Broker::memory`], [`Broker::at`] and [`Broker::on`] say where it keeps its journal.
//! - An exchange is declared by an [`ExchangeSpec`], a queue by a [`QueueSpec`]; both are durable unless told otherwise.
//!   Declaring the same again is fine, declaring it differently is RabbitMQ's `PRECONDITION_FAILED`.
//! - A [`Message`] is a body and AMQP's properties; it is persistent unless told otherwise. [`Broker::publish`] waits for
//!   the confirm, [`Broker::publish_later`] lets many be on their way.
//! - A [`Consumer`] is a stream of [`Delivery`]s. A delivery is acknowledged, given back or rejected; dropping it gives it
//!   back.
//! - [`Queue`] and [`Topic`] are the same for payloads that serde can write as JSON.
//! - An [`Error`] has a kind that says what to do and a [code](Error::code) as AMQP names it.
//!
//! # The contract
//!
//! - A confirm means that a persistent message is in every durable queue it was routed to, as durably as the journal is:
//!   synced to the disk, or put into the store. After a crash it is delivered or still queued.
//! - An acknowledgement that has returned means that the message is never delivered again.
//! - No consumer sees what a crash could take back: deliveries leave after the records they follow from are durable.
//! - Delivery is at least once. What a consumer held when the process died comes back to its place with
//!   [`redelivered`](Delivery::redelivered) set, and that counts towards the delivery limit, so that a message that takes
//!   the process down does not do so for ever.
//! - Per queue, messages are delivered in the order in which they were published, except those that came back.
//! - Transient messages and what is in transient queues are gone after a restart.
//! - A dead letter moves in one atomic step. If its exchange leads to no queue, it is dropped, as in RabbitMQ, and
//!   [counted](Broker::lost_dead_letters) and told to the log.
//! - After the journal failed nothing is confirmed any more; the broker says so (`Unavailable`, or `Fenced` where another
//!   one took over) and is to be opened anew.
//!
//! # Limits
//!
//! | what | bound | past it |
//! |---|---|---|
//! | memory for messages | [`Settings::with_memory_bytes`], 256 MiB | publishers wait, or `LimitExceeded` ([`Overload`]) |
//! | a body | [`Settings::with_body_bytes_max`], 15 MiB | `LimitExceeded`, code `CONTENT_TOO_LARGE` |
//! | a queue | [`QueueSpec::with_max_length`], none | the oldest is dropped, or `LimitExceeded` ([`Overflow`]) |
//! | returns of a message | [`QueueSpec::with_delivery_limit`], 20 | it is dead-lettered, or dropped |
//! | unsettled deliveries of a consumer | [`ConsumeSpec::with_prefetch`], 256, at most 65,535 | it gets no more |
//! | journal | [`Settings::with_checkpoint_bytes`], 64 MiB, and a few segments | a checkpoint lets it go |
//! | a segment of a local journal | [`BrokerBuilder::segment_bytes`], 64 MiB, at least 128 KiB | `InvalidInput` |
//! | one command | a quarter of a segment: a body, what [`Delivery::ack_multiple`] names | `LimitExceeded` |
//! | names and routing keys | 255 bytes | `InvalidInput` |
//! | exchanges, bindings, queues, consumers | 65,536, 1,048,576, 262,144, 65,536 | `LimitExceeded` |
//!
//! # Features
//!
//! None yet: all of the above is the default.

mod broker;
mod codec;
mod engine;
mod error;
mod journal;
mod message;
mod name;
mod queue;
mod topology;
mod typed;
mod value;

pub use broker::{
    BODY_BYTES_DEFAULT, Broker, BrokerBuilder, CHECKPOINT_BYTES_DEFAULT, ConsumeSpec, Consumer, Delivery,
    MEMORY_BYTES_DEFAULT, Overload, PREFETCH_DEFAULT, PendingReceipt, PendingSettlement, QueueStatus, Receipt, Routing,
    Settings,
};
pub use engine::{DeleteIf, PREFETCH_MAX};
pub use error::{Error, ErrorKind, ReplyCode, Result};
pub use message::{DeliveryMode, Message, Properties};
pub use name::{ExchangeName, NAME_BYTES_MAX, QueueName, RoutingKey};
pub use queue::{DELIVERY_LIMIT_DEFAULT, Overflow, QueueSpec};
pub use topology::{BINDINGS_MAX, EXCHANGES_MAX, ExchangeKind, ExchangeSpec};
pub use typed::{Payload, Queue, Received, Topic, TypedConsumer};
pub use value::{NESTING_MAX, Table, Value};
pub use {bytes, object_store};
