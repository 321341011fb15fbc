//! A consumer's positions and state are committed together and outlive restarts and seals.

use std::collections::BTreeMap;

use bytes::Bytes;
use durable_core::ManualClock;
use kinesis_core::limits::CONSUMER_STATE_BYTES_MAX;
use kinesis_core::{ErrorKind, Kinesis, ShardId};

use super::stage::{put, small};

#[tokio::test]
async fn a_commit_is_there_after_every_restart() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    kinesis.create_stream("s", 3).await.unwrap();
    kinesis.close().await.unwrap();
    let mut expected = BTreeMap::new();
    for life in 0..6_u8 {
        let kinesis = small(dir.path(), &clock).open().await.unwrap();
        let stream = kinesis.stream("s").unwrap();
        if life > 0 {
            let state = stream.consumer("firehose").unwrap().unwrap();
            assert_eq!((state.positions, state.state), (expected.clone(), Some(Bytes::from(vec![life - 1; 1000]))));
        }
        let (shard, number) = put(&stream, u64::from(life)..u64::from(life) + 1).await[0];
        expected.insert(shard, number);
        let state = Bytes::from(vec![life; 1000]);
        stream.commit("firehose", BTreeMap::from([(shard, number)]), Some(state.clone())).await.unwrap();
        // Nothing given keeps what was there.
        stream.commit("firehose", BTreeMap::new(), None).await.unwrap();
        assert_eq!(stream.consumer("firehose").unwrap().unwrap().state, Some(state));
        if life % 2 == 1 {
            kinesis.seal().await.unwrap();
        }
        kinesis.close().await.unwrap();
    }
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.stream("s").unwrap();
    assert_eq!(stream.consumers().unwrap(), ["firehose"]);
    stream.delete_consumer("firehose").await.unwrap();
    assert_eq!(stream.delete_consumer("firehose").await.unwrap_err().kind(), ErrorKind::NotFound);
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    assert_eq!(kinesis.stream("s").unwrap().consumer("firehose").unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let (shard, number) = put(&stream, [1]).await[0];
    let other = ShardId::new(1 - shard.index());
    let kind = async |name: &str, shard, state: usize| {
        let state = Some(Bytes::from(vec![0; state]));
        stream.commit(name, BTreeMap::from([(shard, number)]), state).await.unwrap_err().kind()
    };
    assert_eq!(kind("c", other, 0).await, ErrorKind::InvalidInput);
    assert_eq!(kind("c", ShardId::new(7), 0).await, ErrorKind::NotFound);
    assert_eq!(kind("a/b", shard, 0).await, ErrorKind::InvalidInput);
    assert_eq!(kind("c", shard, CONSUMER_STATE_BYTES_MAX + 1).await, ErrorKind::LimitExceeded);
    assert_eq!(stream.consumers().unwrap(), Vec::<String>::new());
}
