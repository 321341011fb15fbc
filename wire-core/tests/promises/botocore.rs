//! botocore, which is under boto3 and the AWS CLI, speaks with a service here as with AWS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::DateTime;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use wire_core::{Blob, Context, Credentials, Event, EventStream, Service, Services, Settings, Timestamp, WireError};

use crate::python;
use crate::rig::serve;

type Blobs = Arc<Mutex<Vec<Blob>>>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecord {
    stream_name: String,
    data: Option<Blob>,
}

async fn put_record(
    blobs: Blobs,
    context: Context,
    input: PutRecord,
) -> Result<BTreeMap<&'static str, String>, WireError> {
    if input.stream_name == "gone" {
        return Err(WireError::new("ResourceNotFoundException", "Stream gone not found."));
    }
    let mut blobs = blobs.lock().unwrap_or_else(PoisonError::into_inner);
    let number = blobs.len().to_string();
    blobs.push(input.data.unwrap_or_default());
    let shard_id = context.arn("kinesis", &format!("stream/{}", input.stream_name));
    Ok(BTreeMap::from([("SequenceNumber", number), ("ShardId", shard_id)]))
}

async fn delete_stream(_: Blobs, _: Context, _: serde_json::Value) -> Result<(), WireError> {
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Subscribe {
    shard_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Records {
    records: Vec<Record>,
    continuation_sequence_number: String,
    millis_behind_latest: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    data: Blob,
    partition_key: String,
    approximate_arrival_timestamp: Timestamp,
}

impl Event for Records {
    fn event_type(&self) -> &'static str {
        "SubscribeToShardEvent"
    }
}

async fn subscribe(blobs: Blobs, _: Context, input: Subscribe) -> Result<EventStream<Records>, WireError> {
    let blobs = blobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let moment = DateTime::from_timestamp_millis(1_767_225_600_123).unwrap();
    let events = blobs.into_iter().map(move |data| {
        let record = Record { data, partition_key: "a".into(), approximate_arrival_timestamp: moment.into() };
        Ok(Records { records: vec![record], continuation_sequence_number: "1".into(), millis_behind_latest: 0 })
    });
    let end = (input.shard_id == "failing").then(|| Err(WireError::new("ResourceInUseException", "taken over")));
    Ok(EventStream::new(stream::iter(events).chain(stream::iter(end))))
}

#[tokio::test]
async fn botocore_is_content() {
    if !python::has("botocore").await {
        return;
    }
    let (key, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let kinesis = Service::new("kinesis", "Kinesis_20131202", Blobs::default())
        .operation("PutRecord", put_record)
        .operation("DeleteStream", delete_stream)
        .event_stream("SubscribeToShard", subscribe);
    let credentials = Credentials::default().with_key(key, secret);
    let server = serve(Services::new(Settings::default()).with(kinesis).with_credentials(credentials)).await;

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/promises/botocore_client.py");
    python::run(&[script, &server.url(), key, secret], "botocore is content").await;
    server.close().await;
}
