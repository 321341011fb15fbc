//! A generic HTTP endpoint, in the form of requests and answers that Firehose has for them.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::write::GzEncoder;
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::super::destination::{Answer, DeliveryRequest, Destination, Refusal, RequestRecord};
use super::super::error_output::ErrorOutputType;
use super::client::{Failed, Reply, client, parse_url, secret_header, send};
use crate::{Error, Result};

/// How long an endpoint has for its answer, unless set. Firehose's bound.
pub const HTTP_ENDPOINT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(180);
/// Common attributes of a destination. Firehose's bound.
pub const COMMON_ATTRIBUTES_MAX: usize = 50;
/// Bytes of an answer. Firehose's bound.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const PROTOCOL_VERSION: &str = "1.0";

/// An HTTP endpoint that takes records in the
/// [form of Amazon Data Firehose](https://docs.aws.amazon.com/firehose/latest/dev/httpdeliveryrequestresponse.html).
///
/// It is sent `POST`s of JSON: `requestId`, `timestamp` in milliseconds, and `records`, each with its `data` in base64. It has
/// taken the records once it answers 200 with JSON that has the same `requestId`. 413 refuses the records for good; every
/// other status, every other body, one of more than 1 MiB, and no answer in time, is tried again. Redirects are not followed.
/// The request id is the same for each attempt, also after a restart: an endpoint that remembers ids takes each record once.
///
/// ```no_run
/// use kinesis_core::Kinesis;
/// use kinesis_core::firehose::{DeliveryStream, HttpEndpoint};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kinesis_core::Result<()> {
/// let kinesis = Kinesis::at("data").open().await?;
/// let endpoint = HttpEndpoint::new("https://collector.example.com/ingest")?.with_access_key("secret")?.with_gzip();
/// let delivery = DeliveryStream::direct("logs", kinesis.clone(), kinesis.store()).with_destination(endpoint).open().await?;
/// delivery.put_record("a line").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    url: Url,
    client: Client,
    access_key: Option<HeaderValue>,
    common_attributes: Option<HeaderValue>,
    source_arn: Option<HeaderValue>,
    gzip: bool,
    timeout: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    request_id: &'a str,
    timestamp: i64,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    data: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommonAttributes {
    common_attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    request_id: String,
}

impl HttpEndpoint {
    /// The endpoint at this URL, which is used as it is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no URL of HTTP.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            url: parse_url(url)?,
            client: client()?,
            access_key: None,
            common_attributes: None,
            source_arn: None,
            gzip: false,
            timeout: HTTP_ENDPOINT_TIMEOUT_DEFAULT,
        })
    }

    /// Sends this key as `X-Amz-Firehose-Access-Key`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for characters that no header can have.
    pub fn with_access_key(mut self, key: &str) -> Result<Self> {
        self.access_key = Some(secret_header("the access key", key)?);
        Ok(self)
    }

    /// Sends these as `X-Amz-Firehose-Common-Attributes`: up to [`COMMON_ATTRIBUTES_MAX`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more of them, or for characters that no header can have.
    pub fn with_common_attributes<K: Into<String>, V: Into<String>>(
        mut self,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let common_attributes: BTreeMap<String, String> =
            attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        if common_attributes.len() > COMMON_ATTRIBUTES_MAX {
            let given = common_attributes.len();
            return Err(Error::invalid(format!(
                "{given} common attributes: up to {COMMON_ATTRIBUTES_MAX} are possible"
            )));
        }
        let json = serde_json::to_string(&CommonAttributes { common_attributes }).unwrap_or_default();
        self.common_attributes = Some(secret_header("a common attribute", &json)?);
        Ok(self)
    }

    /// Sends this as `X-Amz-Firehose-Source-Arn`, which tells an endpoint where records come from.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for characters that no header can have.
    pub fn with_source_arn(mut self, arn: &str) -> Result<Self> {
        let refused = |_| Error::invalid(format!("'{arn:.200}' cannot stand in an HTTP header"));
        self.source_arn = Some(HeaderValue::from_str(arn).map_err(refused)?);
        Ok(self)
    }

    /// Compresses requests by gzip.
    #[must_use]
    pub fn with_gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// How long the endpoint has for each answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn post(&self, request: DeliveryRequest) -> Answer {
        let id = request.id.clone();
        let gzip = self.gzip;
        let body = tokio::task::spawn_blocking(move || body(&request, gzip));
        let body = body.await.map_err(|error| Refusal::for_now("HttpEndpoint.InvalidRequest", error.to_string()))?;
        let headers = [
            ("X-Amz-Firehose-Source-Arn", &self.source_arn),
            ("X-Amz-Firehose-Access-Key", &self.access_key),
            ("X-Amz-Firehose-Common-Attributes", &self.common_attributes),
        ];
        let mut post = self
            .client
            .post(self.url.clone())
            .timeout(self.timeout)
            .header("X-Amz-Firehose-Protocol-Version", PROTOCOL_VERSION)
            .header("X-Amz-Firehose-Request-Id", &id)
            .header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            if let Some(value) = value {
                post = post.header(name, value);
            }
        }
        if gzip {
            post = post.header(CONTENT_ENCODING, "gzip");
        }
        let reply = send(post.body(body), ANSWER_BYTES_MAX).await.map_err(|(kind, message)| {
            let code = match kind {
                Failed::Connect => "HttpEndpoint.ConnectionFailed",
                Failed::Timeout => "HttpEndpoint.RequestTimeout",
                Failed::TooLarge => "HttpEndpoint.ResponseTooLarge",
                Failed::Broken => "HttpEndpoint.ConnectionReset",
            };
            Refusal::for_now(code, message)
        })?;
        judge(&id, &reply)
    }
}

fn judge(id: &str, reply: &Reply) -> Answer {
    let message = || format!("The following response was received from the endpoint destination. {}", reply.text());
    match reply.status {
        StatusCode::OK => match serde_json::from_slice::<Response>(&reply.body) {
            Ok(response) if response.request_id == id => Ok(Vec::new()),
            Ok(response) => {
                let message = format!("the answer is to request '{:.100}', not to '{id}'", response.request_id);
                Err(Refusal::for_now("HttpEndpoint.InvalidResponseFromDestination", message))
            }
            Err(error) => {
                let message = format!("the answer is not of Firehose's form: {error}");
                Err(Refusal::for_now("HttpEndpoint.InvalidResponseFromDestination", message))
            }
        },
        StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::for_good("HttpEndpoint.DestinationException", message())),
        _ => Err(Refusal::for_now("HttpEndpoint.DestinationException", message())),
    }
}

fn body(request: &DeliveryRequest, gzip: bool) -> Bytes {
    let records = request.records.iter().map(|record| Record { data: STANDARD.encode(&record.data) }).collect();
    let timestamp = request.time.timestamp_millis();
    // Plain data always encodes, and writing to memory cannot fail.
    let json = serde_json::to_vec(&Request { request_id: &request.id, timestamp, records }).unwrap_or_default();
    if !gzip {
        return json.into();
    }
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(&json).and_then(|()| out.finish()).unwrap_or_default().into()
}

impl Destination for HttpEndpoint {
    fn error_output_type(&self) -> ErrorOutputType {
        ErrorOutputType::HttpEndpointFailed
    }

    fn members(&self, _request_id: &str, record: &RequestRecord) -> Vec<(&'static str, String)> {
        vec![("dataId", record.id.clone())]
    }

    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
        self.post(request).boxed()
    }
}
