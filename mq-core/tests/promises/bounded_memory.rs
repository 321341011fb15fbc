//! However fast publishers are, messages take no more memory than was allowed.

use futures::FutureExt;
use mq_core::{Broker, ErrorKind, Message, Overflow, Overload, Routing, Settings};

use super::{consume, counts, next, queue};

const MEMORY: usize = 100_000;

fn large() -> Message {
    Message::new(vec![7; 10_000])
}

#[tokio::test]
async fn a_publisher_waits_until_a_consumer_made_room() {
    let settings = Settings::default().with_memory_bytes(MEMORY);
    let broker = Broker::memory().settings(settings).open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    let mut taken = 0;
    while broker.publish("", "q", large()).now_or_never().is_some() {
        taken += 1;
    }
    assert_eq!(taken, 9);
    assert!(broker.memory_bytes() <= MEMORY);
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish("", "q", large()).await }
    });
    let mut consumer = consume(&broker, "q", 1).await;
    next(&mut consumer).await.ack().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().queues(), 1);
    assert_eq!(counts(&broker, "q"), (8, 1));
}

#[tokio::test]
async fn a_publisher_that_must_not_wait_is_refused() {
    let settings = Settings::default().with_memory_bytes(MEMORY).with_overload(Overload::Refuse);
    let broker = Broker::memory().settings(settings).open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    for _ in 0..9 {
        broker.publish("", "q", large()).await.unwrap();
    }
    let error = broker.publish("", "q", large()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.is_retryable()),
        (ErrorKind::LimitExceeded, Some("RESOURCE_ERROR"), true)
    );
    assert_eq!(broker.purge_queue("q").await.unwrap(), 9);
    assert_eq!(broker.memory_bytes(), 0);
    broker.publish("", "q", large()).await.unwrap();
}

#[tokio::test]
async fn a_small_message_in_many_queues_counts_in_each() {
    let settings = Settings::default().with_memory_bytes(MEMORY).with_overload(Overload::Refuse);
    let broker = Broker::memory().settings(settings).open().await.unwrap();
    for index in 0..100 {
        let name = format!("q{index}");
        broker.declare_queue(queue(&name)).await.unwrap();
        broker.bind("amq.fanout", &name, "").await.unwrap();
    }
    let mut most = 0;
    while broker.publish("amq.fanout", "", Message::new("m")).await.is_ok() {
        most = most.max(broker.memory_bytes());
    }
    // The last one may have begun with room and gone beyond it.
    assert!((MEMORY / 2..MEMORY + 20_000).contains(&most), "{most} bytes");
    for index in 0..100 {
        broker.purge_queue(&format!("q{index}")).await.unwrap();
    }
    assert_eq!(broker.memory_bytes(), 0);
    assert!(broker.publish("", "q0", Message::new(vec![7; 90_000])).await.is_ok(), "all of it came back");
}

#[tokio::test]
async fn a_publish_that_was_given_up_gives_its_room_back() {
    let settings = Settings::default().with_memory_bytes(MEMORY);
    let broker = Broker::memory().settings(settings).open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    for _ in 0..1000 {
        assert_eq!(broker.publish("missing", "q", large()).await.unwrap_err().kind(), ErrorKind::NotFound);
        drop(broker.publish("", "q", large()));
        broker.publish("", "nowhere", large()).await.unwrap();
    }
    assert_eq!(broker.publish("", "q", large()).now_or_never().unwrap().unwrap().queues(), 1);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_by_name() {
    let settings = Settings::default().with_body_bytes_max(9_999);
    let broker = Broker::memory().settings(settings).open().await.unwrap();
    let error = broker.publish("", "q", large()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::LimitExceeded, Some("CONTENT_TOO_LARGE")));
}

#[tokio::test]
async fn a_full_queue_refuses_or_drops_its_oldest() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("refuse").with_max_length(2).with_overflow(Overflow::RejectPublish)).await.unwrap();
    broker.declare_queue(queue("drop").with_max_length_bytes(20_000)).await.unwrap();
    let mut pending = Vec::new();
    for name in ["refuse", "refuse", "refuse", "drop", "drop", "drop"] {
        pending.push(broker.publish_later("", name, large(), Routing::Optional).await.unwrap());
    }
    let refused: Vec<bool> = futures::future::join_all(pending).await.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, true, false, false, false]);
    assert_eq!((counts(&broker, "refuse"), counts(&broker, "drop")), ((2, 0), (2, 0)));
}
