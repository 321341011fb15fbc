//! Splunk's HTTP Event Collector, with acknowledgements by its indexers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use durable_core::{Clock, SystemClock};
use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::super::destination::{Answer, DeliveryRequest, Destination, Refusal, RequestRecord};
use super::super::error_output::ErrorOutputType;
use super::client::{Failed, Reply, client, parse_url, secret_header, send};
use crate::Result;

/// How long Splunk may take to acknowledge what it was sent, unless set. Firehose's default.
pub const SPLUNK_ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(180);
/// How long one answer of the collector may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Between questions for an acknowledgement, doubling from the first to the second.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What the collector is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HecEndpoint {
    /// Records as they are, a line each: `/services/collector/raw`.
    #[default]
    Raw,
    /// Each record is one or more JSON objects of HEC's form, with `event` in them: `/services/collector/event`. Records that
    /// are not are put aside.
    Event,
}

/// Splunk as a destination, by its
/// [HTTP Event Collector](https://docs.splunk.com/Documentation/Splunk/latest/Data/AboutHECIDXAck). The token must have
/// indexer acknowledgement enabled.
///
/// Records count as delivered once Splunk has acknowledged them. Those it did not acknowledge in time are sent again, so that
/// it may index them twice. Tested against a stand-in that was written from the protocol's documentation: no Splunk.
///
/// ```no_run
/// use kinesis_core::Kinesis;
/// use kinesis_core::firehose::{DeliveryStream, HecEndpoint, Splunk};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kinesis_core::Result<()> {
/// let kinesis = Kinesis::at("data").open().await?;
/// let splunk = Splunk::new("https://splunk.example.com:8088", "b8d5e2a0-...")?.with_endpoint(HecEndpoint::Event);
/// let delivery = DeliveryStream::direct("logs", kinesis.clone(), kinesis.store()).with_destination(splunk).open().await?;
/// delivery.put_record(r#"{"event": "a line"}"#).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Splunk {
    url: Url,
    client: Client,
    authorization: HeaderValue,
    endpoint: HecEndpoint,
    channel: String,
    ack_timeout: Duration,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
struct Taken {
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Code {
    code: u32,
}

#[derive(Deserialize)]
struct Acks {
    acks: std::collections::BTreeMap<String, bool>,
}

impl Splunk {
    /// The collector at this URL, without its path, for this token.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no URL of HTTP, or a token with characters that no header can have.
    pub fn new(url: &str, token: &str) -> Result<Self> {
        Ok(Self {
            url: parse_url(url)?,
            client: client()?,
            authorization: secret_header("the token", &format!("Splunk {token}"))?,
            endpoint: HecEndpoint::default(),
            channel: uuid::Uuid::new_v4().to_string(),
            ack_timeout: SPLUNK_ACK_TIMEOUT_DEFAULT,
            clock: Arc::new(SystemClock::new()),
        })
    }

    /// What the collector is sent.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: HecEndpoint) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// How long Splunk may take to acknowledge.
    #[must_use]
    pub fn with_ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    async fn call(&self, path: &str, body: Bytes) -> Result<Reply, Refusal> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/services/collector/{path}", self.url.path().trim_end_matches('/')));
        url.query_pairs_mut().append_pair("channel", &self.channel);
        let post = self
            .client
            .post(url)
            .timeout(ANSWER_TIMEOUT)
            .header(AUTHORIZATION, &self.authorization)
            .header("X-Splunk-Request-Channel", &self.channel);
        send(post.body(body), ANSWER_BYTES_MAX).await.map_err(|(kind, message)| {
            let code = match kind {
                Failed::Connect => "Splunk.InvalidEndpoint",
                Failed::Timeout => "Splunk.ConnectionTimeout",
                Failed::TooLarge => "Splunk.ServerError",
                Failed::Broken => "Splunk.ConnectionClosed",
            };
            Refusal::for_now(code, message)
        })
    }

    async fn send(&self, request: DeliveryRequest) -> Answer {
        let mut refused = Vec::new();
        let mut body = BytesMut::new();
        for (place, record) in request.records.iter().enumerate() {
            if self.endpoint == HecEndpoint::Event
                && let Err(why) = check_events(&record.data)
            {
                refused.push((place, Refusal::for_good("Splunk.InvalidDataFormat", why)));
                continue;
            }
            body.extend_from_slice(&record.data);
            if !record.data.ends_with(b"\n") {
                body.extend_from_slice(b"\n");
            }
        }
        if body.is_empty() {
            return Ok(refused);
        }
        let path = match self.endpoint {
            HecEndpoint::Raw => "raw",
            HecEndpoint::Event => "event",
        };
        let reply = self.call(path, body.freeze()).await?;
        let taken = judge(&reply)?;
        self.await_ack(taken).await?;
        Ok(refused)
    }

    /// Asks until the indexers have what was taken under this id.
    async fn await_ack(&self, id: u64) -> Result<(), Refusal> {
        let deadline = self.clock.monotonic() + self.ack_timeout;
        let question = Bytes::from(format!(r#"{{"acks":[{id}]}}"#));
        let mut wait = POLL.0;
        let mut failure = None;
        loop {
            match self.call("ack", question.clone()).await {
                Ok(reply) if reply.status == StatusCode::OK => {
                    let acks = serde_json::from_slice::<Acks>(&reply.body);
                    if acks.is_ok_and(|acks| acks.acks.get(&id.to_string()) == Some(&true)) {
                        return Ok(());
                    }
                }
                Ok(reply) => failure = Some(reply.text()),
                Err(refusal) => failure = Some(refusal.message),
            }
            if self.clock.monotonic() + wait > deadline {
                let why = failure.map(|failure| format!("; last: {failure}")).unwrap_or_default();
                let message = format!(
                    "Did not receive an acknowledgement from HEC before the HEC acknowledgement timeout expired. It is \
                     possible that the data was indexed{why}"
                );
                return Err(Refusal::for_now("Splunk.AckTimeout", message));
            }
            self.clock.sleep(wait).await;
            wait = (wait * 2).min(POLL.1);
        }
    }
}

/// The id to ask for, if the collector took what it was sent.
fn judge(reply: &Reply) -> Result<u64, Refusal> {
    if reply.status == StatusCode::OK {
        let taken = serde_json::from_slice::<Taken>(&reply.body);
        let disabled = || "HEC acknowledgements are disabled for this token: enable indexer acknowledgement".to_owned();
        return match taken {
            Ok(Taken { ack_id: Some(id) }) => Ok(id),
            Ok(_) => Err(Refusal::for_now("Splunk.DisabledAcks", disabled())),
            Err(error) => Err(Refusal::for_now("Splunk.ServerError", format!("the answer is not HEC's: {error}"))),
        };
    }
    let code = serde_json::from_slice::<Code>(&reply.body).map(|code| code.code).ok();
    let message = format!("HEC answered {}", reply.text());
    Err(match (reply.status, code) {
        (StatusCode::BAD_REQUEST, Some(5 | 6 | 12 | 13)) => Refusal::for_good("Splunk.InvalidDataFormat", message),
        (StatusCode::PAYLOAD_TOO_LARGE, _) => Refusal::for_good("Splunk.ServerError.ContentTooLarge", message),
        (_, Some(1)) => Refusal::for_now("Splunk.DisabledToken", message),
        (StatusCode::UNAUTHORIZED, _) | (_, Some(2..=4)) => Refusal::for_now("Splunk.InvalidToken", message),
        (_, Some(7)) => Refusal::for_now("Splunk.InvalidIndex", message),
        (_, Some(14)) => Refusal::for_now("Splunk.DisabledAcks", message),
        (_, Some(9)) => Refusal::for_now("Splunk.IndexerBusy", message),
        (StatusCode::NOT_FOUND, _) => Refusal::for_now("Splunk.URLNotFound", message),
        _ => Refusal::for_now("Splunk.ServerError", message),
    })
}

/// Refuses what HEC takes for no event: it would refuse all that come with it.
fn check_events(data: &[u8]) -> Result<(), String> {
    let mut any = false;
    for event in serde_json::Deserializer::from_slice(data).into_iter::<Value>() {
        any = true;
        match event.map_err(|error| format!("the record is not JSON: {error}"))?.get("event") {
            None => return Err("the record has no event: HEC wants {\"event\": ..}".to_owned()),
            Some(Value::Null) => return Err("the record's event is null".to_owned()),
            Some(Value::String(text)) if text.is_empty() => return Err("the record's event is blank".to_owned()),
            Some(_) => {}
        }
    }
    if any { Ok(()) } else { Err("the record is empty".to_owned()) }
}

impl Destination for Splunk {
    fn error_output_type(&self) -> ErrorOutputType {
        ErrorOutputType::SplunkFailed
    }

    fn members(&self, _request_id: &str, record: &RequestRecord) -> Vec<(&'static str, String)> {
        vec![("EventId", record.id.clone())]
    }

    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
        self.send(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hec_takes_for_an_event() {
        for good in [r#"{"event":"a"}"#, r#"{"event":{"a":1},"time":1}{"event":0}"#] {
            assert_eq!(check_events(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, why) in
            [("", "empty"), ("a", "not JSON"), ("{}", "no event"), (r#"{"event":""}"#, "blank"), ("1", "no event")]
        {
            assert!(check_events(bad.as_bytes()).unwrap_err().contains(why), "{bad}");
        }
    }
}
