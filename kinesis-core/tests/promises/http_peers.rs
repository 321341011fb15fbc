//! What deliveries over HTTP are tried on: servers that speak as the services do by their documentation, refuse what those
//! refuse, and fail when they are told to.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How the next request goes wrong; the first of a list each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered so, and not applied.
    Answer(u16, String),
    /// It is applied, and answered so all the same.
    AppliedBut(u16, String),
    /// The connection ends, before anything was applied.
    HangUp,
    /// It is applied, and then the connection ends.
    AppliedAndHangUp,
}

/// A request that arrived.
pub(crate) struct Request {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Status and body of an answer.
pub(crate) type Answer = (u16, String);

type Faults = Arc<Mutex<VecDeque<Fault>>>;

/// A server whose requests can be made to fail.
pub(crate) struct Peer {
    pub(crate) url: String,
    faults: Faults,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Peer {
    /// Serves on a free port of this machine.
    pub(crate) async fn serve(apply: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Self {
        let faults = Faults::default();
        let (apply, failing) = (Arc::new(apply), Arc::clone(&faults));
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let (apply, fault) = (Arc::clone(&apply), failing.lock().unwrap().pop_front());
            async move {
                let request = Request { uri, headers, body };
                match fault {
                    None => answer(apply(request)),
                    Some(Fault::Answer(status, body)) => answer((status, body)),
                    Some(Fault::AppliedBut(status, body)) => {
                        apply(request);
                        answer((status, body))
                    }
                    Some(Fault::HangUp) => broken(),
                    Some(Fault::AppliedAndHangUp) => {
                        apply(request);
                        broken()
                    }
                }
            }
        };
        let app = Router::new().fallback(handler).layer(axum::extract::DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, faults, serving }
    }

    /// The next requests fail so.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }
}

fn answer((status, body): Answer) -> Response<Body> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    response.header("content-type", "application/json").body(body.into()).unwrap()
}

/// A body that breaks off.
fn broken() -> Response<Body> {
    let chunks = [Ok(Bytes::from("{")), Err(std::io::Error::other("the peer hangs up"))];
    Response::new(Body::from_stream(futures::stream::iter(chunks)))
}

/// A request's id and records.
pub(crate) type Applied = (String, Vec<String>);

/// An endpoint of Firehose's form.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    /// The records of each request that was applied, by its id, once for each time.
    pub(crate) requests: Arc<Mutex<Vec<Applied>>>,
    pub(crate) access_key: Arc<Mutex<String>>,
    pub(crate) attributes: Arc<Mutex<String>>,
    pub(crate) source_arn: Arc<Mutex<String>>,
}

impl Collector {
    pub(crate) async fn serve(&self) -> Peer {
        let collector = self.clone();
        Peer::serve(move |request| collector.take(&request)).await
    }

    fn take(&self, request: &Request) -> Answer {
        let refused = |why: &str| (400, json!({"errorMessage": why}).to_string());
        if request.header("x-amz-firehose-protocol-version") != "1.0" {
            return refused("protocol version");
        }
        if request.header("content-type") != "application/json" {
            return refused("content type");
        }
        let mut text = String::new();
        match request.header("content-encoding") {
            "" => text = String::from_utf8(request.body.to_vec()).unwrap(),
            "gzip" => {
                flate2::read::GzDecoder::new(request.body.as_ref()).read_to_string(&mut text).unwrap();
            }
            _ => return refused("content encoding"),
        }
        let body: Value = serde_json::from_str(&text).unwrap();
        let id = request.header("x-amz-firehose-request-id").to_owned();
        if uuid::Uuid::parse_str(&id).is_err() || body["requestId"] != id.as_str() || !body["timestamp"].is_i64() {
            return refused("request id or timestamp");
        }
        let record =
            |record: &Value| String::from_utf8(STANDARD.decode(record["data"].as_str().unwrap()).unwrap()).unwrap();
        let records = body["records"].as_array().unwrap().iter().map(record).collect();
        request.header("x-amz-firehose-access-key").clone_into(&mut self.access_key.lock().unwrap());
        request.header("x-amz-firehose-source-arn").clone_into(&mut self.source_arn.lock().unwrap());
        request.header("x-amz-firehose-common-attributes").clone_into(&mut self.attributes.lock().unwrap());
        self.requests.lock().unwrap().push((id.clone(), records));
        (200, json!({"requestId": id, "timestamp": body["timestamp"]}).to_string())
    }

    /// All records, those of one request id once.
    pub(crate) fn records(&self) -> Vec<String> {
        let by_id: BTreeMap<_, _> = self.requests.lock().unwrap().iter().cloned().collect();
        by_id.into_values().flatten().collect()
    }
}

/// Splunk's HTTP event collector.
#[derive(Clone, Default)]
pub(crate) struct Hec {
    /// Lines or events that were taken.
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    pub(crate) sent: Arc<Mutex<u64>>,
    /// Questions that each request is answered with "not yet"; for ever if there are more.
    pub(crate) polls: Arc<Mutex<BTreeMap<u64, u32>>>,
    pub(crate) polls_needed: u32,
}

impl Hec {
    pub(crate) const TOKEN: &str = "7f1b0d9e-token";

    pub(crate) async fn serve(&self) -> Peer {
        let hec = self.clone();
        Peer::serve(move |request| hec.take(&request)).await
    }

    fn take(&self, request: &Request) -> Answer {
        let refused = |status, code: u32, text: &str| (status, json!({"text": text, "code": code}).to_string());
        match request.header("authorization").split_once(' ') {
            Some(("Splunk", token)) if token == Self::TOKEN => {}
            Some(("Splunk", _)) => return refused(403, 4, "Invalid token"),
            _ => return refused(401, 3, "Invalid authorization"),
        }
        let query = request.uri.query().unwrap_or_default();
        let channel = query.strip_prefix("channel=").unwrap_or_default();
        if channel.is_empty() {
            return refused(400, 10, "Data channel is missing");
        }
        if uuid::Uuid::parse_str(channel).is_err() {
            return refused(400, 11, "Invalid data channel");
        }
        let text = String::from_utf8(request.body.to_vec()).unwrap();
        let events: Vec<String> = match request.uri.path() {
            "/services/collector/ack" => return self.acknowledge(&serde_json::from_str(&text).unwrap()),
            "/services/collector/raw" => text.lines().map(str::to_owned).collect(),
            "/services/collector/event" => {
                let events: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
                match events {
                    Err(_) => return refused(400, 6, "Invalid data format"),
                    Ok(events) if events.iter().any(|event| event.get("event").is_none()) => {
                        return refused(400, 12, "Event field is required");
                    }
                    Ok(events) => events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect(),
                }
            }
            _ => return (404, String::new()),
        };
        if events.is_empty() {
            return refused(400, 5, "No data");
        }
        self.events.lock().unwrap().extend(events);
        let mut sent = self.sent.lock().unwrap();
        *sent += 1;
        (200, json!({"text": "Success", "code": 0, "ackId": *sent - 1}).to_string())
    }

    fn acknowledge(&self, question: &Value) -> Answer {
        let mut polls = self.polls.lock().unwrap();
        let mut acks = serde_json::Map::new();
        for id in question["acks"].as_array().unwrap() {
            let id = id.as_u64().unwrap();
            let asked = polls.entry(id).or_default();
            *asked += 1;
            acks.insert(id.to_string(), (*asked > self.polls_needed).into());
        }
        (200, json!({"acks": acks}).to_string())
    }
}

/// A bulk API. Documents with `"busy": n` are refused with 429 that often, those with text in `number` by the mapping.
#[derive(Clone, Default)]
pub(crate) struct Search {
    /// Documents by index and id.
    pub(crate) documents: Arc<Mutex<BTreeMap<(String, String), Value>>>,
    /// How often each document was sent.
    pub(crate) sent: Arc<Mutex<BTreeMap<String, u64>>>,
    pub(crate) authorization: Arc<Mutex<String>>,
}

impl Search {
    pub(crate) async fn serve(&self) -> Peer {
        let search = self.clone();
        Peer::serve(move |request| search.bulk(&request)).await
    }

    fn bulk(&self, request: &Request) -> Answer {
        let refused = |why: &str| {
            (400, json!({"error": {"type": "illegal_argument_exception", "reason": why}, "status": 400}).to_string())
        };
        if request.uri.path() != "/_bulk" || request.header("content-type") != "application/x-ndjson" {
            return refused("path or content type");
        }
        request.header("authorization").clone_into(&mut self.authorization.lock().unwrap());
        let text = String::from_utf8(request.body.to_vec()).unwrap();
        if !text.ends_with('\n') {
            return refused("The bulk request must be terminated by a newline [\\n]");
        }
        let lines: Vec<&str> = text.lines().collect();
        let mut items = Vec::new();
        for pair in lines.chunks(2) {
            let [action, document] = pair else { return refused("an action without a document") };
            let Ok(action) = serde_json::from_str::<Value>(action) else { return refused("Malformed action") };
            let target = &action["index"];
            if target["_index"].as_str().is_none() {
                return refused("Malformed action/metadata line");
            }
            items.push(json!({"index": self.index(target, document)}));
        }
        let errors = items.iter().any(|item| item["index"].get("error").is_some());
        (200, json!({"took": 1, "errors": errors, "items": items}).to_string())
    }

    fn index(&self, target: &Value, document: &str) -> Value {
        let document: Value = serde_json::from_str(document).unwrap();
        let mut documents = self.documents.lock().unwrap();
        let given = target["_id"].as_str().map(str::to_owned);
        let id = given.unwrap_or_else(|| format!("made-{}", documents.len()));
        let mut sent = self.sent.lock().unwrap();
        let times = sent.entry(document["id"].to_string()).or_default();
        *times += 1;
        let refused = |status: u64, kind: &str, reason: &str| json!({"_id": id, "status": status, "error": {"type": kind, "reason": reason}});
        if document["number"].is_string() {
            return refused(400, "mapper_parsing_exception", "failed to parse field [number] of type [long]");
        }
        if *times <= document["busy"].as_u64().unwrap_or_default() {
            return refused(429, "es_rejected_execution_exception", "rejected execution of coordinating operation");
        }
        documents.insert((target["_index"].as_str().unwrap().to_owned(), id.clone()), document);
        json!({"_id": id, "status": 201, "result": "created"})
    }
}
