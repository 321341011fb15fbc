//! Handles, futures and streams may be sent to any thread.

use mq_core::{
    Broker, ConsumeSpec, Consumer, Delivery, Message, PendingReceipt, PendingSettlement, Queue, Receipt, Topic,
};

fn shared<T: Send + Sync + 'static>() {}
fn sent<T: Send>(_: &T) {}

#[test]
fn every_handle_is_send_and_static() {
    shared::<Broker>();
    shared::<Consumer>();
    shared::<Delivery>();
    shared::<PendingReceipt>();
    shared::<PendingSettlement>();
    shared::<Receipt>();
    shared::<Queue<String>>();
    shared::<Topic<String>>();
}

#[tokio::test]
async fn every_future_is_send() {
    let broker = Broker::memory().open().await.unwrap();
    sent(&Broker::memory().open());
    sent(&broker.publish("", "q", Message::new("m")));
    sent(&broker.consume("q", ConsumeSpec::default()));
    sent(&broker.close());
}

#[test]
fn opening_outside_a_runtime_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    for builder in [Broker::memory(), Broker::at(dir.path())] {
        let error = futures::executor::block_on(builder.open()).unwrap_err();
        assert_eq!(error.kind(), mq_core::ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::at(dir.path()).open().await.unwrap();
    broker.declare_queue(super::queue("q")).await.unwrap();
    let consumer = super::consume(&broker, "q", 4).await;
    drop(broker);
    drop(consumer);
    // The directory is free once the tasks have let go of the journal and its thread has ended.
    loop {
        match super::at(dir.path()).open().await {
            Ok(broker) => return broker.close().await.unwrap(),
            Err(error) => assert_eq!(error.kind(), mq_core::ErrorKind::Conflict, "{error:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn after_close_every_handle_says_so() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(super::queue("q")).await.unwrap();
    let mut consumer = super::consume(&broker, "q", 1).await;
    let other = broker.clone();
    broker.close().await.unwrap();
    let error = other.publish("", "q", Message::new("m")).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (mq_core::ErrorKind::Closed, Some("CONNECTION_FORCED")));
    assert!(futures::StreamExt::next(&mut consumer).await.is_none());
    other.close().await.unwrap();
}
