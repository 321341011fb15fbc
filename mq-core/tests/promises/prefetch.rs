//! A consumer holds at most as many deliveries as it asked for, and gets the next as soon as it settles one.

use futures::FutureExt;
use mq_core::{Broker, ConsumeSpec, DeleteIf, ErrorKind};

use super::{consume, counts, next, queue, send, text};

#[tokio::test]
async fn no_more_than_the_prefetch_is_out() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    for number in 0..10 {
        send(&broker, "q", &number.to_string()).await;
    }
    let mut consumer = consume(&broker, "q", 3).await;
    assert_eq!(counts(&broker, "q"), (7, 3));
    let held = [next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await];
    assert!(futures::StreamExt::next(&mut consumer).now_or_never().is_none());
    let [first, second, third] = held;
    second.ack().await.unwrap();
    assert_eq!(text(&next(&mut consumer).await), "3");
    third.ack_multiple().await.unwrap();
    let error = first.ack().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Expired, Some("PRECONDITION_FAILED")));
    assert_eq!(broker.queue_status("q").unwrap().consumers, 1);
}

#[tokio::test]
async fn two_consumers_share_the_work() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    let (mut one, mut two) = (consume(&broker, "q", 2).await, consume(&broker, "q", 2).await);
    for body in ["a", "b", "c", "d", "e"] {
        send(&broker, "q", body).await;
    }
    assert_eq!(counts(&broker, "q"), (1, 4));
    let (a, b) = (next(&mut one).await, next(&mut two).await);
    assert_eq!((text(&a), text(&b)), ("a".into(), "b".into()));
    b.ack().await.unwrap();
    assert_eq!((text(&next(&mut two).await), text(&next(&mut two).await)), ("d".into(), "e".into()));
    a.ack().await.unwrap();
}

#[tokio::test]
async fn a_prefetch_of_nothing_is_refused_and_a_deleted_queue_says_so() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    let error = broker.consume("q", ConsumeSpec::default().with_prefetch(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let mut consumer = consume(&broker, "q", 1).await;
    broker.delete_queue("q", DeleteIf::Always).await.unwrap();
    let notice = futures::StreamExt::next(&mut consumer).await.unwrap().unwrap_err();
    assert_eq!(notice.code(), Some("NOT_FOUND"));
    assert!(futures::StreamExt::next(&mut consumer).await.is_none());
}
