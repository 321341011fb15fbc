//! Where batches go that are given up.

use std::future::Future;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use uuid::Uuid;

use super::function::FunctionError;
use crate::put::PutRecord;
use crate::read::Record;
use crate::stream::{DataStream, ShardId, StreamName};

/// Why a batch was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// It failed as often as it may.
    RetryAttemptsExhausted,
    /// Its records are older than they may be.
    RecordAgeExceeded,
}

/// A batch that was given up. Its records stay in the stream for its retention.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedBatch {
    /// The mapping's name.
    pub mapping: String,
    /// The stream.
    pub stream: StreamName,
    /// The shard.
    pub shard: ShardId,
    /// In order, at least one.
    pub records: Vec<Record>,
    /// Why.
    pub condition: Condition,
    /// Calls that were made with it, about.
    pub approximate_invoke_count: u32,
    /// When it was given up.
    pub timestamp: DateTime<Utc>,
}

impl FailedBatch {
    /// The record that Lambda sends to an on-failure destination; for one in S3, with the payload.
    #[must_use]
    pub fn to_json(&self, with_payload: bool) -> Value {
        let moment = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let number = |record: Option<&Record>| record.map(|record| record.sequence_number.to_string());
        let arrival = |record: Option<&Record>| record.map(|record| moment(record.arrival));
        let (first, last) = (self.records.first(), self.records.last());
        let stream_arn = format!("arn:aws:kinesis:us-east-1:000000000000:stream/{}", self.stream);
        let condition = match self.condition {
            Condition::RetryAttemptsExhausted => "RetryAttemptsExhausted",
            Condition::RecordAgeExceeded => "RecordAgeExceeded",
        };
        let mut failed = json!({
            "requestContext": {
                "requestId": Uuid::new_v4().to_string(),
                "functionArn": self.mapping,
                "condition": condition,
                "approximateInvokeCount": self.approximate_invoke_count,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0",
            "timestamp": moment(self.timestamp),
            "KinesisBatchInfo": {
                "shardId": self.shard.to_string(),
                "startSequenceNumber": number(first),
                "endSequenceNumber": number(last),
                "approximateArrivalOfFirstRecord": arrival(first),
                "approximateArrivalOfLastRecord": arrival(last),
                "batchSize": self.records.len(),
                "streamArn": stream_arn.as_str(),
            },
        });
        if let (true, Some(object)) = (with_payload, failed.as_object_mut()) {
            let record = |record: &Record| {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
                let arrival = record.arrival.timestamp_millis() as f64 / 1000.0;
                json!({
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": record.partition_key.as_str(),
                        "sequenceNumber": record.sequence_number.to_string(),
                        "data": STANDARD.encode(&record.data),
                        "approximateArrivalTimestamp": arrival,
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": format!("{}:{}", self.shard, record.sequence_number),
                    "eventName": "aws:kinesis:record",
                    "eventSourceARN": stream_arn.as_str(),
                })
            };
            let records: Vec<Value> = self.records.iter().map(record).collect();
            object.insert("payload".to_owned(), json!({ "Records": records }).to_string().into());
        }
        failed
    }
}

type Deliver = Arc<dyn Fn(FailedBatch) -> BoxFuture<'static, Result<(), FunctionError>> + Send + Sync>;

/// Where batches go that are given up. A delivery that fails is tried again, and the shard waits for it.
#[derive(Clone)]
pub struct OnFailure {
    deliver: Deliver,
}

impl OnFailure {
    /// A function gets them.
    pub fn function<F, R>(deliver: F) -> Self
    where
        F: Fn(FailedBatch) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), FunctionError>> + Send + 'static,
    {
        Self { deliver: Arc::new(move |failed| deliver(failed).boxed()) }
    }

    /// An object each, below a prefix, with the payload: `aws/lambda/MAPPING/SHARD/YYYY/MM/DD/TIME-ID`, as Lambda names them.
    #[must_use]
    pub fn store(store: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self::function(move |failed| {
            let (store, prefix) = (store.clone(), prefix.clone());
            async move {
                let at = failed.timestamp;
                let name = format!("{}-{}", at.format("%Y-%m-%dT%H.%M.%S"), Uuid::new_v4());
                let folders = ["aws", "lambda", &failed.mapping].map(str::to_owned);
                let dated = [failed.shard.to_string(), at.format("%Y").to_string(), at.format("%m").to_string()];
                let last = [at.format("%d").to_string(), name];
                let path = folders.into_iter().chain(dated).chain(last).fold(prefix, Path::join);
                store.put(&path, failed.to_json(true).to_string().into_bytes().into()).await?;
                Ok(())
            }
        })
    }

    /// A record each of another stream, without the payload: it stays in the stream that it is of.
    #[must_use]
    pub fn stream(stream: DataStream) -> Self {
        Self::function(move |failed| {
            let stream = stream.clone();
            async move {
                let key = failed.shard.to_string();
                stream.put_record(PutRecord::new(failed.to_json(false).to_string(), key)).await?;
                Ok(())
            }
        })
    }

    pub(super) async fn deliver(&self, failed: FailedBatch) -> Result<(), FunctionError> {
        (self.deliver)(failed).await
    }
}

impl std::fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnFailure").finish_non_exhaustive()
    }
}
