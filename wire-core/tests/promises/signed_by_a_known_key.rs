//! With credentials, a port answers only what one of its keys has signed: nothing of a signed request can be changed.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use axum::Router;
use bytes::Bytes;
use chrono::TimeDelta;
use durable_core::{Clock, ManualClock};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower_service::Service as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wire_core::Credentials;

use crate::rig::{Client, Http, JSON, request, serve, services};

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "canary-secret-wJalrXUtnFEMI";
const TEMPORARY_KEY: &str = "ASIATEMPORARY";
const TOKEN: &str = "canary-token-IQoJb3JpZ2lu";
const BODY: &str = r#"{"Limit":3}"#;

fn credentials() -> Credentials {
    Credentials::default().with_key(KEY, SECRET).with_temporary_key(TEMPORARY_KEY, SECRET, TOKEN)
}

fn app(clock: &ManualClock) -> Router {
    services().with_credentials(credentials()).with_clock(Arc::new(clock.clone())).into_router()
}

/// How a test's client signs.
struct Signer {
    key: &'static str,
    secret: &'static str,
    token: Option<&'static str>,
    service: &'static str,
    time: SystemTime,
    presigned: Option<Duration>,
}

impl Signer {
    fn at(clock: &ManualClock) -> Self {
        let time = clock.now().into();
        Self { key: KEY, secret: SECRET, token: None, service: "kinesis", time, presigned: None }
    }

    fn presigned(self, seconds: u64) -> Self {
        Self { presigned: Some(Duration::from_secs(seconds)), ..self }
    }

    fn sign(&self, mut request: Request<Bytes>) -> Request<Bytes> {
        let token = self.token.map(str::to_owned);
        let identity = AwsCredentials::new(self.key, self.secret, token, None, "test").into();
        let mut settings = SigningSettings::default();
        if let Some(expires) = self.presigned {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(expires);
        }
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(self.service)
            .time(self.time)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let body = SignableBody::Bytes(request.body());
        let signable =
            SignableRequest::new(request.method().as_str(), request.uri().to_string(), headers, body).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        instructions.apply_to_request_http1x(&mut request);
        request
    }
}

/// A request as a client of AWS has it before it signs.
fn unsigned() -> Request<Bytes> {
    let mut request = request("ListStreams", JSON, "").map(|_| Bytes::from(BODY));
    request.headers_mut().insert("host", HeaderValue::from_static("localhost:4566"));
    *request.uri_mut() = "/some/path?a=1&b=%2F%20x".parse().unwrap();
    request
}

async fn ask(app: &Router, request: Request<Bytes>) -> (StatusCode, Value) {
    let answer = app.clone().call(request.map(Full::new)).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

async fn refused(app: &Router, request: Request<Bytes>, code: &str, message: &str) {
    let (status, error) = ask(app, request).await;
    assert_eq!((status.as_u16(), error["__type"].as_str()), (400, Some(code)), "{error}");
    assert!(error["message"].as_str().unwrap().starts_with(message), "{error}");
}

async fn accepted(app: &Router, request: Request<Bytes>) {
    let (status, answer) = ask(app, request).await;
    assert_eq!(status, 200, "{answer}");
}

const MISMATCH: &str = "The request signature we calculated does not match";

#[tokio::test]
async fn a_signed_request_is_answered() {
    let clock = ManualClock::default();
    let app = app(&clock);
    accepted(&app, Signer::at(&clock).sign(unsigned())).await;
    accepted(&app, Signer::at(&clock).presigned(60).sign(unsigned())).await;
    let temporary = || Signer { key: TEMPORARY_KEY, token: Some(TOKEN), ..Signer::at(&clock) };
    accepted(&app, temporary().sign(unsigned())).await;
    accepted(&app, temporary().presigned(60).sign(unsigned())).await;
}

#[tokio::test]
async fn it_is_answered_over_both_protocols() {
    let clock = ManualClock::default();
    let server = serve(services().with_credentials(credentials()).with_clock(Arc::new(clock.clone()))).await;
    for version in [Http::One, Http::Two] {
        let mut request = unsigned();
        *request.uri_mut() = format!("{}/", server.url()).parse().unwrap();
        request.headers_mut().insert("host", server.local_addr().to_string().parse().unwrap());
        let mut request = Signer::at(&clock).sign(request);
        match version {
            Http::One => *request.uri_mut() = "/".parse().unwrap(),
            // The authority says it.
            Http::Two => drop(request.headers_mut().remove("host")),
        }
        let answer = Client::connect(&server, version).await.ask(request.map(Full::new)).await;
        assert_eq!(answer.status, 200, "{version:?}: {answer:?}");
    }
    server.close().await;
}

/// Every way to change one thing about a request, by name.
fn tampered(request: &Request<Bytes>) -> Vec<(String, Request<Bytes>)> {
    let mut all = Vec::new();
    let mut change = |name: String, change: &dyn Fn(&mut Request<Bytes>)| {
        let mut tampered = request.clone();
        change(&mut tampered);
        all.push((name, tampered));
    };
    change("method".into(), &|it| *it.method_mut() = http::Method::PUT);
    let uri = request.uri().to_string();
    for at in 1..=uri.len() {
        change(format!("uri, longer at {at}"), &|it| {
            let uri = format!("{}9{}", &uri[..at], &uri[at..]);
            *it.uri_mut() = uri.parse().unwrap();
        });
        let Some(was) = uri.as_bytes().get(at).filter(|was| was.is_ascii_alphanumeric()) else { continue };
        change(format!("uri, other at {at}"), &|it| {
            let other = if *was == b'7' { '8' } else { '7' };
            let uri = format!("{}{other}{}", &uri[..at], &uri[at + 1..]);
            *it.uri_mut() = uri.parse().unwrap();
        });
    }
    for pair in uri.split_once('?').unwrap().1.split('&') {
        change(format!("query twice: {pair}"), &|it| *it.uri_mut() = format!("{uri}&{pair}").parse().unwrap());
    }
    for (name, value) in request.headers() {
        change(format!("no {name}"), &|it| drop(it.headers_mut().remove(name)));
        change(format!("{name} twice"), &|it| {
            it.headers_mut().append(name, value.clone());
        });
        for at in 0..value.len() {
            change(format!("{name} at {at}"), &|it| {
                let mut bytes = value.as_bytes().to_vec();
                bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
                it.headers_mut().insert(name, HeaderValue::from_bytes(&bytes).unwrap());
            });
        }
    }
    change("another header that decides".into(), &|it| {
        it.headers_mut().insert("x-amz-anything", HeaderValue::from_static("7"));
    });
    change("shorter body".into(), &|it| *it.body_mut() = it.body().slice(1..));
    change("longer body".into(), &|it| *it.body_mut() = [&it.body()[..], b" "].concat().into());
    for at in 0..request.body().len() {
        change(format!("body at {at}"), &|it| {
            let mut body = it.body().to_vec();
            body[at] ^= 1;
            *it.body_mut() = body.into();
        });
    }
    all
}

#[tokio::test]
async fn nothing_of_a_signed_request_can_be_changed() {
    let clock = ManualClock::default();
    let app = app(&clock);
    let temporary = || Signer { key: TEMPORARY_KEY, token: Some(TOKEN), ..Signer::at(&clock) };
    for signer in [Signer::at(&clock), Signer::at(&clock).presigned(60), temporary(), temporary().presigned(60)] {
        let signed = signer.sign(unsigned());
        let mut count = 0;
        for (name, request) in tampered(&signed) {
            let (status, answer) = ask(&app, request).await;
            assert_ne!(status, 200, "{name}: {answer}");
            count += 1;
        }
        assert!(count > 300, "{count} changes");
        accepted(&app, signed).await;
    }
}

/// The harness itself: without credentials most of its changes are not noticed.
#[tokio::test]
async fn without_credentials_the_same_changes_pass() {
    let clock = ManualClock::default();
    let app = services().into_router();
    let mut passed = 0;
    for (_, request) in tampered(&Signer::at(&clock).sign(unsigned())) {
        passed += usize::from(ask(&app, request).await.0 == 200);
    }
    assert!(passed > 200, "{passed} passed");
}

#[tokio::test]
async fn a_signature_holds_five_minutes_either_way() {
    let clock = ManualClock::default();
    let app = app(&clock);
    let signed = |seconds: i64| {
        let time = (clock.now() + TimeDelta::seconds(seconds)).into();
        Signer { time, ..Signer::at(&clock) }.sign(unsigned())
    };
    for seconds in [-300, 0, 300] {
        accepted(&app, signed(seconds)).await;
    }
    refused(
        &app,
        signed(-301),
        "InvalidSignatureException",
        "Signature expired: 20251231T235459Z is now earlier than 20251231T235500Z (20260101T000000Z - 5 min.)",
    )
    .await;
    refused(
        &app,
        signed(301),
        "InvalidSignatureException",
        "Signature not yet current: 20260101T000501Z is still later than 20260101T000500Z (20260101T000000Z + 5 min.)",
    )
    .await;
}

#[tokio::test]
async fn a_presigned_request_holds_as_long_as_it_says() {
    let clock = ManualClock::default();
    let app = app(&clock);
    let presigned = Signer::at(&clock).presigned(3600).sign(unsigned());
    clock.advance(Duration::from_secs(3600));
    accepted(&app, presigned.clone()).await;
    clock.advance(Duration::from_secs(1));
    refused(&app, presigned, "InvalidSignatureException", "Signature expired: 20260101T010000Z").await;
    let too_long = Signer::at(&clock).presigned(604_801).sign(unsigned());
    refused(&app, too_long, "IncompleteSignatureException", "X-Amz-Expires must be between 1 and 604800").await;
}

#[tokio::test]
async fn a_key_must_be_known_and_bring_its_token() {
    let clock = ManualClock::default();
    let app = app(&clock);
    let message = "The security token included in the request is invalid.";
    for (key, token) in [("UNKNOWN", None), (KEY, Some(TOKEN)), (TEMPORARY_KEY, None), (TEMPORARY_KEY, Some("another"))]
    {
        let signed = Signer { key, token, ..Signer::at(&clock) }.sign(unsigned());
        refused(&app, signed, "UnrecognizedClientException", message).await;
    }
    let wrong = Signer { secret: "another", ..Signer::at(&clock) }.sign(unsigned());
    refused(&app, wrong, "InvalidSignatureException", MISMATCH).await;
}

#[tokio::test]
async fn it_must_be_signed_for_the_service_it_goes_to() {
    let clock = ManualClock::default();
    let signed = Signer { service: "glue", ..Signer::at(&clock) }.sign(unsigned());
    let message = "Credential should be scoped to correct service: 'kinesis'.";
    refused(&app(&clock), signed, "InvalidSignatureException", message).await;
}

#[tokio::test]
async fn what_is_not_signed_at_all_or_by_half_is_told_so() {
    let clock = ManualClock::default();
    let app = app(&clock);
    let with = |name: &'static str, value: &'static str| {
        let mut request = unsigned();
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        request
    };
    let at = |uri: &'static str| {
        let mut request = unsigned();
        *request.uri_mut() = uri.parse().unwrap();
        request
    };
    refused(&app, unsigned(), "MissingAuthenticationTokenException", "Missing Authentication Token").await;
    let message = "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. \
                   Authorization header requires 'SignedHeaders' parameter. \
                   Authorization header requires existence of an 'X-Amz-Date' header.";
    refused(&app, with("authorization", "X"), "IncompleteSignatureException", message).await;
    let message = "AWS query-string parameters must include 'X-Amz-Credential'. \
                   AWS query-string parameters must include 'X-Amz-Signature'.";
    refused(&app, at("/?X-Amz-Algorithm=AWS4-HMAC-SHA256"), "IncompleteSignatureException", message).await;
    let mut both = with("authorization", "X");
    *both.uri_mut() = "/?X-Amz-Algorithm".parse().unwrap();
    refused(&app, both, "InvalidSignatureException", "Found both 'X-Amz-Algorithm' as a query-string param").await;
    let mut credential = with("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c");
    credential.headers_mut().insert("x-amz-date", HeaderValue::from_static("20260101T000000Z"));
    refused(&app, credential, "IncompleteSignatureException", "Credential must have exactly 5 slash-delimited").await;
    let unsigned_target = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/kinesis/aws4_request, \
                           SignedHeaders=host;x-amz-date, Signature=c";
    let mut target = with("authorization", unsigned_target);
    target.headers_mut().insert("x-amz-date", HeaderValue::from_static("20260101T000000Z"));
    refused(&app, target, "InvalidSignatureException", "'x-amz-target' must be a 'SignedHeader'").await;
}

/// Writes down everything that anybody traces.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<String>>);

impl Visit for Trace {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0.lock().unwrap(), "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Trace {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn no_secret_is_traced_or_shown() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = ManualClock::default();
    let temporary = || Signer { key: TEMPORARY_KEY, token: Some(TOKEN), ..Signer::at(&clock) };
    let requests = [temporary().sign(unsigned()), temporary().presigned(60).sign(unsigned())];
    let services = services().with_credentials(credentials()).with_clock(Arc::new(clock.clone()));
    let mut shown = format!("{services:?}");
    let app = services.into_router();
    let trace = Trace::default();
    tracing::subscriber::with_default(trace.clone(), || {
        tracing::trace!(wire = "listens");
        for request in requests {
            let mut wrong = request.clone();
            *wrong.body_mut() = Bytes::from("{}");
            runtime.block_on(accepted(&app, request));
            shown += &runtime.block_on(ask(&app, wrong)).1.to_string();
        }
    });
    shown += &trace.0.lock().unwrap();
    assert!(shown.contains("listens"), "the trace is written down");
    for secret in [SECRET, TOKEN] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
