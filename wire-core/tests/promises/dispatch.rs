//! A request comes to its operation by target and encoding; what comes to none is answered as AWS does.

use axum::Router;
use axum::http::Request as HttpRequest;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;
use wire_core::{Encoding, Service, Services, Settings, WireError};

use crate::rig::{self, Answer, CBOR, Client, Http, JSON, PutRecord, kinesis, request, serve, services};

async fn ask(services: Services, request: Request<Full<Bytes>>) -> Answer {
    let server = serve(services).await;
    let answer = Client::connect(&server, Http::One).await.ask(request).await;
    server.close().await;
    answer
}

fn bare(method: Method, headers: &[(&str, &str)], body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri("/");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn a_call_in_json_is_answered_in_json() {
    let body = r#"{"StreamName":"clicks","Data":"aGVsbG8=","PartitionKey":"a","Unknown":[{}]}"#;
    let answer = ask(services(), request("PutRecord", "application/x-amz-json-1.1; charset=utf-8", body)).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, JSON));
    assert_eq!(
        answer.json(),
        json!({
            "SequenceNumber": "5",
            "ShardId": "shardId-000000000000",
            "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
        })
    );
    assert_eq!(answer.header("x-amzn-requestid").len(), 36);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert!(!answer.header("x-amz-id-2").is_empty() && !answer.header("date").is_empty());
    assert!(answer.header("x-amz-crc32").is_empty(), "Kinesis sends none");
}

#[tokio::test]
async fn json_1_0_is_answered_with_its_own_content_type() {
    let answer = ask(services(), request("ListStreams", "application/x-amz-json-1.0", "{}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/x-amz-json-1.0"));
}

#[tokio::test]
async fn a_call_in_cbor_is_answered_in_cbor() {
    let input = PutRecord { stream_name: "clicks".into(), partition_key: "a".into(), data: "hello".into(), at: None };
    let answer = ask(services(), request("PutRecord", CBOR, Encoding::Cbor11.encode(&input).unwrap())).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, CBOR));
    let output: std::collections::BTreeMap<String, String> = Encoding::Cbor11.decode(&answer.body).unwrap();
    assert_eq!(output["SequenceNumber"], "5");
}

#[tokio::test]
async fn an_operation_without_output_has_an_empty_body() {
    for encoding in [JSON, CBOR] {
        let body: &[u8] = if encoding == JSON { b"{}" } else { b"\xa0" };
        let answer = ask(services(), request("DeleteStream", encoding, body)).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, "0"));
        assert_eq!(answer.header("content-type"), encoding);
    }
}

#[tokio::test]
async fn an_error_has_its_type_message_and_members() {
    let answer = ask(services(), request("PutRecord", JSON, r#"{"StreamName":"gone","PartitionKey":"a"}"#)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({"__type": "ResourceNotFoundException", "message": "Stream gone not found.", "Stream": "gone"})
    );
}

#[tokio::test]
async fn an_error_of_a_cbor_call_is_cbor() {
    let answer =
        ask(services(), request("PutRecord", CBOR, &b"\xbf\x6aStreamName\x64gone\x6cPartitionKey\x61a\xff"[..])).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (400, CBOR));
    let error: std::collections::BTreeMap<String, String> = Encoding::Cbor11.decode(&answer.body).unwrap();
    assert_eq!(error["__type"], "ResourceNotFoundException");
}

#[tokio::test]
async fn what_cannot_be_read_is_a_serialization_exception_that_says_where() {
    for (body, message) in [
        ("", "the request is not a JSON object"),
        ("[]", "the request is not a JSON object"),
        (r#"{"StreamName":1}"#, "'streamName': invalid type: integer `1`, expected a string at line 1 column 15"),
        (r#"{"Data":"a"}"#, "'data': the blob is not valid base64 at line 1 column 11"),
        (r#"{"StreamName":"a","#, "EOF while parsing a value at line 1 column 18"),
    ] {
        let answer = ask(services(), request("PutRecord", JSON, body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json(), json!({"__type": "SerializationException", "Message": message}), "{body}");
    }
}

#[tokio::test]
async fn an_absent_member_is_a_validation_exception() {
    let message =
        "1 validation error detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null";
    for (content_type, body) in [(JSON, &b"{\"PartitionKey\":\"a\"}"[..]), (CBOR, b"\xa1\x6cPartitionKey\x61a")] {
        let answer = ask(services(), request("PutRecord", content_type, body)).await;
        let error = match content_type {
            CBOR => Encoding::Cbor11.decode(&answer.body).unwrap(),
            _ => answer.json(),
        };
        assert_eq!(error, json!({"__type": "ValidationException", "message": message}));
    }
}

#[tokio::test]
async fn an_unknown_operation_is_said_to_be_unknown() {
    for target in ["Kinesis_20131202.Nothing", "Kinesis_20131202", "Other_20131202.PutRecord", "", "."] {
        let answer =
            ask(services(), bare(Method::POST, &[("content-type", JSON), ("x-amz-target", target)], "{}")).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (400, json!({"__type": "UnknownOperationException"})));
    }
    let answer = ask(services(), bare(Method::POST, &[("content-type", JSON)], "{}")).await;
    assert_eq!(answer.json(), json!({"__type": "UnknownOperationException"}));
    let answer = ask(services(), request("Nothing", CBOR, "")).await;
    assert_eq!(answer.body, &b"\xa1\x66__type\x78\x19UnknownOperationException"[..]);
}

#[tokio::test]
async fn what_is_no_request_of_the_protocol_is_refused_in_xml() {
    let target = ("x-amz-target", "Kinesis_20131202.ListStreams");
    for (status, request) in [
        (403, bare(Method::GET, &[], "")),
        (403, bare(Method::PUT, &[target, ("content-type", JSON)], "{}")),
        (403, bare(Method::POST, &[], "{}")),
        (404, bare(Method::POST, &[target], "{}")),
        (404, bare(Method::POST, &[target, ("content-type", "text/plain")], "{}")),
    ] {
        let text = format!("{request:?}");
        let answer = ask(services(), request).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (status, "application/xml"), "{text}");
    }
}

#[tokio::test]
async fn several_services_share_a_port() {
    let name =
        |_: (), _: wire_core::Context, _: serde_json::Value| async { Ok::<_, WireError>(json!({"Name": "glue"})) };
    let glue = Service::new("glue", "AWSGlue", ()).operation("GetTable", name);
    let server = serve(services().with(glue)).await;
    let mut client = Client::connect(&server, Http::One).await;
    assert_eq!(client.call("ListStreams", "{}").await.json()["HasMoreStreams"], false);
    let get_table = bare(Method::POST, &[("content-type", JSON), ("x-amz-target", "AWSGlue.GetTable")], "{}");
    assert_eq!(client.ask(get_table).await.json(), json!({"Name": "glue"}));
    server.close().await;
}

fn fallback() -> Router {
    Router::new().fallback(|request: HttpRequest<axum::body::Body>| async move {
        format!("objects at {}", request.uri().path())
    })
}

#[tokio::test]
async fn what_names_no_target_goes_to_the_fallback() {
    let all = || services().with_fallback("s3", fallback());
    let get = Request::builder().uri("/bucket/key").body(Full::default()).unwrap();
    assert_eq!(ask(all(), get).await.body, "objects at /bucket/key");
    // An object may have any content type; the scope says whose request it is.
    let scope = "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
    let post = bare(Method::POST, &[("content-type", JSON), ("authorization", scope)], "{}");
    assert_eq!(ask(all(), post).await.body, "objects at /");
    let call = ask(all(), request("ListStreams", JSON, "{}")).await;
    assert_eq!(call.json()["HasMoreStreams"], false);
}

#[tokio::test]
async fn health_lists_the_services() {
    let get = || Request::builder().uri("/health").body(Full::default()).unwrap();
    let answer = ask(services().with_fallback("s3", fallback()), get()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json(), json!({"services": {"kinesis": "running", "s3": "running"}}));
}

#[tokio::test]
async fn the_region_is_the_signatures_and_the_account_the_settings() {
    let settings = Settings::default().with_account_id("123456789012").with_region("eu-west-1");
    let server = serve(Services::new(settings).with(kinesis())).await;
    let mut client = Client::connect(&server, Http::One).await;
    let body = r#"{"StreamName":"clicks","PartitionKey":"a"}"#;
    let answer = client.call("PutRecord", body).await;
    assert_eq!(answer.json()["StreamARN"], "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks");
    for (scope, region) in [("AKID/20260101/us-west-2/kinesis/aws4_request", "us-west-2"), ("A/1/a:b/c/d", "eu-west-1")]
    {
        let mut signed = request("PutRecord", JSON, body);
        let header = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
        signed.headers_mut().insert("authorization", header.parse().unwrap());
        let answer = client.ask(signed).await;
        assert_eq!(answer.json()["StreamARN"], format!("arn:aws:kinesis:{region}:123456789012:stream/clicks"));
    }
    server.close().await;
}

#[tokio::test]
async fn an_operation_that_panics_fails_alone() {
    let server = serve(services()).await;
    let mut client = Client::connect(&server, Http::One).await;
    let answer = client.call("PutRecord", r#"{"StreamName":"broken","PartitionKey":"a"}"#).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["__type"]), (500, &json!("InternalFailure")));
    assert_eq!(client.call("ListStreams", "{}").await.status, 200);
    server.close().await;
}

#[tokio::test]
async fn an_app_mounts_the_services_in_its_own_server() {
    use tower_service::Service as _;
    let mut app = Router::new().nest_service("/aws", rig::services().into_router());
    let mut request = request("ListStreams", JSON, "{}").map(axum::body::Body::new);
    *request.uri_mut() = "/aws".parse().unwrap();
    let answer = app.call(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert_eq!(body, r#"{"StreamNames":["stream-0","stream-1"],"HasMoreStreams":false}"#);
}
