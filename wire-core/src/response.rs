//! An answer on its way out.
//!
//! Invariant: a whole answer is one buffer with a content length; only event streams and foreign bodies come in pieces.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use axum::body::Body as AxumBody;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};

use crate::context::RequestId;
use crate::{Encoding, WireError};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const EXTENDED_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-id-2");

/// What an operation answers with.
pub(crate) struct AwsResponse {
    pub(crate) content_type: &'static str,
    pub(crate) answer: Answer,
}

pub(crate) enum Answer {
    Whole(Bytes),
    Events(BoxStream<'static, Bytes>),
}

impl AwsResponse {
    pub(crate) fn into_http(self, id: RequestId) -> Response<ResponseBody> {
        let body = match self.answer {
            Answer::Whole(bytes) => ResponseBody::whole(bytes),
            Answer::Events(frames) => ResponseBody(Kind::Events(frames)),
        };
        response(StatusCode::OK, self.content_type, body, id)
    }
}

/// An exception, in the encoding of the request.
pub(crate) fn error(error: &WireError, encoding: Encoding, id: RequestId) -> Response<ResponseBody> {
    // An exception whose own fields cannot be encoded has a body without them.
    let body = encoding.encode(error).unwrap_or_default();
    response(error.status(), encoding.content_type(), ResponseBody::whole(body), id)
}

pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: ResponseBody,
    id: RequestId,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in [(REQUEST_ID, id.to_string()), (EXTENDED_REQUEST_ID, id.extended())] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// The body of a response.
#[derive(Debug)]
pub(crate) struct ResponseBody(Kind);

enum Kind {
    /// At most one frame.
    Whole(Option<Bytes>),
    Events(BoxStream<'static, Bytes>),
    Foreign(AxumBody),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Events(_) => "Events",
            Self::Foreign(_) => "Foreign",
        })
    }
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    pub(crate) fn foreign(body: AxumBody) -> Self {
        Self(Kind::Foreign(body))
    }

    /// The same body; an event stream ends, after a whole event, once `closing` resolves.
    pub(crate) fn until(self, closing: BoxFuture<'static, ()>) -> Self {
        match self.0 {
            Kind::Events(frames) => Self(Kind::Events(frames.take_until(closing.fuse()).boxed())),
            other => Self(other),
        }
    }

    pub(crate) fn is_events(&self) -> bool {
        matches!(self.0, Kind::Events(_))
    }

    /// As axum wants it.
    pub(crate) fn into_axum(self) -> AxumBody {
        match self.0 {
            Kind::Whole(bytes) => AxumBody::from(bytes.unwrap_or_default()),
            Kind::Events(frames) => AxumBody::from_stream(frames.map(Ok::<_, Infallible>)),
            Kind::Foreign(body) => body,
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Events(frames) => frames.poll_next_unpin(task).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Foreign(body) => Pin::new(body).poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Events(_) => false,
            Kind::Foreign(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Events(_) => SizeHint::default(),
            Kind::Foreign(body) => body.size_hint(),
        }
    }
}
