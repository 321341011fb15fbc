//! `Expect: 100-continue`, which clients of S3 send before a body.
//!
//! Invariant: a client that was answered without being asked for its body gets a new connection for its next request. Otherwise
//! it may send the body after all (RFC 9110, 10.1.1), and botocore takes the next answer for a part of this one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body, Frame, SizeHint};

/// Whether a client that waits was told to go on.
#[derive(Clone, Debug)]
pub(super) struct Expectation(Option<Arc<AtomicBool>>);

impl Expectation {
    pub(super) fn of(request: Request<AxumBody>) -> (Request<AxumBody>, Self) {
        let waits = request.version() == Version::HTTP_11 && request.headers().contains_key(EXPECT);
        if !waits {
            return (request, Self(None));
        }
        let is_asked = Arc::new(AtomicBool::new(false));
        // hyper asks for a body when it is first read, unless it is empty.
        let watched = |body: AxumBody| match body.is_end_stream() {
            true => body,
            false => AxumBody::new(Watched { body, is_asked: Arc::clone(&is_asked) }),
        };
        (request.map(watched), Self(Some(is_asked)))
    }

    pub(super) fn settle<B>(&self, answer: &mut Response<B>) {
        if self.0.as_ref().is_some_and(|is_asked| !is_asked.load(Ordering::Relaxed)) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

struct Watched {
    body: AxumBody,
    is_asked: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_asked.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
