//! A service to serve, and a client that sends whatever it is told.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;
use wire_core::{Blob, Context, Event, EventStream, Server, Service, Services, Settings, Timestamp, WireError};

pub(crate) const JSON: &str = "application/x-amz-json-1.1";
pub(crate) const CBOR: &str = "application/x-amz-cbor-1.1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PutRecord {
    pub(crate) stream_name: String,
    pub(crate) partition_key: String,
    #[serde(default)]
    pub(crate) data: Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListStreams {
    limit: Option<u32>,
}

#[derive(Clone)]
pub(crate) struct Echo;

async fn put_record(_: Echo, context: Context, input: PutRecord) -> Result<BTreeMap<&'static str, String>, WireError> {
    match input.stream_name.as_str() {
        "gone" => {
            Err(WireError::new("ResourceNotFoundException", "Stream gone not found.").with_field("Stream", "gone"))
        }
        "broken" => panic!("as asked"),
        name => Ok(BTreeMap::from([
            ("ShardId", "shardId-000000000000".to_owned()),
            ("SequenceNumber", input.data.len().to_string()),
            ("StreamARN", context.arn("kinesis", &format!("stream/{name}"))),
        ])),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StreamNames {
    stream_names: Vec<String>,
    has_more_streams: bool,
}

async fn list_streams(_: Echo, _: Context, input: ListStreams) -> Result<StreamNames, WireError> {
    let stream_names = (0..input.limit.unwrap_or(2)).map(|at| format!("stream-{at}")).collect();
    Ok(StreamNames { stream_names, has_more_streams: false })
}

async fn delete_stream(_: Echo, _: Context, _: serde_json::Map<String, Value>) -> Result<(), WireError> {
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tick {
    pub(crate) data: Blob,
}

impl Event for Tick {
    fn event_type(&self) -> &'static str {
        "SubscribeToShardEvent"
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Subscribe {
    shard_id: String,
}

async fn subscribe(_: Echo, _: Context, input: Subscribe) -> Result<EventStream<Tick>, WireError> {
    let ticks = stream::iter(["one", "two"]).map(|data| Ok(Tick { data: data.into() }));
    match input.shard_id.as_str() {
        "closed" => Ok(EventStream::new(ticks)),
        "failing" => {
            let error = Err(WireError::new("ResourceInUseException", "taken over"));
            Ok(EventStream::new(ticks.chain(stream::iter([error, Ok(Tick { data: "never".into() })]))))
        }
        "open" => Ok(EventStream::new(ticks.chain(stream::pending()))),
        "panicking" => Ok(EventStream::new(ticks.chain(stream::poll_fn(|_| panic!("as asked"))))),
        shard => Err(WireError::new("ResourceNotFoundException", format!("Shard {shard} not found."))),
    }
}

pub(crate) fn kinesis() -> Service<Echo> {
    Service::new("kinesis", "Kinesis_20131202", Echo)
        .operation("PutRecord", put_record)
        .operation("ListStreams", list_streams)
        .operation("DeleteStream", delete_stream)
        .event_stream("SubscribeToShard", subscribe)
}

pub(crate) fn services() -> Services {
    Services::new(Settings::default()).with(kinesis())
}

pub(crate) async fn serve(services: Services) -> Server {
    Server::bind("127.0.0.1:0", services).await.unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// One connection.
pub(crate) enum Client {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    pub(crate) async fn connect(server: &Server, version: Http) -> Self {
        let io = TokioIo::new(TcpStream::connect(server.local_addr()).await.unwrap());
        match version {
            Http::One => {
                let (client, connection) = http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                Self::One(client)
            }
            Http::Two => {
                let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                Self::Two(client)
            }
        }
    }

    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(client) => {
                client.ready().await?;
                request.headers_mut().entry("host").or_insert(http::HeaderValue::from_static("localhost"));
                client.send_request(request).await
            }
            Self::Two(client) => {
                client.ready().await?;
                // HTTP/2 names the authority in the request line.
                if request.uri().authority().is_none() {
                    let uri = format!("http://localhost{}", request.uri()).parse().unwrap();
                    *request.uri_mut() = uri;
                }
                client.send_request(request).await
            }
        }
    }

    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.send(request).await.unwrap().into_parts();
        Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    /// An unsigned call of `Kinesis_20131202.{operation}` in JSON.
    pub(crate) async fn call(&mut self, operation: &str, input: &str) -> Answer {
        self.ask(request(operation, JSON, input.to_owned())).await
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn request(operation: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri("/")
        .header("content-type", content_type)
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .body(Full::new(body.into()))
        .unwrap()
}
