//! AWS's client for Rust does here what it does at AWS: typed errors, retries, pages, event streams.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    PutRecordsRequestEntry, Record, ScalingType, ShardIteratorType, StartingPosition, StreamStatus,
    SubscribeToShardEventStream,
};
use aws_sdk_kinesis::{Client, Config};
use aws_smithy_http_client::Builder;
use durable_core::ManualClock;
use kinesis_core::{Kinesis, Limits, PutRecord, Settings};

use super::wire_stage::{KEY, serve};

/// The client as an app makes it, but for the endpoint, and for HTTP without TLS.
fn sdk(url: &str, secret: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(KEY.0, secret, None, None, "test"))
        .http_client(Builder::new().build_http())
        .retry_config(RetryConfig::standard().with_max_attempts(5));
    Client::from_conf(config.build())
}

fn data(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| record.data().as_ref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_for_rust_writes_and_reads_through_a_reshard() {
    let limits = Limits::aws().with_control_calls_per_second(None);
    let kinesis = Kinesis::memory().with_settings(Settings::default().with_limits(limits)).open().await.unwrap();
    let server = serve(&kinesis).await;
    let client = sdk(&server.url(), KEY.1);

    let missing = client.describe_stream_summary().stream_name("none").send().await.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());
    assert!(missing.message().is_some_and(|message| message.contains("none")), "{missing:?}");
    let stranger = sdk(&server.url(), "another").list_streams().send().await.unwrap_err().into_service_error();
    assert_eq!(stranger.code(), Some("InvalidSignatureException"));

    client.create_stream().stream_name("s").shard_count(1).send().await.unwrap();
    let summary = client.describe_stream_summary().stream_name("s").send().await.unwrap();
    let summary = summary.stream_description_summary().unwrap();
    assert_eq!((summary.stream_status(), summary.open_shard_count()), (&StreamStatus::Active, 1));
    let put = client.put_record().stream_name("s").partition_key("k").data(Blob::new("0")).send().await.unwrap();
    assert_eq!(put.shard_id(), "shardId-000000000000");
    let entry = |number: usize| {
        let entry = PutRecordsRequestEntry::builder().partition_key(format!("k{number}"));
        entry.data(Blob::new(number.to_string())).build().unwrap()
    };
    let batch =
        client.put_records().stream_name("s").set_records(Some((1..500).map(entry).collect())).send().await.unwrap();
    assert_eq!((batch.failed_record_count(), batch.records().len()), (Some(0), 499));

    // A split; the parent is read to its end, which names the children.
    client
        .update_shard_count()
        .stream_name("s")
        .target_shard_count(2)
        .scaling_type(ScalingType::UniformScaling)
        .send()
        .await
        .unwrap();
    let shards = client.list_shards().stream_name("s").send().await.unwrap();
    assert_eq!(shards.shards().iter().filter(|shard| shard.parent_shard_id() == Some(put.shard_id())).count(), 2);
    let iterator = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id(put.shard_id())
        .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
        .starting_sequence_number(put.sequence_number())
        .send()
        .await
        .unwrap();
    let (mut next, mut found, mut children) = (iterator.shard_iterator, Vec::new(), Vec::new());
    while let Some(iterator) = next {
        let read = client.get_records().shard_iterator(iterator).limit(100).send().await.unwrap();
        found.extend(data(read.records()).into_iter().map(<[u8]>::to_vec));
        children.extend(read.child_shards().iter().map(|child| child.shard_id().to_owned()));
        next = read.next_shard_iterator;
    }
    let expected: Vec<Vec<u8>> = (1..500).map(|number: usize| number.to_string().into_bytes()).collect();
    assert_eq!(found, expected);
    children.sort();
    assert_eq!(children, ["shardId-000000000001", "shardId-000000000002"]);

    // Pushed: what is there, then what comes.
    let arn = summary.stream_arn();
    let consumer = client.register_stream_consumer().stream_arn(arn).consumer_name("c").send().await.unwrap();
    let consumer = consumer.consumer().unwrap().consumer_arn().to_owned();
    let from = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
    let subscribe = |shard: &str| {
        client.subscribe_to_shard().consumer_arn(&consumer).shard_id(shard).starting_position(from.clone()).send()
    };
    let mut closed = subscribe(put.shard_id()).await.unwrap().event_stream;
    let mut pushed = 0;
    while let Some(event) = closed.recv().await.unwrap() {
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else { panic!("{event:?}") };
        pushed += event.records().len();
    }
    assert_eq!(pushed, 500);
    let mut open = subscribe(&children[0]).await.unwrap().event_stream;
    let low = client.put_record().stream_name("s").partition_key("k").explicit_hash_key("0");
    low.data(Blob::new("pushed")).send().await.unwrap();
    let record = loop {
        let event = open.recv().await.unwrap().unwrap();
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else { panic!("{event:?}") };
        if let Some(record) = event.records().first() {
            break record.clone();
        }
    };
    assert_eq!((record.data().as_ref(), record.partition_key()), (&b"pushed"[..], Some("k")));
    // A client that goes away leaves room for the next.
    drop(open);
    let (mut shards, mut next) = (0, client.list_shards().stream_name("s").max_results(1).send().await.unwrap());
    while let Some(token) = next.next_token() {
        shards += next.shards().len();
        next = client.list_shards().next_token(token).max_results(1).send().await.unwrap();
    }
    shards += next.shards().len();
    assert_eq!(shards, 3);
    server.close().await;
    kinesis.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_in_the_middle_take_nothing_with_them() {
    const RECORDS: u8 = 60;
    let clock = ManualClock::default();
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let server = serve(&kinesis).await;
    let client = sdk(&server.url(), KEY.1);
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    for number in 0..RECORDS {
        stream.put_record(PutRecord::new(vec![number; 100 * 1024], "k")).await.unwrap();
    }
    let arn = client.describe_stream_summary().stream_name("s").send().await.unwrap();
    let arn = arn.stream_description_summary().unwrap().stream_arn().to_owned();
    let consumer = client.register_stream_consumer().stream_arn(arn).consumer_name("c").send().await.unwrap();
    let consumer = consumer.consumer().unwrap().consumer_arn().to_owned();
    let from = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build().unwrap();
    let subscribe = async || {
        // A call within five seconds of the one before is refused.
        clock.advance(Duration::from_secs(6));
        let call = client.subscribe_to_shard().consumer_arn(&consumer).shard_id("shardId-000000000000");
        call.starting_position(from.clone()).send().await.unwrap().event_stream
    };
    for events in 0..20 {
        let mut stream = subscribe().await;
        // Some go before their first event, some between two, of what is larger than any buffer on the way.
        for _ in 0..events % 3 {
            stream.recv().await.unwrap().unwrap();
        }
    }
    let (mut stream, mut found) = (subscribe().await, Vec::new());
    while found.len() < usize::from(RECORDS) {
        let event = stream.recv().await.unwrap().unwrap();
        let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else { panic!("{event:?}") };
        found.extend(event.records().iter().map(|record| record.data().as_ref()[0]));
    }
    assert_eq!(found, Vec::from_iter(0..RECORDS));
    drop(stream);
    server.close().await;
    kinesis.close().await.unwrap();
}
