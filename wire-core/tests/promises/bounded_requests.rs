//! What a client sends is bounded, and past each bound it gets an answer of the service's own kind.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use durable_core::ManualClock;
use futures::FutureExt;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower_service::Service as _;
use wire_core::{Services, Settings, WireError};

use crate::rig::{Client, Http, JSON, kinesis, request, serve};

const BODY_MAX: usize = 64 << 10;

fn small() -> Settings {
    Settings::default().with_body_bytes_max(BODY_MAX)
}

/// A PutRecord of that many bytes.
fn put_record(bytes: usize) -> Bytes {
    let (head, tail) = (r#"{"StreamName":"clicks","PartitionKey":""#, r#""}"#);
    format!("{head}{}{tail}", "k".repeat(bytes - head.len() - tail.len())).into()
}

#[tokio::test]
async fn a_body_at_the_bound_is_read_and_one_byte_more_refused() {
    let server = serve(Services::new(small()).with(kinesis())).await;
    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&server, version).await;
        assert_eq!(client.ask(request("PutRecord", JSON, put_record(BODY_MAX))).await.status, 200);
        let answer = client.ask(request("PutRecord", JSON, put_record(BODY_MAX + 1))).await;
        assert_eq!(answer.status, 413);
        let message = "the request's body is longer than 65536 bytes";
        assert_eq!(answer.json(), json!({"__type": "RequestEntityTooLargeException", "message": message}));
    }
    server.close().await;
}

#[tokio::test]
async fn a_service_has_its_own_bound_and_its_own_words() {
    let limit = WireError::new("InvalidArgumentException", "Records size exceeds 1 KB limit");
    let server = serve(Services::new(small()).with(kinesis().with_body_limit(1024, limit))).await;
    let mut client = Client::connect(&server, Http::One).await;
    let answer = client.ask(request("PutRecord", JSON, put_record(1025))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["message"]), (400, &json!("Records size exceeds 1 KB limit")));
    assert_eq!(client.ask(request("PutRecord", JSON, put_record(1024))).await.status, 200);
    server.close().await;
}

/// A body that declares what it likes and then sends these pieces, or nothing ever.
struct Said {
    declared: SizeHint,
    pieces: Vec<Bytes>,
    ends: bool,
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match (self.pieces.pop(), self.ends) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.declared
    }
}

fn said(body: Said) -> Request<Said> {
    request("PutRecord", JSON, "").map(|_| body)
}

#[test]
fn nothing_is_allocated_for_what_is_only_declared() {
    let mut app = Services::default().with(kinesis()).into_router();
    let expect = |mut request: Request<Said>| {
        request.headers_mut().insert("expect", http::HeaderValue::from_static("100-continue"));
        request
    };
    let whole = |declared, pieces| Said { declared: SizeHint::with_exact(declared), pieces, ends: true };
    // Warms what is allocated once.
    app.call(said(whole(0, vec![]))).now_or_never().unwrap().unwrap();
    for (name, request, status) in [
        ("too long, declared", expect(said(whole(u64::MAX, vec![]))), 413),
        ("long, declared, not sent", said(whole(16 << 20, vec![])), 400),
        ("too long, sent", said(whole(1 << 40, vec![Bytes::from_static(&[b' '; 4096]); 16_384])), 413),
    ] {
        let mut app = app.clone();
        let mut answer = None;
        let measured = measure(|| answer = Some(app.call(request).now_or_never().unwrap().unwrap()));
        assert_eq!(answer.unwrap().status(), status, "{name}");
        assert!(measured.bytes_max < 64 << 10, "{name}: {measured:?}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused_once_it_is_too_long() {
    let mut app = Services::new(small()).with(kinesis()).into_router();
    let pieces = vec![Bytes::from_static(&[b' '; 1024]); 65];
    let answer = app.call(said(Said { declared: SizeHint::default(), pieces, ends: false })).await.unwrap();
    assert_eq!(answer.status(), 413);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let clock = ManualClock::default();
    let mut app = Services::default().with(kinesis()).with_clock(Arc::new(clock.clone())).into_router();
    let pieces = vec![Bytes::from_static(b"{")];
    let mut answer = Box::pin(app.call(said(Said { declared: SizeHint::with_exact(2), pieces, ends: false })));
    assert!(answer.as_mut().now_or_never().is_none());
    clock.advance(Duration::from_secs(60));
    assert_eq!(answer.await.unwrap().status(), 408);
}

#[tokio::test]
async fn bodies_wait_for_room() {
    let settings = Settings::default().with_bodies_bytes_max(8 << 10);
    let app = Services::new(settings).with(kinesis()).into_router();
    let stuck = |bytes| said(Said { declared: SizeHint::with_exact(bytes), pieces: vec![], ends: false });
    let mut first = Box::pin(app.clone().call(stuck(6 << 10)));
    assert!(first.as_mut().now_or_never().is_none());
    let put = || request("PutRecord", JSON, put_record(3 << 10));
    let mut second = Box::pin(app.clone().call(put().map(Full::from)));
    assert!(second.as_mut().now_or_never().is_none(), "there are 2 KiB left");
    let mut small = Box::pin(app.clone().call(request("ListStreams", JSON, "{}")));
    assert!(small.as_mut().now_or_never().is_none(), "it stands behind the second");
    drop(first);
    assert_eq!(second.await.unwrap().status(), 200);
    assert_eq!(small.await.unwrap().status(), 200);
    assert_eq!(app.clone().call(put().map(Full::from)).await.unwrap().status(), 200, "all room is free again");
}

#[tokio::test]
async fn connections_past_the_bound_wait() {
    let server = serve(Services::new(Settings::default().with_connections_max(1)).with(kinesis())).await;
    let mut first = Client::connect(&server, Http::One).await;
    assert_eq!(first.call("ListStreams", "{}").await.status, 200);
    let mut second = Client::connect(&server, Http::One).await;
    let mut waiting = Box::pin(second.call("ListStreams", "{}"));
    for _ in 0..3 {
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert_eq!(first.call("ListStreams", "{}").await.status, 200);
    }
    drop(first);
    assert_eq!(waiting.await.status, 200);
    server.close().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_hung_up_on() {
    let clock = ManualClock::default();
    let server = serve(Services::default().with(kinesis()).with_clock(Arc::new(clock.clone()))).await;
    // One that is silent, and one that does not even get to its protocol.
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut halting = TcpStream::connect(server.local_addr()).await.unwrap();
    halting.write_all(b"PR").await.unwrap();
    // Accepted in order: when this one is answered, the others' timers run.
    let mut third = Client::connect(&server, Http::One).await;
    assert_eq!(third.call("ListStreams", "{}").await.status, 200);
    clock.advance(Duration::from_secs(60));
    for stream in [&mut silent, &mut halting] {
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
    }
    assert_eq!(third.call("ListStreams", "{}").await.status, 200, "who spoke is not silent");
    server.close().await;
}

#[test]
fn an_answer_repeats_little_of_what_was_wrong() {
    let mut app = Services::default().with(kinesis()).into_router();
    let long = "x".repeat(1 << 20);
    for body in [
        json!({"StreamName": {long.as_str(): 1}, "PartitionKey": "a"}),
        json!({"StreamName": "a", "PartitionKey": "a", "At": long.as_str()}),
    ] {
        let answer =
            app.call(request("PutRecord", JSON, body.to_string()).map(Full::from)).now_or_never().unwrap().unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 8 << 10).now_or_never().unwrap().unwrap();
        let error: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(error["__type"], "SerializationException");
    }
}
