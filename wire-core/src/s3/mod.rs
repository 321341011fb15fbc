//! S3 over any object store, beside the services of the same port.
//!
//! Invariant: a client sees what lies in the store, and what it puts lies there for everyone: `s3://bucket/key` is the object
//! `bucket/key`. What has no such place (empty buckets, uploads under way, descriptions that a store does not keep) lies under
//! names that begin with `.%`, which no bucket has.

mod api;
mod bucket;
mod checks;
mod described;
mod error;
mod expect;
mod incoming;
mod key;
mod listing;
mod multipart;
mod place;
mod unsigned;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::task::{Context, Poll};

use self::expect::Expectation;
use axum::body::Body as AxumBody;
use bytes::Bytes;
use durable_core::Clock;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{Request, Response, StatusCode};
use object_store::{GetResult, GetResultPayload, ObjectStore};
use rand::Rng;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};

use crate::{Credentials, Settings};

/// What a file is read in.
const PIECE_BYTES: u64 = 1 << 20;

const ID_CHARS: usize = 32;

/// A store as S3 has it: [`Services::with_s3`](crate::Services::with_s3) offers it to what clients of S3 there are.
///
/// The first segment of a path is a bucket, the rest its key. Buckets and objects: create, head, list (both forms), get with
/// ranges and conditions, put with conditions and checksums, copy, delete, multipart uploads with copied parts.
///
/// - Entity tags are the store's own, no MD5 sums; sums that a client sends are checked, and not kept.
/// - `If-Match` on a put or a delete is one step for the clients of this port where the store cannot compare by itself.
/// - A directory of files cannot hold `a` beside `a/b`; keys that are no path (`a//b`, `a/`, `..`) lie under other names.
/// - No versions, tags, lists of access, policies, storage classes or encryption with a client's key: what would be lost is
///   refused, what only changes how S3 keeps a thing is passed over. `Expires` is not kept.
/// - An upload that is neither completed nor aborted keeps its parts, as in S3 without a lifecycle rule.
///
/// ```
/// use std::sync::Arc;
/// use object_store::memory::InMemory;
/// use wire_core::{S3, Server, Services};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> wire_core::Result<()> {
/// let store = Arc::new(InMemory::new());
/// let s3 = S3::new(store).with_hidden("streams"); // what another service keeps there is not for clients
/// let server = Server::bind("127.0.0.1:0", Services::default().with_s3(s3)).await?;
/// println!("boto3.client('s3', endpoint_url='{}')", server.url());
/// # server.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until services have it"]
pub struct S3 {
    store: Arc<dyn ObjectStore>,
    hidden: BTreeSet<String>,
}

impl S3 {
    /// All of a store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, hidden: BTreeSet::new() }
    }

    /// Keeps a first segment from clients: it is no bucket, and whoever names it is refused.
    pub fn with_hidden(mut self, name: impl Into<String>) -> Self {
        self.hidden.insert(name.into());
        self
    }

    pub(crate) fn into_service(self, credentials: &Credentials, clock: Arc<dyn Clock>, settings: Settings) -> Front {
        let objects = api::Objects::new(self.store, self.hidden, clock, settings);
        let mut builder = S3ServiceBuilder::new(objects);
        let is_open = credentials.is_empty();
        if !is_open {
            builder.set_auth(Keys(credentials.clone()));
            builder.set_access(Keys(credentials.clone()));
        }
        Front { service: builder.build(), is_open }
    }
}

/// What comes before s3s: a request in the form that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    service: S3Service,
    /// Whether every request is accepted, signed or not.
    is_open: bool,
}

impl tower_service::Service<Request<AxumBody>> for Front {
    type Response = Response<AxumBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<AxumBody>) -> Self::Future {
        let Self { service, is_open } = self.clone();
        Box::pin(async move {
            let (request, expectation) = Expectation::of(request);
            let request = match is_open {
                true => unsigned::without_signature(request),
                false => request,
            };
            let answer = service.call(request.map(s3s::Body::http_body_unsync)).await;
            let mut answer = answer.map_or_else(
                |error| {
                    tracing::error!(?error, "an S3 request was not answered");
                    let mut answer = Response::new(AxumBody::empty());
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    answer
                },
                |answer| answer.map(AxumBody::new),
            );
            expectation.settle(&mut answer);
            Ok(answer)
        })
    }
}

/// The port's keys, as s3s asks for them.
struct Keys(Credentials);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let secret = self.0.secret(access_key).map(SecretKey::from);
        secret.ok_or_else(|| {
            s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records.")
        })
    }
}

#[async_trait::async_trait]
impl S3Access for Keys {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(found) = request.credentials() else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        let query = request.uri().query().unwrap_or_default();
        let in_query = || query.split('&').find_map(|part| part.strip_prefix("X-Amz-Security-Token="));
        let decoded = |value: &str| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
        let in_headers = request.headers().get("x-amz-security-token").and_then(|value| value.to_str().ok());
        let token = in_headers.map(str::to_owned).or_else(|| in_query().map(decoded));
        match self.0.takes_token(&found.access_key, token.as_deref()) {
            true => Ok(()),
            false => Err(s3_error!(InvalidToken, "The provided token is malformed or otherwise invalid.")),
        }
    }
}

fn random_id() -> String {
    let id: u128 = rand::rng().random();
    format!("{id:032x}")
}

/// What was read, in pieces. object_store reads files in 8 KiB, each on a thread of its own: this in more.
fn pieces(result: GetResult) -> BoxStream<'static, object_store::Result<Bytes>> {
    let range = result.range.clone();
    let (file, path) = match result.payload {
        GetResultPayload::Stream(stream) => return stream,
        GetResultPayload::File(file, path) => (Arc::new(file), path),
    };
    let read = move |start: u64| {
        let (file, end) = (Arc::clone(&file), range.end);
        let path = path.clone();
        async move {
            if start >= end {
                return Ok(None);
            }
            let wanted = PIECE_BYTES.min(end - start);
            let piece = tokio::task::spawn_blocking(move || read_at(&file, start, wanted)).await?;
            let piece = piece.map_err(|source| object_store::Error::Generic {
                store: "LocalFileSystem",
                source: format!("{}: {source}", path.display()).into(),
            })?;
            Ok(Some((piece, start + wanted)))
        }
    };
    futures::stream::try_unfold(result.range.start, read).boxed()
}

fn read_at(mut file: &File, start: u64, length: u64) -> std::io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut piece)?;
    Ok(piece.into())
}
