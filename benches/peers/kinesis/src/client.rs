//! A client of Kinesis that costs next to nothing: one HTTP/1.1 connection each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

pub(crate) struct Client {
    connection: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    /// Connects to `http://HOST:PORT`.
    pub(crate) async fn connect(url: &str) -> std::io::Result<Self> {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(driver);
        Ok(Self { connection, host })
    }

    pub(crate) async fn call(&mut self, operation: &str, input: Bytes) -> Value {
        let request = Request::post("/")
            .header("host", &self.host)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .header("x-amz-date", "20260101T000000Z")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00",
            )
            .body(Full::new(input))
            .unwrap();
        self.connection.ready().await.unwrap();
        let answer = self.connection.send_request(request).await.unwrap();
        let is_success = answer.status().is_success();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(is_success, "{operation}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap_or(Value::Null)
    }
}

/// Inputs that are made once and sent again and again.
pub(crate) fn put_record(stream: &str, bytes: usize) -> Bytes {
    let data = STANDARD.encode(vec![7; bytes]);
    json!({"StreamName": stream, "PartitionKey": "key", "Data": data}).to_string().into()
}

pub(crate) fn put_records(stream: &str, count: usize, bytes: usize) -> Bytes {
    let data = STANDARD.encode(vec![7; bytes]);
    let records: Vec<Value> =
        (0..count).map(|number| json!({"PartitionKey": format!("key-{number}"), "Data": data})).collect();
    json!({"StreamName": stream, "Records": records}).to_string().into()
}
