//! What was confirmed is there after the broker was closed and opened anew; what is transient is not.

use std::sync::Arc;

use futures::FutureExt;
use mq_core::object_store::memory::InMemory;
use mq_core::object_store::path::Path;
use mq_core::{Broker, BrokerBuilder, DeleteIf, ErrorKind, ExchangeKind, ExchangeSpec, Message, Routing, Table, Value};

use super::{consume, counts, next, queue, send, text};

/// Runs the promise on each kind of broker that outlives its handle.
async fn on_each(check: impl AsyncFn(&dyn Fn() -> BrokerBuilder)) {
    let dir = tempfile::tempdir().unwrap();
    check(&|| super::at(dir.path())).await;
    let store = Arc::new(InMemory::new());
    check(&|| Broker::on(store.clone(), Path::from("team/mq"))).await;
    let (store, journal) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
    let prefix = Path::from("team/mq");
    check(&|| Broker::on(store.clone(), prefix.clone()).journal_dir(journal.path()).segment_bytes(1 << 20)).await;
}

#[tokio::test]
async fn topology_and_messages_come_back() {
    on_each(async |open| {
        let broker = open().open().await.unwrap();
        broker.declare_exchange(ExchangeSpec::new("x", ExchangeKind::Topic).unwrap()).await.unwrap();
        broker.declare_exchange(ExchangeSpec::new("gone", ExchangeKind::Topic).unwrap().transient()).await.unwrap();
        broker.declare_queue(queue("q").with_max_length(100)).await.unwrap();
        broker.declare_queue(queue("deleted")).await.unwrap();
        broker.declare_queue(queue("volatile").transient()).await.unwrap();
        broker.bind("x", "q", "a.#").await.unwrap();
        broker.bind("x", "volatile", "#").await.unwrap();
        broker.publish("x", "a.b", Message::new("kept").with_header("k", Value::F64(0.5))).await.unwrap();
        broker.publish("x", "a.b", Message::new("volatile").transient()).await.unwrap();
        assert_eq!(broker.delete_queue("deleted", DeleteIf::Always).await.unwrap(), 0);
        broker.close().await.unwrap();

        let broker = open().open().await.unwrap();
        assert_eq!(counts(&broker, "q"), (1, 0));
        for missing in ["deleted", "volatile"] {
            assert_eq!(broker.queue_status(missing).unwrap_err().kind(), ErrorKind::NotFound);
        }
        assert_eq!(broker.bind("gone", "q", "").await.unwrap_err().code(), Some("NOT_FOUND"));
        assert_eq!(broker.publish("x", "a.c", Message::new("new")).await.unwrap().queues(), 1);
        let mut consumer = consume(&broker, "q", 10).await;
        let kept = next(&mut consumer).await;
        assert_eq!((text(&kept), kept.exchange(), kept.routing_key()), ("kept".into(), "x", "a.b"));
        assert!(!kept.redelivered());
        assert_eq!(kept.message().properties().headers, Table::from([("k".to_owned(), Value::F64(0.5))]));
        kept.ack().await.unwrap();
        assert_eq!(text(&next(&mut consumer).await), "new");
        broker.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_held_comes_back_as_redelivered_and_what_was_acked_does_not() {
    on_each(async |open| {
        let broker = open().open().await.unwrap();
        broker.declare_queue(queue("q")).await.unwrap();
        for body in ["a", "b", "c"] {
            send(&broker, "q", body).await;
        }
        let mut consumer = consume(&broker, "q", 2).await;
        let (a, b) = (next(&mut consumer).await, next(&mut consumer).await);
        b.ack().await.unwrap();
        broker.close().await.unwrap();
        drop((a, consumer));

        let broker = open().open().await.unwrap();
        let mut consumer = consume(&broker, "q", 2).await;
        let (a, c) = (next(&mut consumer).await, next(&mut consumer).await);
        assert_eq!((text(&a), a.redelivered(), a.returns()), ("a".into(), true, 1));
        assert_eq!((text(&c), c.redelivered()), ("c".into(), true), "c had been handed to the consumer");
        assert_eq!(c.returns(), 0, "and the consumer had not shown it");
        a.ack().await.unwrap();
        c.ack().await.unwrap();
        broker.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_message_that_takes_the_process_down_is_poison_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::at(dir.path()).open().await.unwrap();
    let spec = queue("q").with_delivery_limit(Some(2)).with_dead_letter_exchange("").unwrap();
    broker.declare_queue(spec.with_dead_letter_routing_key("dead").unwrap()).await.unwrap();
    broker.declare_queue(queue("dead")).await.unwrap();
    send(&broker, "q", "crash").await;
    let mut broker = Some(broker);
    for round in 0..3 {
        let before = broker.take().unwrap();
        let held = next(&mut consume(&before, "q", 1).await).await;
        assert_eq!(held.returns(), round);
        // The holder never comes to settle it.
        before.close().await.unwrap();
        broker = Some(super::at(dir.path()).open().await.unwrap());
    }
    let broker = broker.unwrap();
    assert_eq!((counts(&broker, "q"), counts(&broker, "dead")), ((0, 0), (1, 0)));
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_close_counts_nothing_that_was_not_seen_and_deletes_no_queue() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::at(dir.path()).open().await.unwrap();
    broker.declare_queue(queue("q").auto_delete()).await.unwrap();
    for _ in 0..3000 {
        drop(broker.publish_later("", "q", Message::new("m"), Routing::Optional).await.unwrap());
    }
    let (mut one, mut two) = (consume(&broker, "q", 2000).await, consume(&broker, "q", 500).await);
    let seen = [next(&mut one).await, next(&mut one).await, next(&mut two).await];
    broker.close().await.unwrap();
    assert!(futures::StreamExt::next(&mut one).await.is_none(), "what went back is not shown");
    drop((seen, one, two));

    let broker = super::at(dir.path()).open().await.unwrap();
    let mut consumer = consume(&broker, "q", 3000).await;
    let mut returned = 0;
    for _ in 0..3000 {
        let delivery = next(&mut consumer).await;
        returned += delivery.returns();
        drop(delivery.ack_later().await.unwrap());
    }
    assert_eq!(returned, 3);
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_closing_that_is_not_waited_for_goes_on_and_another_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::at(dir.path()).open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    let other = broker.clone();
    assert!(broker.close().now_or_never().is_none());
    other.close().await.unwrap();
    // The directory is free.
    super::at(dir.path()).open().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_directory_has_one_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::at(dir.path()).open().await.unwrap();
    assert_eq!(super::at(dir.path()).open().await.unwrap_err().kind(), ErrorKind::Conflict);
    broker.close().await.unwrap();
    super::at(dir.path()).open().await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_was_taken_over_confirms_nothing() {
    let store = Arc::new(InMemory::new());
    let open = || Broker::on(store.clone(), Path::from("mq")).open();
    let old = open().await.unwrap();
    old.declare_queue(queue("q")).await.unwrap();
    send(&old, "q", "first").await;
    let new = open().await.unwrap();
    let error = old.publish("", "q", Message::new("late")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Fenced, Some("CONNECTION_FORCED")), "{error:?}");
    assert_eq!(counts(&new, "q"), (1, 0));
    send(&new, "q", "second").await;
    new.close().await.unwrap();
}
