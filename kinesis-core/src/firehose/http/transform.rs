//! A transform behind an HTTP endpoint, with the contract of Firehose's Lambda functions.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::super::transform::{Transform, TransformOutcome, TransformRecord, TransformResult};
use super::client::{client, parse_url, send};
use crate::{Error, ErrorKind, Result};

/// How long a function has for one call, unless set. Firehose's bound for Lambda.
pub const HTTP_TRANSFORM_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
/// Bytes of an answer. Lambda's is 6 MB; what runs elsewhere may want more.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Calls an HTTP endpoint that speaks as
/// [Firehose's Lambda functions](https://docs.aws.amazon.com/firehose/latest/dev/data-transformation-status-model.html) do.
///
/// It is sent a `POST` of the event that such a function gets: `invocationId`, `deliveryStreamArn`, `region` and `records`,
/// each with `recordId`, `approximateArrivalTimestamp` and `data` in base64. It answers 200 with `records`, each with
/// `recordId`, `result` (`Ok`, `Dropped` or `ProcessingFailed`), `data` in base64, and `metadata` with `partitionKeys`. The
/// invocation URL of a Lambda runtime, the interface emulator's for instance, is such an endpoint.
///
/// ```no_run
/// use kinesis_core::Kinesis;
/// use kinesis_core::firehose::{DeliveryStream, HttpTransform};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kinesis_core::Result<()> {
/// let kinesis = Kinesis::at("data").open().await?;
/// let function = HttpTransform::new("http://127.0.0.1:9000/2015-03-31/functions/function/invocations")?;
/// let delivery = DeliveryStream::direct("logs", kinesis.clone(), kinesis.store()).with_transform(function).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HttpTransform {
    url: Url,
    client: Client,
    delivery_stream_arn: String,
    timeout: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    invocation_id: String,
    delivery_stream_arn: &'a str,
    region: &'a str,
    records: Vec<EventRecord<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    record_id: &'a str,
    approximate_arrival_timestamp: i64,
    data: String,
}

#[derive(Deserialize)]
struct Answer {
    records: Vec<AnswerRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerRecord {
    record_id: String,
    result: String,
    data: Option<String>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    partition_keys: BTreeMap<String, String>,
}

impl HttpTransform {
    /// The function at this URL.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no URL of HTTP.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            url: parse_url(url)?,
            client: client()?,
            delivery_stream_arn: "arn:aws:firehose:us-east-1:000000000000:deliverystream/embedded".to_owned(),
            timeout: HTTP_TRANSFORM_TIMEOUT_DEFAULT,
        })
    }

    /// The delivery stream that the function is told of.
    #[must_use]
    pub fn with_delivery_stream_arn(mut self, arn: impl Into<String>) -> Self {
        self.delivery_stream_arn = arn.into();
        self
    }

    /// How long the function has for one call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn call(self, records: Vec<TransformRecord>) -> Result<Vec<TransformOutcome>> {
        let event = Event {
            invocation_id: uuid::Uuid::new_v4().to_string(),
            delivery_stream_arn: &self.delivery_stream_arn,
            region: self.delivery_stream_arn.split(':').nth(3).unwrap_or_default(),
            records: records.iter().map(EventRecord::new).collect(),
        };
        // Plain data always encodes.
        let body = serde_json::to_vec(&event).unwrap_or_default();
        let post = self.client.post(self.url).timeout(self.timeout).header(CONTENT_TYPE, "application/json");
        let failed = |message: String| Error::new(ErrorKind::Unavailable, message);
        let reply = send(post.body(body), ANSWER_BYTES_MAX)
            .await
            .map_err(|(_, message)| failed(format!("the function could not be called: {message}")))?;
        if reply.status != StatusCode::OK {
            return Err(failed(format!("the function answered {}", reply.text())));
        }
        let answer: Answer = serde_json::from_slice(&reply.body).map_err(|error| {
            failed(format!(
                "the function's answer is not of the form that Firehose wants: {error}; it is {}",
                reply.text()
            ))
        })?;
        Ok(answer.records.into_iter().map(AnswerRecord::outcome).collect())
    }
}

impl<'a> EventRecord<'a> {
    fn new(record: &'a TransformRecord) -> Self {
        Self {
            record_id: &record.record_id,
            approximate_arrival_timestamp: record.arrival.timestamp_millis(),
            data: STANDARD.encode(&record.data),
        }
    }
}

impl AnswerRecord {
    fn outcome(self) -> TransformOutcome {
        let result = match self.result.as_str() {
            "Ok" => match self.data.as_ref().map(|data| STANDARD.decode(data)) {
                Some(Ok(data)) => {
                    TransformResult::Ok { data: Bytes::from(data), partition_keys: self.metadata.partition_keys }
                }
                Some(Err(error)) => TransformResult::failed(format!("the function's data is not base64: {error}")),
                None => TransformResult::failed("the function answered Ok without data"),
            },
            "Dropped" => TransformResult::Dropped,
            "ProcessingFailed" => TransformResult::failed("ProcessingFailed status set for record"),
            other => TransformResult::failed(format!("the function's result '{other:.50}' is none that there is")),
        };
        TransformOutcome::new(self.record_id, result)
    }
}

impl Transform for HttpTransform {
    fn apply(&self, records: Vec<TransformRecord>) -> BoxFuture<'static, Result<Vec<TransformOutcome>>> {
        self.clone().call(records).boxed()
    }
}
