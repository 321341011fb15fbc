//! OpenSearch, and Elasticsearch, by their bulk API.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use md5::{Digest, Md5};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::destination::{Answer, DeliveryRequest, Destination, Refusal, RequestRecord};
use super::super::error_output::ErrorOutputType;
use super::super::schema::is_object;
use super::client::{Reply, client, parse_url, send};
use crate::{Error, Result};

/// Bytes of one bulk request, unless a single document has more: what the smaller domains of AWS take.
const BULK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Documents of one bulk request.
const BULK_RECORDS_MAX: usize = 10_000;
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long one bulk request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
/// Characters of an index name. Firehose's bound.
const INDEX_CHARS_MAX: usize = 80;

/// How often a new index begins, by the arrival of each record in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexRotation {
    /// All records go to the index itself.
    #[default]
    NoRotation,
    /// `index-2016-02-25-13`.
    OneHour,
    /// `index-2016-02-25`.
    OneDay,
    /// `index-2016-w08`, by ISO 8601.
    OneWeek,
    /// `index-2016-02`.
    OneMonth,
}

/// Who names documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DocumentIds {
    /// Each record has an id of its own, which stays: sent twice, it is one document. `FIREHOSE_DEFAULT`.
    #[default]
    OfTheRecord,
    /// OpenSearch does, which indexes faster: a record that is sent twice is two documents. `NO_DOCUMENT_ID`.
    OfTheService,
}

/// An index of OpenSearch, or Elasticsearch, as a destination: each record is a JSON object and becomes a document.
///
/// Documents are sent by [`_bulk`](https://docs.opensearch.org/latest/api-reference/document-apis/bulk/), some megabytes at
/// once. What it refuses of them with 429 or 5xx is sent again, and only that; what it refuses otherwise, by its mapping for
/// instance, is put aside with the reason. Tested against a stand-in that was written from the API's documentation: no
/// OpenSearch. Requests are not signed as AWS's domains may want it: give a user, or allow the address.
///
/// ```no_run
/// use kinesis_core::Kinesis;
/// use kinesis_core::firehose::{DeliveryStream, IndexRotation, OpenSearch};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> kinesis_core::Result<()> {
/// let kinesis = Kinesis::at("data").open().await?;
/// let index = OpenSearch::new("https://search.example.com:9200", "logs")?.with_rotation(IndexRotation::OneDay);
/// let delivery = DeliveryStream::direct("logs", kinesis.clone(), kinesis.store()).with_destination(index).open().await?;
/// delivery.put_record(r#"{"level": "info"}"#).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct OpenSearch {
    url: Url,
    client: Client,
    index: String,
    rotation: IndexRotation,
    document_ids: DocumentIds,
    type_name: Option<String>,
    user: Option<(String, String)>,
}

impl std::fmt::Debug for OpenSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSearch")
            .field("index", &self.index)
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Bulk {
    items: Vec<Value>,
}

impl OpenSearch {
    /// The index of this name in the cluster at this URL.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no URL of HTTP, or no name of an index.
    pub fn new(url: &str, index: &str) -> Result<Self> {
        let plain = |c: char| !c.is_uppercase() && !c.is_control() && !r#" "*\<|,>/?:#"#.contains(c);
        let begins_well = !index.starts_with(['-', '_', '+', '.']);
        if index.is_empty() || index.chars().count() > INDEX_CHARS_MAX || !index.chars().all(plain) || !begins_well {
            return Err(Error::invalid(format!(
                "'{index:.200}' is no name of an index: 1 to {INDEX_CHARS_MAX} characters, no capitals, none of \
                 \"*\\<|,>/?:# and space, none of -_+. in front"
            )));
        }
        let mut url = parse_url(url)?;
        url.set_path(&format!("{}/_bulk", url.path().trim_end_matches('/')));
        url.query_pairs_mut().append_pair("filter_path", "items.*.status,items.*.error.type,items.*.error.reason");
        Ok(Self {
            url,
            client: client()?,
            index: index.to_owned(),
            rotation: IndexRotation::default(),
            document_ids: DocumentIds::default(),
            type_name: None,
            user: None,
        })
    }

    /// How often a new index begins.
    #[must_use]
    pub fn with_rotation(mut self, rotation: IndexRotation) -> Self {
        self.rotation = rotation;
        self
    }

    /// Who names documents.
    #[must_use]
    pub fn with_document_ids(mut self, ids: DocumentIds) -> Self {
        self.document_ids = ids;
        self
    }

    /// The type of documents, for Elasticsearch before 7; later ones refuse it.
    #[must_use]
    pub fn with_type_name(mut self, name: impl Into<String>) -> Self {
        self.type_name = Some(name.into()).filter(|name| !name.is_empty());
        self
    }

    /// The user who indexes, by basic authentication.
    #[must_use]
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    fn index_of(&self, arrival: DateTime<Utc>) -> String {
        let index = &self.index;
        match self.rotation {
            IndexRotation::NoRotation => index.clone(),
            IndexRotation::OneHour => format!("{index}-{}", arrival.format("%Y-%m-%d-%H")),
            IndexRotation::OneDay => format!("{index}-{}", arrival.format("%Y-%m-%d")),
            IndexRotation::OneWeek => format!("{index}-{}", arrival.format("%G-w%V")),
            IndexRotation::OneMonth => format!("{index}-{}", arrival.format("%Y-%m")),
        }
    }

    fn document_id(&self, request_id: &str, record: &RequestRecord) -> Option<String> {
        if self.document_ids == DocumentIds::OfTheService {
            return None;
        }
        // Sequence numbers are of one stream; with the request's id they are of all.
        let digest = Md5::new().chain_update(request_id).chain_update(&record.id).finalize();
        Some(uuid::Builder::from_md5_bytes(digest.into()).into_uuid().simple().to_string())
    }

    /// The lines of one record.
    fn lines(&self, request_id: &str, record: &RequestRecord) -> Result<BytesMut, String> {
        if !is_object(&record.data) {
            return Err("the record is no JSON object, as documents are".to_owned());
        }
        let mut target = json!({"_index": self.index_of(record.arrival)});
        if let Some(id) = self.document_id(request_id, record) {
            target["_id"] = id.into();
        }
        if let Some(name) = &self.type_name {
            target["_type"] = name.as_str().into();
        }
        let mut lines = BytesMut::from(json!({"index": target}).to_string().as_bytes());
        lines.extend_from_slice(b"\n");
        // A line feed in JSON stands between its parts only.
        lines.extend(record.data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        lines.extend_from_slice(b"\n");
        Ok(lines)
    }

    async fn send(&self, request: DeliveryRequest) -> Answer {
        let mut refused = Vec::new();
        let mut bulk = (Vec::new(), BytesMut::new());
        for (place, record) in request.records.iter().enumerate() {
            let lines = match self.lines(&request.id, record) {
                Ok(lines) => lines,
                Err(why) => {
                    refused.push((place, Refusal::for_good("400", why)));
                    continue;
                }
            };
            let (places, body) = &mut bulk;
            if !places.is_empty() && (body.len() + lines.len() > BULK_BYTES_MAX || places.len() == BULK_RECORDS_MAX) {
                let (places, body) = std::mem::take(&mut bulk);
                refused.extend(self.send_bulk(&places, body.freeze()).await);
            }
            bulk.0.push(place);
            bulk.1.unsplit(lines);
        }
        let (places, body) = bulk;
        if !places.is_empty() {
            refused.extend(self.send_bulk(&places, body.freeze()).await);
        }
        Ok(refused)
    }

    /// Sends some documents; answers which of them were refused.
    async fn send_bulk(&self, places: &[usize], body: Bytes) -> Vec<(usize, Refusal)> {
        let mut post =
            self.client.post(self.url.clone()).timeout(ANSWER_TIMEOUT).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some((name, password)) = &self.user {
            post = post.basic_auth(name, Some(password));
        }
        let reply = send(post.body(body), ANSWER_BYTES_MAX).await;
        let judged = match &reply {
            Ok(reply) => judge(reply, places.len()),
            Err((_, message)) => Err(Refusal::for_now("ES.ServiceException", message)),
        };
        match judged {
            Ok(refused) => refused.into_iter().filter_map(|(at, refusal)| Some((*places.get(at)?, refusal))).collect(),
            Err(refusal) => places.iter().map(|place| (*place, refusal.clone())).collect(),
        }
    }
}

/// What a bulk request of `documents` was answered.
fn judge(reply: &Reply, documents: usize) -> Answer {
    let code = || reply.status.as_u16().to_string();
    match reply.status {
        StatusCode::OK => {}
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => return Err(Refusal::for_good(code(), reply.text())),
        _ => return Err(Refusal::for_now(code(), reply.text())),
    }
    let strange = |why: String| Refusal::for_now("ES.ServiceException", why);
    let bulk: Bulk = serde_json::from_slice(&reply.body)
        .map_err(|error| strange(format!("the answer is not of the bulk API's form: {error}")))?;
    if bulk.items.len() != documents {
        return Err(strange(format!("the answer tells of {} documents, not of {documents}", bulk.items.len())));
    }
    let mut refused = Vec::new();
    for (at, item) in bulk.items.iter().enumerate() {
        let outcome = item.as_object().and_then(|item| item.values().next()).unwrap_or(&Value::Null);
        let status = outcome["status"].as_u64().unwrap_or_default();
        if (200..300).contains(&status) {
            continue;
        }
        let part = |name: &str| outcome["error"][name].as_str().unwrap_or("unknown").to_owned();
        let (code, message) = (status.to_string(), format!("{}: {}", part("type"), part("reason")));
        let is_for_now = status == 429 || status >= 500 || status == 0;
        refused.push((at, if is_for_now { Refusal::for_now(code, message) } else { Refusal::for_good(code, message) }));
    }
    Ok(refused)
}

impl Destination for OpenSearch {
    fn error_output_type(&self) -> ErrorOutputType {
        ErrorOutputType::OpenSearchFailed
    }

    fn members(&self, request_id: &str, record: &RequestRecord) -> Vec<(&'static str, String)> {
        vec![
            ("esDocumentId", self.document_id(request_id, record).unwrap_or_default()),
            ("esIndexName", self.index_of(record.arrival)),
            ("esTypeName", self.type_name.clone().unwrap_or_else(|| "_doc".to_owned())),
        ]
    }

    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
        self.send(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_named_by_the_arrival() {
        let arrival = "2016-02-25T13:00:00Z".parse().unwrap();
        let of = |rotation| OpenSearch::new("http://a", "myindex").unwrap().with_rotation(rotation).index_of(arrival);
        assert_eq!(of(IndexRotation::NoRotation), "myindex");
        assert_eq!(of(IndexRotation::OneHour), "myindex-2016-02-25-13");
        assert_eq!(of(IndexRotation::OneDay), "myindex-2016-02-25");
        assert_eq!(of(IndexRotation::OneWeek), "myindex-2016-w08");
        assert_eq!(of(IndexRotation::OneMonth), "myindex-2016-02");
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for name in ["", "Logs", "a/b", "_a", "a b", &"a".repeat(81)] {
            assert!(OpenSearch::new("http://a", name).is_err(), "{name}");
        }
        assert!(OpenSearch::new("ftp://a", "logs").is_err());
    }
}
