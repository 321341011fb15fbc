//! An object of S3 is what its client sent, or it is not there: whatever breaks off, lies about itself or fails.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire_core::{S3, Server, Services};

use crate::rig::{Answer, Client, Http, serve};

async fn served(store: &Arc<InMemory>) -> Server {
    store.put(&Path::from("bucket/there"), "before".into()).await.unwrap();
    serve(Services::default().with_s3(S3::new(Arc::clone(store) as Arc<dyn ObjectStore>))).await
}

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    Client::connect(server, Http::One).await.ask(request).await
}

async fn is_as_before(store: &InMemory) {
    let there = store.get(&Path::from("bucket/there")).await.unwrap().bytes().await.unwrap();
    assert_eq!(there, "before");
}

/// As SDKs send a body whose sum they know only at its end: in pieces, each signed, the sum behind them.
fn chunked(pieces: &[&[u8]], trailer: &str) -> Vec<u8> {
    let signature = "0".repeat(64);
    let mut body = Vec::new();
    for piece in pieces {
        body.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0;chunk-signature={signature}\r\n{trailer}\r\n\r\n").as_bytes());
    body
}

#[tokio::test]
async fn a_body_in_signed_pieces_is_put_together_and_summed() {
    let store = Arc::new(InMemory::new());
    let server = served(&store).await;
    let headers = |length: &'static str| {
        [
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
            ),
            ("content-encoding", "aws-chunked,gzip"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", length),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ]
    };
    // CRC-32 of `abcdef`.
    let right = chunked(&[b"abc", b"def"], "x-amz-checksum-crc32:S4457w==");
    let put = ask(&server, Method::PUT, "/bucket/new", &headers("6"), &right).await;
    assert_eq!((put.status, put.header("x-amz-checksum-crc32")), (StatusCode::OK, "S4457w=="));
    let got = ask(&server, Method::GET, "/bucket/new", &[], b"").await;
    assert_eq!((&*got.body, got.header("content-encoding")), (&b"abcdef"[..], "gzip"));

    let wrong = chunked(&[b"abc", b"deg"], "x-amz-checksum-crc32:S4457w==");
    let cut = &right[..right.len() / 2];
    let malformed = [b"zz\r\n".as_slice(), &right].concat();
    for (body, length, code) in [
        (wrong.as_slice(), "6", "BadDigest"),
        (&right, "7", "IncompleteBody"),
        (&right, "5", "IncompleteBody"),
        (cut, "6", "IncompleteBody"),
        (&malformed, "6", "IncompleteBody"),
    ] {
        let put = ask(&server, Method::PUT, "/bucket/there", &headers(length), body).await;
        let said = String::from_utf8_lossy(&put.body).into_owned();
        assert_eq!(put.status, StatusCode::BAD_REQUEST, "{said}");
        assert!(said.contains(&format!("<Code>{code}</Code>")), "{said}");
        is_as_before(&store).await;
    }
    server.close().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let store = Arc::new(InMemory::new());
    let server = served(&store).await;
    for sent in [0, 1, 1000, 9 << 20] {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let head = format!("PUT /bucket/there HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", 20 << 20);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // It may be told, or only be cut off.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        is_as_before(&store).await;
    }
    server.close().await;
}

/// A client that waits to be asked for its body and is not gets no second answer on that connection.
#[tokio::test]
async fn an_expectation_that_is_not_met_ends_the_connection() {
    let store = Arc::new(InMemory::new());
    let server = served(&store).await;
    for (path, length, status) in [("/bucket/empty", 0, "200"), ("/nowhere/x", 10, "404")] {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let head = b"PUT /bucket/asked HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut told = [0; 25];
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").await.unwrap();
    let mut answer = vec![0; 1024];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("connection: close"), "{answer}");
    server.close().await;
}

/// A request without a target or a body that anyone understands has an answer, and does no harm.
#[tokio::test]
async fn whatever_is_asked_has_an_answer() {
    let store = Arc::new(InMemory::new());
    let server = served(&store).await;
    let methods =
        [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD, Method::PATCH, Method::OPTIONS];
    let paths = [
        "/",
        "//",
        "/bucket",
        "/bucket/",
        "/bucket//",
        "/BUCKET/x",
        "/bucket/%00",
        "/bucket/%ff",
        "/bucket/%2e%2e/there2",
        "/bucket?uploads",
        "/bucket?delete",
        "/bucket/x?uploadId=1",
        "/bucket/x?uploadId=1&partNumber=0",
        "/bucket/x?acl",
        "/bucket?list-type=2&max-keys=-1",
        "/bucket?list-type=2&max-keys=x",
        "/bucket?list-type=2&continuation-token=a",
        "/bucket?versions",
        "/.%25uploads/x",
        "/.%25meta/bucket/there",
        "/bucket/x?X-Amz-Signature=1",
    ];
    let bodies: [&[u8]; 4] = [b"", b"<", b"<Delete><Object><Key>q</Key></Object></Delete>", &[0xff; 300]];
    for method in &methods {
        for path in paths {
            for body in bodies {
                let answer = ask(&server, method.clone(), path, &[("x-amz-copy-source", "%zz")], body).await;
                assert_ne!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {answer:?}");
            }
        }
    }
    is_as_before(&store).await;
    server.close().await;
}
