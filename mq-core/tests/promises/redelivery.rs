//! What was not acknowledged comes back, to its old place, and says so; what comes back too often is dead-lettered.

use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use mq_core::{Broker, BrokerBuilder, DeleteIf, ErrorKind, ExchangeKind, ExchangeSpec, Value};

use super::{consume, counts, next, queue, send, text};

#[tokio::test]
async fn a_dropped_delivery_comes_back_to_its_place() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    for body in ["a", "b", "c"] {
        send(&broker, "q", body).await;
    }
    let mut consumer = consume(&broker, "q", 1).await;
    let first = next(&mut consumer).await;
    assert!(!first.redelivered());
    drop(first);
    let again = next(&mut consumer).await;
    assert_eq!((text(&again), again.redelivered(), again.returns(), again.tag()), ("a".into(), true, 1, 2));
    again.nack().await.unwrap();
    let third = next(&mut consumer).await;
    assert_eq!((text(&third), third.returns()), ("a".into(), 2));
    third.ack().await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "b");
}

#[tokio::test]
async fn what_a_dropped_consumer_never_showed_does_not_count() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    for body in ["a", "b"] {
        send(&broker, "q", body).await;
    }
    let mut consumer = consume(&broker, "q", 10).await;
    let held = next(&mut consumer).await;
    drop(consumer);
    let mut other = consume(&broker, "q", 10).await;
    let second = next(&mut other).await;
    assert_eq!((text(&second), second.redelivered(), second.returns()), ("b".into(), true, 0));
    held.ack().await.unwrap();
    second.ack().await.unwrap();
    assert_eq!(counts(&broker, "q"), (0, 0));
}

#[tokio::test]
async fn poison_is_dead_lettered_exactly_once_and_the_neighbours_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::at(dir.path()).open().await.unwrap();
    broker.declare_exchange(ExchangeSpec::new("dlx", ExchangeKind::Fanout).unwrap()).await.unwrap();
    let spec = queue("work").with_delivery_limit(Some(5)).with_dead_letter_exchange("dlx").unwrap();
    broker.declare_queue(spec).await.unwrap();
    broker.declare_queue(queue("dead")).await.unwrap();
    broker.bind("dlx", "dead", "").await.unwrap();
    for number in 0..300 {
        send(&broker, "work", &number.to_string()).await;
    }
    let mut consumer = consume(&broker, "work", 10).await;
    let (mut done, mut attempts) = (0, 0);
    while done < 297 {
        let delivery = next(&mut consumer).await;
        if text(&delivery).parse::<u32>().unwrap() % 100 == 50 {
            attempts += 1;
            delivery.nack().await.unwrap();
        } else {
            done += 1;
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!((attempts, counts(&broker, "work"), counts(&broker, "dead")), (18, (0, 0), (3, 0)));
    let mut dead = consume(&broker, "dead", 10).await;
    let first = next(&mut dead).await;
    let Value::List(deaths) = &first.message().properties().headers["x-death"] else { panic!("no list") };
    let Value::Table(death) = &deaths[0] else { panic!("no table") };
    assert_eq!((text(&first), &death["reason"]), ("50".into(), &"delivery_limit".into()));
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_rejected_message_is_dead_lettered_or_gone() {
    let broker = Broker::memory().open().await.unwrap();
    let spec = queue("q").with_dead_letter_exchange("").unwrap().with_dead_letter_routing_key("dead").unwrap();
    broker.declare_queue(spec).await.unwrap();
    broker.declare_queue(queue("dead")).await.unwrap();
    send(&broker, "q", "m").await;
    next(&mut consume(&broker, "q", 1).await).await.reject().await.unwrap();
    assert_eq!((counts(&broker, "q"), counts(&broker, "dead")), ((0, 0), (1, 0)));
    next(&mut consume(&broker, "dead", 1).await).await.reject().await.unwrap();
    assert_eq!((counts(&broker, "dead"), broker.lost_dead_letters()), ((0, 0), 0));
    broker.delete_queue("dead", DeleteIf::Always).await.unwrap();
    send(&broker, "q", "lost").await;
    next(&mut consume(&broker, "q", 1).await).await.reject().await.unwrap();
    assert_eq!(broker.lost_dead_letters(), 1, "it should have gone somewhere");
}

#[tokio::test]
async fn what_expires_is_dead_lettered_without_anyone_asking() {
    expires(Broker::memory()).await;
}

#[tokio::test]
async fn what_expires_is_dead_lettered_in_the_smallest_segments_too() {
    let dir = tempfile::tempdir().unwrap();
    expires(Broker::at(dir.path()).segment_bytes(128 << 10)).await;
    let error = Broker::at(dir.path()).segment_bytes(64 << 10).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

async fn expires(builder: BrokerBuilder) {
    let clock = ManualClock::default();
    let broker = builder.clock(Arc::new(clock.clone())).open().await.unwrap();
    let spec = queue("q").with_message_ttl(Duration::from_secs(60)).with_dead_letter_exchange("").unwrap();
    broker.declare_queue(spec.with_dead_letter_routing_key("late").unwrap()).await.unwrap();
    broker.declare_queue(queue("late")).await.unwrap();
    send(&broker, "q", "m").await;
    let mut late = consume(&broker, "late", 1).await;
    clock.set_wall(durable_core::Clock::now(&clock) + Duration::from_secs(86_400));
    clock.advance(Duration::from_secs(59));
    tokio::task::yield_now().await;
    assert_eq!(counts(&broker, "q"), (1, 0), "a jump of the wall clock expires nothing");
    clock.advance(Duration::from_secs(1));
    assert_eq!(text(&next(&mut late).await), "m");
    broker.close().await.unwrap();
}
