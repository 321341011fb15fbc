//! Typed queues and topics carry payloads; what is not one is dead-lettered, not lost.

use futures::StreamExt;
use mq_core::{Broker, ConsumeSpec, ErrorKind, Message};
use serde::{Deserialize, Serialize};

use super::{consume, next, queue, text};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Order {
    number: u32,
    country: String,
}

fn order(number: u32) -> Order {
    Order { number, country: "nz".into() }
}

#[tokio::test]
async fn a_topic_delivers_what_was_published() {
    let broker = Broker::memory().open().await.unwrap();
    let orders = broker.topic::<Order>("orders").await.unwrap();
    let local = orders.subscribe(queue("local"), "nz.#").await.unwrap();
    assert_eq!(orders.publish("nz.akl", &order(1)).await.unwrap().queues(), 1);
    assert_eq!(orders.publish("au.syd", &order(2)).await.unwrap().queues(), 0);
    let mut consumer = local.consume(ConsumeSpec::default()).await.unwrap();
    let received = consumer.next().await.unwrap().unwrap();
    assert_eq!((&*received, received.delivery().routing_key()), (&order(1), "nz.akl"));
    received.ack().await.unwrap();
    assert_eq!(local.status().unwrap().unacked, 0);
}

#[tokio::test]
async fn what_does_not_decode_goes_to_the_dead_letters_and_the_rest_goes_on() {
    let broker = Broker::memory().open().await.unwrap();
    let spec = queue("orders").with_dead_letter_exchange("").unwrap().with_dead_letter_routing_key("bad").unwrap();
    broker.declare_queue(queue("bad")).await.unwrap();
    let orders = broker.queue::<Order>(spec).await.unwrap();
    broker.publish("", "orders", Message::new("{}")).await.unwrap();
    orders.send(&order(3)).await.unwrap();
    let mut consumer = orders.consume(ConsumeSpec::default()).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().unwrap_err().kind(), ErrorKind::InvalidInput);
    consumer.next().await.unwrap().unwrap().ack().await.unwrap();
    let mut bad = consume(&broker, "bad", 1).await;
    assert_eq!(text(&next(&mut bad).await), "{}");
}

#[tokio::test]
async fn what_does_not_decode_is_there_to_be_taken() {
    let broker = Broker::memory().open().await.unwrap();
    let orders = broker.queue::<Order>(queue("orders")).await.unwrap();
    for body in ["{}", "[]"] {
        broker.publish("", "orders", Message::new(body)).await.unwrap();
    }
    let mut consumer = orders.consume(ConsumeSpec::default()).await.unwrap();
    assert!(consumer.take_undecoded().is_none());
    consumer.next().await.unwrap().unwrap_err();
    let taken = consumer.take_undecoded().unwrap();
    assert_eq!(text(&taken), "{}");
    consumer.next().await.unwrap().unwrap_err();
    assert_eq!(orders.status().unwrap().unacked, 2, "neither is rejected yet");
    taken.nack().await.unwrap();
    drop(consumer);
    // What was left to the consumer is rejected, what was taken is in the queue.
    let mut raw = consume(&broker, "orders", 2).await;
    assert_eq!(text(&next(&mut raw).await), "{}");
    while orders.status().unwrap().unacked > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(orders.status().unwrap().ready, 0);
}
