//! Events arrive as they come, in AWS's frames, over both protocols and in both encodings; who goes away ends the stream.

use std::pin::pin;

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Buf, BytesMut};
use futures::{StreamExt, poll, stream};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wire_core::{Blob, Context, Encoding, EventStream, Server, Service, Services, Settings, WireError};

use crate::rig::{CBOR, Client, Http, JSON, Subscribe, Tick, request, serve, services};

/// One frame: its type, its name, and its payload.
#[derive(Debug, PartialEq)]
struct Frame {
    message_type: String,
    name: String,
    content_type: String,
    payload: Value,
}

impl Frame {
    fn of(message: &Message) -> Self {
        let header = |wanted: &str| {
            let found = message.headers().iter().find(|header| header.name().as_str() == wanted);
            found.map(|header| header.value().as_string().unwrap().as_str().to_owned())
        };
        let content_type = header(":content-type").unwrap();
        let payload = match content_type.as_str() {
            JSON => serde_json::from_slice(message.payload()).unwrap(),
            _ => cbor(message),
        };
        let name = header(":event-type").or_else(|| header(":exception-type")).unwrap();
        Self { message_type: header(":message-type").unwrap(), name, content_type, payload }
    }

    fn event(name: &str, content_type: &str, payload: Value) -> Self {
        Self { message_type: "event".into(), name: name.into(), content_type: content_type.into(), payload }
    }
}

/// The payload as JSON would have it, but for the blob: its length.
fn cbor(message: &Message) -> Value {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Payload {
        data: Option<Blob>,
        #[serde(rename = "message")]
        message: Option<String>,
    }
    let payload: Payload = Encoding::Cbor11.decode(message.payload()).unwrap();
    match payload {
        Payload { data: Some(data), .. } => json!({"Data": String::from_utf8(data.to_vec()).unwrap()}),
        Payload { message: Some(message), .. } => json!({"message": message}),
        _ => json!({}),
    }
}

/// Reads frames off a body.
struct Frames {
    body: Incoming,
    decoder: MessageFrameDecoder,
    buffer: BytesMut,
}

impl Frames {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let DecodedFrame::Complete(message) = self.decoder.decode_frame(&mut self.buffer).unwrap() {
                return Some(Frame::of(&message));
            }
            match self.body.frame().await {
                Some(frame) => self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap()),
                None => {
                    assert!(!self.buffer.has_remaining(), "the body ends with a whole frame");
                    return None;
                }
            }
        }
    }

    async fn rest(mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

async fn subscribe(client: &mut Client, content_type: &str, shard: &str) -> Frames {
    let encoding = Encoding::of_content_type(content_type).unwrap();
    let input = encoding.encode(&json!({"ShardId": shard})).unwrap();
    let answer = client.send(request("SubscribeToShard", content_type, input)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/vnd.amazon.eventstream");
    Frames { body: answer.into_body(), decoder: MessageFrameDecoder::new(), buffer: BytesMut::new() }
}

/// What the rig's stream says first.
fn beginning(content_type: &str) -> Vec<Frame> {
    let data = |text: &str, base64: &str| json!({"Data": if content_type == JSON { base64 } else { text }});
    vec![
        Frame::event("initial-response", content_type, json!({})),
        Frame::event("SubscribeToShardEvent", content_type, data("one", "b25l")),
        Frame::event("SubscribeToShardEvent", content_type, data("two", "dHdv")),
    ]
}

fn exception(name: &str, content_type: &str, message: &str) -> Frame {
    let payload = json!({"message": message});
    Frame { message_type: "exception".into(), ..Frame::event(name, content_type, payload) }
}

const WAYS: [(Http, &str); 4] = [(Http::One, JSON), (Http::One, CBOR), (Http::Two, JSON), (Http::Two, CBOR)];

#[tokio::test]
async fn events_are_framed_in_order_after_an_initial_response() {
    let server = serve(services()).await;
    for (version, content_type) in WAYS {
        let mut client = Client::connect(&server, version).await;
        assert_eq!(subscribe(&mut client, content_type, "closed").await.rest().await, beginning(content_type));
        // The connection is good for more.
        assert_eq!(client.call("ListStreams", "{}").await.status, 200);
    }
    server.close().await;
}

#[tokio::test]
async fn an_error_is_an_exception_and_the_last_frame() {
    let server = serve(services()).await;
    for (version, content_type) in WAYS {
        for (shard, name, message) in [
            ("failing", "ResourceInUseException", "taken over"),
            ("panicking", "InternalFailure", "the stream of events failed"),
        ] {
            let mut client = Client::connect(&server, version).await;
            let mut expected = beginning(content_type);
            expected.push(exception(name, content_type, message));
            assert_eq!(subscribe(&mut client, content_type, shard).await.rest().await, expected);
        }
    }
    server.close().await;
}

#[tokio::test]
async fn an_error_before_the_stream_is_an_ordinary_one() {
    let server = serve(services()).await;
    let mut client = Client::connect(&server, Http::Two).await;
    let answer = client.call("SubscribeToShard", r#"{"ShardId":"shardId-7"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, JSON));
    assert_eq!(answer.json()["__type"], "ResourceNotFoundException");
    server.close().await;
}

#[tokio::test]
async fn events_arrive_before_the_stream_ends_and_closing_ends_it_after_a_whole_one() {
    for (version, content_type) in WAYS {
        let server = serve(services()).await;
        let mut client = Client::connect(&server, version).await;
        let mut frames = subscribe(&mut client, content_type, "open").await;
        for expected in beginning(content_type) {
            assert_eq!(frames.next().await, Some(expected));
        }
        let (rest, ()) = tokio::join!(frames.rest(), server.close());
        assert_eq!(rest, []);
    }
}

/// Says when it is dropped.
struct Guard(mpsc::UnboundedSender<()>);

impl Guard {
    fn keep(&self) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

async fn guarded(dropped: mpsc::UnboundedSender<()>, _: Context, _: Subscribe) -> Result<EventStream<Tick>, WireError> {
    let guard = Guard(dropped);
    let ticks = stream::iter([Ok::<_, WireError>(Tick { data: "one".into() })]);
    Ok(EventStream::new(ticks.chain(stream::pending().inspect(move |_| guard.keep()))))
}

async fn guarded_server() -> (Server, mpsc::UnboundedReceiver<()>) {
    let (sender, dropped) = mpsc::unbounded_channel();
    let service = Service::new("kinesis", "Kinesis_20131202", sender).event_stream("SubscribeToShard", guarded);
    (serve(Services::new(Settings::default()).with(service)).await, dropped)
}

#[tokio::test]
async fn the_stream_is_dropped_when_its_client_goes_away() {
    for version in [Http::One, Http::Two] {
        let (server, mut dropped) = guarded_server().await;
        let mut client = Client::connect(&server, version).await;
        let mut frames = subscribe(&mut client, JSON, "any").await;
        frames.next().await.unwrap();
        frames.next().await.unwrap();
        assert!(poll!(pin!(dropped.recv())).is_pending());
        drop((frames, client));
        dropped.recv().await.unwrap();
        server.close().await;
    }
}

#[tokio::test]
async fn dropping_the_server_drops_the_stream() {
    let (server, mut dropped) = guarded_server().await;
    let mut client = Client::connect(&server, Http::Two).await;
    subscribe(&mut client, JSON, "any").await.next().await.unwrap();
    drop(server);
    dropped.recv().await.unwrap();
}
