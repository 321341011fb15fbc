//! Whatever a client sends to any operation, the answer is what was asked or an error that is the client's: no answer says that the
//! server failed, and nothing panics.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::ManualClock;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use kinesis_core::{Kinesis, Limits, Settings, server};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::seeds::{Violation, check_all};
use tower_service::Service;
use wire_core::axum::Router;
use wire_core::axum::body::Body;
use wire_core::{Encoding, Services};

use super::stage::block_on;

const REQUESTS_EACH: usize = 4_000;
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

/// Each operation, with a request that it takes.
fn requests() -> Vec<(&'static str, Value)> {
    let named = json!({"StreamName": "s"});
    let shard = "shardId-000000000000";
    let at = json!({"Type": "AT_TIMESTAMP", "Timestamp": 1_767_225_600.5});
    let consumer = json!({"StreamARN": ARN, "ConsumerName": "c"});
    let data = "aGVsbG8=";
    vec![
        ("AddTagsToStream", json!({"StreamName": "s", "Tags": {"k": "v"}})),
        (
            "CreateStream",
            json!({"StreamName": "t", "ShardCount": 1, "Tags": {"k": "v"}, "MaxRecordSizeInKiB": 1024,
            "StreamModeDetails": {"StreamMode": "PROVISIONED"}}),
        ),
        ("DecreaseStreamRetentionPeriod", json!({"StreamARN": ARN, "RetentionPeriodHours": 24})),
        ("DeleteStream", json!({"StreamName": "t", "EnforceConsumerDeletion": true})),
        ("DeregisterStreamConsumer", consumer.clone()),
        ("DescribeLimits", json!({})),
        ("DescribeStream", json!({"StreamName": "s", "Limit": 2, "ExclusiveStartShardId": shard})),
        ("DescribeStreamConsumer", consumer.clone()),
        ("DescribeStreamSummary", named.clone()),
        ("DisableEnhancedMonitoring", json!({"StreamName": "s", "ShardLevelMetrics": ["IncomingBytes"]})),
        ("EnableEnhancedMonitoring", json!({"StreamName": "s", "ShardLevelMetrics": ["ALL"]})),
        ("GetRecords", json!({"ShardIterator": "AAAA", "Limit": 10})),
        (
            "GetShardIterator",
            json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": "AT_TIMESTAMP",
            "Timestamp": 1_767_225_600.5}),
        ),
        (
            "GetShardIterator",
            json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber": "49670424472731169861061894383145303276904469982749917186"}),
        ),
        ("IncreaseStreamRetentionPeriod", json!({"StreamName": "s", "RetentionPeriodHours": 48})),
        (
            "ListShards",
            json!({"StreamName": "s", "MaxResults": 1, "StreamCreationTimestamp": 1_767_225_600,
            "ExclusiveStartShardId": shard, "ShardFilter": at.clone()}),
        ),
        ("ListShards", json!({"NextToken": "AAAA"})),
        ("ListStreamConsumers", json!({"StreamARN": ARN, "MaxResults": 1})),
        ("ListStreams", json!({"Limit": 1, "ExclusiveStartStreamName": "a"})),
        ("ListTagsForResource", json!({"ResourceARN": ARN})),
        ("ListTagsForStream", json!({"StreamName": "s", "Limit": 1, "ExclusiveStartTagKey": "a"})),
        (
            "MergeShards",
            json!({"StreamName": "s", "ShardToMerge": shard, "AdjacentShardToMerge": "shardId-000000000001"}),
        ),
        (
            "PutRecord",
            json!({"StreamName": "s", "Data": data, "PartitionKey": "k", "ExplicitHashKey": "7",
            "SequenceNumberForOrdering": "49670424472731169861061894383145303276904469982749917186"}),
        ),
        (
            "PutRecords",
            json!({"StreamARN": ARN, "Records": [{"Data": data, "PartitionKey": "k"},
            {"Data": data, "PartitionKey": "l", "ExplicitHashKey": "340282366920938463463374607431768211455"}]}),
        ),
        ("RegisterStreamConsumer", consumer.clone()),
        ("RemoveTagsFromStream", json!({"StreamName": "s", "TagKeys": ["k"]})),
        ("SplitShard", json!({"StreamName": "s", "ShardToSplit": shard, "NewStartingHashKey": "1000"})),
        (
            "SubscribeToShard",
            json!({"ConsumerARN": format!("{ARN}/consumer/c:1767225600"), "ShardId": shard,
            "StartingPosition": at}),
        ),
        ("TagResource", json!({"ResourceARN": ARN, "Tags": {"k": "v"}})),
        ("UntagResource", json!({"ResourceARN": ARN, "TagKeys": ["k"]})),
        ("UpdateMaxRecordSize", json!({"StreamARN": ARN, "MaxRecordSizeInKiB": 2048})),
        ("UpdateShardCount", json!({"StreamName": "s", "TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"})),
        ("UpdateStreamMode", json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "PROVISIONED"}})),
    ]
}

/// Something else than what belongs there.
fn wrong(random: &mut StdRng) -> Value {
    let deep = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    let texts =
        ["", "s", "\0", "語", "-1", "shardId-000000000001", "shardId-999999999999", "1e5", " ", "../..", "a b", ARN];
    match random.random_range(0..16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1.5e300),
        7 => json!([]),
        8 => json!({}),
        9 => deep(*[1, 3, 120, 400].choose(random).unwrap()),
        10 => Value::Array(vec![json!({}); 501]),
        11 => json!("x".repeat(*[128, 129, 256, 257, 5000].choose(random).unwrap())),
        12 => json!({"a": {"b": []}}),
        13 => json!(random.random::<i32>()),
        _ => json!(*texts.choose(random).unwrap()),
    }
}

/// Changes one place of a value.
fn change(random: &mut StdRng, value: &mut Value) {
    match value {
        Value::Object(members) if !members.is_empty() && random.random_bool(0.9) => {
            let key = members.keys().nth(random.random_range(0..members.len())).cloned().unwrap_or_default();
            match random.random_range(0..8) {
                0 => drop(members.remove(&key)),
                1 => drop(members.insert("Unknown".to_owned(), wrong(random))),
                _ => change(random, &mut members[&key]),
            }
        }
        Value::Array(items) if !items.is_empty() && random.random_bool(0.8) => {
            let at = random.random_range(0..items.len());
            change(random, &mut items[at]);
        }
        _ => *value = wrong(random),
    }
}

/// Of any answer, what is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    #[serde(rename = "__type")]
    code: String,
    shard_iterator: Option<String>,
    next_shard_iterator: Option<String>,
    next_token: Option<String>,
}

struct Client {
    router: Router,
    /// Iterators and tokens that were given out.
    given: Vec<String>,
}

impl Client {
    async fn send(&mut self, operation: &str, encoding: Encoding, body: Bytes) -> Result<Response<Body>, Violation> {
        let content_type = match encoding {
            Encoding::Cbor11 => "application/x-amz-cbor-1.1",
            _ => "application/x-amz-json-1.1",
        };
        let request = Request::post("/")
            .header("content-type", content_type)
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .body(Body::from(body));
        let request = request.map_err(|error| error.to_string())?;
        self.router.call(request).await.map_err(|error| error.to_string())
    }

    /// Sends a request and looks at the answer; answers whether it was done.
    async fn try_request(&mut self, operation: &str, encoding: Encoding, body: Bytes) -> Result<bool, Violation> {
        let response = self.send(operation, encoding, body).await?;
        let status = response.status();
        if operation == "SubscribeToShard" && status == StatusCode::OK {
            // The client goes away.
            return Ok(true);
        }
        let answer = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let answer: Answer = match answer.is_empty() {
            true => Answer::default(),
            false => encoding.decode(&answer).map_err(|error| format!("{error:?}: {shown}"))?,
        };
        if status == StatusCode::OK {
            self.given
                .extend([answer.shard_iterator, answer.next_shard_iterator, answer.next_token].into_iter().flatten());
            self.given.drain(..self.given.len().saturating_sub(40));
            return Ok(true);
        }
        match status.is_client_error() && !answer.code.is_empty() {
            true => Ok(false),
            false => Err(format!("{status}: {shown}")),
        }
    }
}

/// Answers how many requests were done.
async fn check(seed: u64) -> Result<usize, Violation> {
    let mut random = StdRng::seed_from_u64(seed);
    let clock = ManualClock::default();
    let settings = Settings::default().with_limits(Limits::aws()).with_tail_bytes(4 << 20).with_cache_bytes(1 << 20);
    let opened = Kinesis::memory().with_settings(settings).with_clock(Arc::new(clock.clone())).open().await;
    let kinesis = opened.map_err(|error| error.to_string())?;
    let services = Services::new(wire_core::Settings::default()).with(server::service(kinesis.clone()));
    let mut client = Client { router: services.into_router(), given: Vec::new() };
    let requests = requests();
    let mut done = 0;
    for _ in 0..REQUESTS_EACH {
        clock.advance(Duration::from_millis(300));
        if kinesis.stream("s").is_err() {
            kinesis.create_stream("s", 2).await.map_err(|error| error.to_string())?;
        }
        let (operation, mut body) = requests[random.random_range(0..requests.len())].clone();
        for member in ["ShardIterator", "NextToken"] {
            if let (Some(value), Some(given)) = (body.get_mut(member), client.given.choose(&mut random)) {
                *value = json!(given);
            }
        }
        for _ in 0..random.random_range(0..3) {
            change(&mut random, &mut body);
        }
        let encoding = if random.random_bool(0.5) { Encoding::Json11 } else { Encoding::Cbor11 };
        let mut bytes = encoding.encode(&body).map_err(|error| format!("{error:?}"))?.to_vec();
        if random.random_bool(0.1) && !bytes.is_empty() {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        let answered = client.try_request(operation, encoding, bytes.into()).await;
        done += usize::from(answered.map_err(|violation| format!("{operation} {encoding:?} {body}: {violation}"))?);
    }
    // It serves as before.
    let body = json!({"StreamName": "s", "Data": "aGVsbG8=", "PartitionKey": "k"});
    let body = Encoding::Json11.encode(&body).map_err(|error| format!("{error:?}"))?;
    clock.advance(Duration::from_secs(10));
    if !client.try_request("PutRecord", Encoding::Json11, body).await? {
        return Err("it takes no record any more".to_owned());
    }
    kinesis.close().await.map_err(|error| error.to_string())?;
    Ok(done)
}

#[test]
fn is_answered_or_refused() {
    let done = check_all(0..20, |seed| block_on(check(seed)));
    assert!(done.iter().all(|done| *done > REQUESTS_EACH / 6), "{done:?}");
}
