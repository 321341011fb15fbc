//! The body of a request as a source of an object.
//!
//! Invariant: it ends well only if every byte came that was announced, and their sums are those that the client told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::Clock;
use futures::StreamExt;
use http::HeaderMap;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, TrailingHeaders, s3_error};

use super::checks::{Checks, Summing};
use super::place::Source;
use super::unsigned::Trailers;
use crate::receive::within;

pub(super) struct Incoming {
    body: Option<StreamingBlob>,
    summing: Option<Summing>,
    /// The sums that were told, once the body has ended.
    pub(super) sums: Checksum,
    signed_trailers: Option<TrailingHeaders>,
    trailers: Option<Trailers>,
    length: Option<u64>,
    received: u64,
    clock: Arc<dyn Clock>,
    /// How long a client may take for the next bytes.
    timeout: Duration,
}

impl Incoming {
    pub(super) fn new<T>(
        request: &S3Request<T>,
        body: Option<StreamingBlob>,
        length: Option<i64>,
        checks: Checks,
        (clock, timeout): (Arc<dyn Clock>, Duration),
    ) -> Self {
        Self {
            body,
            summing: Some(Summing::new(checks, &request.headers)),
            sums: Checksum::default(),
            signed_trailers: request.trailing_headers.clone(),
            trailers: request.extensions.get::<Trailers>().cloned(),
            length: length.and_then(|length| u64::try_from(length).ok()),
            received: 0,
            clock,
            timeout,
        }
    }

    fn finish(&mut self) -> S3Result<()> {
        let Some(summing) = self.summing.take() else { return Ok(()) };
        if self.length.is_some_and(|length| length != self.received) {
            return Err(incomplete());
        }
        let signed = self.signed_trailers.as_ref().and_then(TrailingHeaders::take);
        let trailers: Option<HeaderMap> = signed.or_else(|| self.trailers.as_ref()?.take());
        self.sums = summing.finish(trailers.as_ref())?;
        Ok(())
    }
}

fn incomplete() -> S3Error {
    s3_error!(IncompleteBody, "You did not provide the number of bytes specified by the Content-Length HTTP header.")
}

impl Source for Incoming {
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        let piece = match &mut self.body {
            None => None,
            Some(body) => within(&*self.clock, self.timeout, body.next()).await.ok_or_else(|| {
                s3_error!(
                    RequestTimeout,
                    "Your socket connection to the server was not read from or written to within the timeout period."
                )
            })?,
        };
        let Some(piece) = piece else {
            self.finish()?;
            return Ok(None);
        };
        let piece = piece.map_err(|error| broken(&*error))?;
        self.received += piece.len() as u64;
        if self.length.is_some_and(|length| length < self.received) {
            return Err(incomplete());
        }
        if let Some(summing) = &mut self.summing {
            summing.update(&piece);
        }
        Ok(Some(piece))
    }
}

/// Why a body broke off. s3s keeps its reasons to itself, but for their words.
fn broken(error: &(dyn std::error::Error + Send + Sync)) -> S3Error {
    let told = error.to_string();
    if told.contains("SignatureMismatch") {
        return s3_error!(SignatureDoesNotMatch, "The signature of a piece of the body is not that of your key.");
    }
    if told.contains("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut error =
            S3Error::with_message(code, "The provided 'x-amz-content-sha256' header does not match what was computed.");
        error.set_status_code(http::StatusCode::BAD_REQUEST);
        return error;
    }
    S3Error::with_message(S3ErrorCode::IncompleteBody, format!("The body broke off: {told}"))
}
