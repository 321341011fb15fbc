//! What an earlier version wrote opens for ever: a broker's directory that was checked in with the tests.
//!
//! `MQ_CORE_WRITE_FIXTURES=1 cargo test -p mq-core --test promises format` writes it anew, which is right only for a new
//! format beside the old ones, never in their place. It is named after the version of its checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use mq_core::{
    Broker, BrokerBuilder, DeleteIf, ErrorKind, ExchangeKind, ExchangeSpec, Message, Settings, Table, Value,
};

use super::{consume, counts, next, queue, send, text};

const WRITE: &str = "MQ_CORE_WRITE_FIXTURES";
const FIXTURE: &str = "tests/promises/fixtures/directory-v2";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE)
}

/// A copy that may be written to.
fn copy(from: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    std::fs::create_dir(target.path().join("journal")).unwrap();
    for file in std::fs::read_dir(from.join("journal")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), target.path().join("journal").join(file.file_name())).unwrap();
    }
    target
}

/// At a time that stands still, so that nothing expires.
fn at(dir: &Path) -> BrokerBuilder {
    Broker::at(dir).segment_bytes(128 << 10).clock(Arc::new(ManualClock::default()))
}

/// A message with something of everything.
fn rich() -> Message {
    let mut message = Message::new("rich").with_message_id("7").with_expiration(Duration::from_secs(60));
    for (name, value) in [
        ("text", Value::from("t")),
        ("float", Value::F64(0.5)),
        ("list", Value::List(vec![Value::I64(-1), Value::Void])),
        ("table", Value::Table(Table::from([("inner".into(), Value::Bool(true))]))),
    ] {
        message = message.with_header(name, value);
    }
    message.properties_mut().priority = Some(9);
    message.properties_mut().timestamp = chrono::DateTime::from_timestamp(1_700_000_000, 0);
    message
}

/// A life with two openings, the first of which leaves a checkpoint, and the second every kind of record.
async fn write(dir: &Path) {
    let broker = at(dir).settings(Settings::default().with_checkpoint_bytes(1)).open().await.unwrap();
    let exchange = ExchangeSpec::new("x", ExchangeKind::Topic).unwrap().with_alternate("amq.fanout").unwrap();
    broker.declare_exchange(exchange).await.unwrap();
    let dying = queue("q").with_message_ttl(Duration::from_secs(3600)).with_dead_letter_exchange("").unwrap();
    broker.declare_queue(dying.with_dead_letter_routing_key("dead").unwrap()).await.unwrap();
    for name in ["copy", "dead", "purged"] {
        broker.declare_queue(queue(name)).await.unwrap();
    }
    broker.bind("x", "q", "a.#").await.unwrap();
    broker.bind("x", "copy", "a.b").await.unwrap();
    broker.bind("amq.fanout", "dead", "").await.unwrap();
    broker.bind_with("amq.headers", "copy", "", Table::from([("kind".into(), "late".into())])).await.unwrap();
    assert_eq!(broker.publish("x", "a.b", rich()).await.unwrap().queues(), 2);
    send(&broker, "q", "rejected").await;
    send(&broker, "q", "acked").await;
    let mut consumer = consume(&broker, "q", 3).await;
    let held = [next(&mut consumer).await, next(&mut consumer).await];
    next(&mut consumer).await.ack().await.unwrap();
    // The checkpoint that comes last holds messages, too.
    let has_checkpoint = || {
        let files = std::fs::read_dir(dir.join("journal")).unwrap().map(|file| file.unwrap().path());
        let mut parts = files.filter(|path| path.to_string_lossy().contains("parts-"));
        parts.any(|path| std::fs::read(path).is_ok_and(|bytes| bytes.windows(8).any(|window| window == b"rejected")))
    };
    while !has_checkpoint() {
        tokio::task::yield_now().await;
    }
    broker.close().await.unwrap();
    drop(held);

    let broker = at(dir).open().await.unwrap();
    let mut consumer = consume(&broker, "q", 2).await;
    let (rich, rejected) = (next(&mut consumer).await, next(&mut consumer).await);
    rejected.reject().await.unwrap();
    rich.nack().await.unwrap();
    for name in ["gone", "x-gone"] {
        broker.declare_queue(queue(name)).await.unwrap();
        broker.declare_exchange(ExchangeSpec::new(name, ExchangeKind::Fanout).unwrap()).await.unwrap();
        broker.bind_exchange("x", name, "#").await.unwrap();
        broker.delete_exchange(name, DeleteIf::Always).await.unwrap();
        broker.delete_queue(name, DeleteIf::Always).await.unwrap();
    }
    broker.unbind("x", "copy", "a.b", Table::new()).await.unwrap();
    send(&broker, "purged", "m").await;
    broker.purge_queue("purged").await.unwrap();
    send(&broker, "q", "tail").await;
    broker.close().await.unwrap();
}

async fn check(dir: &Path) {
    let broker = at(dir).open().await.unwrap();
    for (name, ready) in [("q", 2), ("copy", 1), ("dead", 1), ("purged", 0)] {
        assert_eq!(counts(&broker, name), (ready, 0), "{name}");
    }
    assert_eq!(broker.queue_status("gone").unwrap_err().kind(), ErrorKind::NotFound);

    let mut consumer = consume(&broker, "q", 2).await;
    let (first, tail) = (next(&mut consumer).await, next(&mut consumer).await);
    assert_eq!((first.message(), first.exchange(), first.routing_key()), (&rich(), "x", "a.b"));
    assert_eq!((first.redelivered(), first.returns()), (true, 2));
    assert_eq!((text(&tail), tail.returns()), ("tail".into(), 0));
    let shared = next(&mut consume(&broker, "copy", 1).await).await;
    assert_eq!((shared.message(), shared.redelivered()), (&rich(), false));
    let dead = next(&mut consume(&broker, "dead", 1).await).await;
    let Value::List(deaths) = &dead.message().properties().headers["x-death"] else { panic!("no list") };
    let Value::Table(death) = &deaths[0] else { panic!("no table") };
    assert_eq!((text(&dead), &death["reason"]), ("rejected".into(), &"rejected".into()));

    let late = || Message::new("late").with_header("kind", "late");
    for (exchange, key, queues) in [("x", "a.b", 1), ("x", "spill", 1), ("amq.headers", "", 1), ("amq.topic", "", 0)] {
        assert_eq!(broker.publish(exchange, key, late()).await.unwrap().queues(), queues, "{exchange} {key}");
    }
    let again = queue("q").with_message_ttl(Duration::from_secs(3600)).with_dead_letter_exchange("").unwrap();
    broker.declare_queue(again.with_dead_letter_routing_key("dead").unwrap()).await.unwrap();
    broker.close().await.unwrap();
}

#[tokio::test]
async fn directory_v2() {
    if std::env::var_os(WRITE).is_some() {
        let dir = fixture();
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        write(&dir).await;
        std::fs::remove_file(dir.join("journal/lock")).unwrap();
    }
    let copy = copy(&fixture());
    check(copy.path()).await;
}

#[tokio::test]
async fn what_is_written_today_reads_like_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    check(dir.path()).await;
}
