//! What mq-core promises, one module per promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests report by panicking")]

mod bounded_journal;
mod bounded_memory;
mod confirms_mean_durable;
mod failed_checkpoint;
mod format_is_stable;
mod handles_are_send;
mod prefetch;
mod redelivery;
mod routing;
mod survives_kill;
mod survives_reopen;
mod typed_payloads;

use futures::StreamExt;
use mq_core::{Broker, BrokerBuilder, ConsumeSpec, Consumer, Delivery, Message, QueueSpec};

/// The directory's broker, with segments small enough that a test fills several.
fn at(dir: &std::path::Path) -> BrokerBuilder {
    Broker::at(dir).segment_bytes(1 << 20)
}

fn queue(name: &str) -> QueueSpec {
    QueueSpec::new(name).unwrap()
}

/// Publishes to a queue by its name, and waits for the confirm.
async fn send(broker: &Broker, queue: &str, body: &str) {
    let receipt = broker.publish("", queue, Message::new(body.to_owned())).await.unwrap();
    assert_eq!(receipt.queues(), 1, "{queue:?} took {body:?}");
}

async fn consume(broker: &Broker, queue: &str, prefetch: u16) -> Consumer {
    broker.consume(queue, ConsumeSpec::default().with_prefetch(prefetch)).await.unwrap()
}

async fn next(consumer: &mut Consumer) -> Delivery {
    consumer.next().await.expect("the consumer goes on").unwrap()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().to_vec()).unwrap()
}

/// Ready and unacked messages.
fn counts(broker: &Broker, queue: &str) -> (usize, usize) {
    let status = broker.queue_status(queue).unwrap();
    (status.ready, status.unacked)
}
