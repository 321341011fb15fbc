//! A message reaches exactly the queues whose bindings match, whatever else is bound.

use mq_core::{Broker, DeleteIf, ErrorKind, ExchangeKind, ExchangeSpec, Message, Routing, Table, Value};
use proptest::prelude::*;

use super::{counts, queue};

/// AMQP's definition of a topic match, word by word.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => {
            matches(rest, key) || key.split_first().is_some_and(|(_, tail)| matches(pattern, tail))
        }
        (Some((&"*", rest)), Some((_, tail))) => matches(rest, tail),
        (Some((word, rest)), Some((first, tail))) => word == first && matches(rest, tail),
        _ => false,
    }
}

fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

async fn check_topic(patterns: &[String], keys: &[String]) {
    let broker = Broker::memory().open().await.unwrap();
    for (index, pattern) in patterns.iter().enumerate() {
        broker.declare_queue(queue(&index.to_string())).await.unwrap();
        broker.bind("amq.topic", &index.to_string(), pattern).await.unwrap();
    }
    let mut expected = vec![0; patterns.len()];
    for key in keys {
        let reached = |pattern: &String| matches(&words(pattern), &words(key));
        let count = patterns.iter().filter(|pattern| reached(pattern)).count();
        assert_eq!(broker.publish("amq.topic", key, Message::new("m")).await.unwrap().queues(), count, "key {key}");
        expected.iter_mut().zip(patterns).for_each(|(sum, pattern)| *sum += usize::from(reached(pattern)));
    }
    for (index, sum) in expected.into_iter().enumerate() {
        assert_eq!(counts(&broker, &index.to_string()), (sum, 0), "pattern {}", patterns[index]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_topic_reaches_what_the_definition_says(
        patterns in prop::collection::vec("([ab*#](\\.[ab*#]){0,4})?", 1..10),
        keys in prop::collection::vec("([abc](\\.[abc]){0,5})?", 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_topic(&patterns, &keys));
    }
}

#[tokio::test]
async fn a_mandatory_message_that_reaches_nothing_comes_back() {
    let broker = Broker::memory().open().await.unwrap();
    let lost = Message::new("lost").with_message_id("7");
    let pending = broker.publish_later("amq.direct", "nowhere", lost.clone(), Routing::Mandatory).await.unwrap();
    let receipt = pending.await.unwrap();
    assert_eq!((receipt.queues(), receipt.returned()), (0, Some(&lost)));
    let receipt = broker.publish("amq.direct", "nowhere", lost).await.unwrap();
    assert_eq!((receipt.queues(), receipt.returned()), (0, None));
}

#[tokio::test]
async fn headers_and_exchanges_behind_exchanges_route() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_exchange(ExchangeSpec::new("in", ExchangeKind::Fanout).unwrap()).await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    broker.bind_exchange("in", "amq.headers", "").await.unwrap();
    let arguments = Table::from([("x-match".to_owned(), "any".into()), ("kind".to_owned(), Value::from(1))]);
    broker.bind_with("amq.headers", "q", "", arguments.clone()).await.unwrap();
    broker.publish("in", "", Message::new("yes").with_header("kind", 1)).await.unwrap();
    broker.publish("in", "", Message::new("no").with_header("kind", 2)).await.unwrap();
    assert_eq!(counts(&broker, "q"), (1, 0));
    broker.unbind("amq.headers", "q", "", arguments).await.unwrap();
    broker.publish("in", "", Message::new("late").with_header("kind", 1)).await.unwrap();
    assert_eq!(counts(&broker, "q"), (1, 0));
}

#[tokio::test]
async fn declaring_answers_as_rabbitmq_does() {
    let broker = Broker::memory().open().await.unwrap();
    broker.declare_queue(queue("q")).await.unwrap();
    assert_eq!(broker.declare_queue(queue("q")).await.unwrap().ready, 0);
    let error = broker.declare_queue(queue("q").with_max_length(5)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::AlreadyExists, Some("PRECONDITION_FAILED")));
    assert!(error.message().contains("\"x-max-length\" for queue \"q\""), "{error}");
    let code = |error: mq_core::Error| error.code().unwrap();
    assert_eq!(code(broker.declare_queue(queue("amq.mine")).await.unwrap_err()), "ACCESS_REFUSED");
    assert_eq!(code(broker.bind("", "q", "k").await.unwrap_err()), "ACCESS_REFUSED");
    assert_eq!(code(broker.bind("missing", "q", "k").await.unwrap_err()), "NOT_FOUND");
    assert_eq!(code(broker.publish("missing", "k", Message::new("m")).await.unwrap_err()), "NOT_FOUND");
    assert_eq!(code(broker.queue_status("missing").unwrap_err()), "NOT_FOUND");
    let named = broker.declare_queue(queue("")).await.unwrap();
    assert!(named.name.as_str().starts_with("amq.gen-"), "{named:?}");
    super::send(&broker, "q", "m").await;
    let error = broker.delete_queue("q", DeleteIf::Empty).await.unwrap_err();
    assert_eq!((error.kind(), code(error)), (ErrorKind::Conflict, "PRECONDITION_FAILED"));
    assert_eq!(broker.delete_queue("q", DeleteIf::Unused).await.unwrap(), 1);
    assert_eq!(broker.delete_queue("q", DeleteIf::Always).await.unwrap(), 0);
}
