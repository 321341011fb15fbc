//! What a client has signed, for a port that asks for no signature.
//!
//! Invariant: what is left of a request is what its client means. SDKs sign the pieces of a body as they send them
//! (`aws-chunked`); here the pieces are put together again, and the sums behind them kept.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body as AxumBody;
use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body::Body;

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const DECODED_LENGTH: &str = "x-amz-decoded-content-length";
const STREAMING: &str = "STREAMING-";

/// The longest line of a chunked body, its size and signature.
const LINE_BYTES_MAX: usize = 1 << 10;

/// All lines behind the last chunk.
const TRAILER_BYTES_MAX: usize = 16 << 10;

/// Parts of a query that say who asks.
const SIGNING: [&str; 9] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
];

/// The headers behind a body, once it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Trailers(Arc<Mutex<Option<HeaderMap>>>);

impl Trailers {
    pub(super) fn take(&self) -> Option<HeaderMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, headers: HeaderMap) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(headers);
    }
}

/// The request as it would be without a signature.
pub(super) fn without_signature(request: Request<AxumBody>) -> Request<AxumBody> {
    let (mut parts, mut body) = request.into_parts();
    parts.headers.remove(AUTHORIZATION);
    parts.uri = without_signing(parts.uri);
    let sha256 = parts.headers.remove(CONTENT_SHA256);
    if sha256.is_some_and(|sha256| sha256.as_bytes().starts_with(STREAMING.as_bytes())) {
        let trailers = Trailers::default();
        body = AxumBody::from_stream(Unchunked::new(body, trailers.clone()));
        parts.extensions.insert(trailers);
        match parts.headers.remove(HeaderName::from_static(DECODED_LENGTH)) {
            Some(length) => parts.headers.insert(CONTENT_LENGTH, length),
            None => parts.headers.remove(CONTENT_LENGTH),
        };
    }
    Request::from_parts(parts, body)
}

fn without_signing(uri: Uri) -> Uri {
    let Some(query) = uri.query() else { return uri };
    let name = |part: &&str| part.split('=').next().unwrap_or_default().to_owned();
    let is_own = |part: &&str| !SIGNING.iter().any(|signing| signing.eq_ignore_ascii_case(&name(part)));
    let own: Vec<&str> = query.split('&').filter(is_own).collect();
    // `Expires` is about a signature only beside one.
    let is_v2 = query.split('&').any(|part| name(&part) == "AWSAccessKeyId");
    let own: Vec<&str> = own.into_iter().filter(|part| !(is_v2 && name(part) == "Expires")).collect();
    let path_and_query = match own.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), own.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    Uri::from_parts(parts).unwrap_or(uri)
}

/// A body that was sent in chunks, each with its length and perhaps a signature before it.
struct Unchunked {
    body: AxumBody,
    trailers: Trailers,
    buffer: BytesMut,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    /// This much of a chunk is to come.
    Data(u64),
    /// The line's end behind a chunk.
    DataEnd,
    Trailers,
    End,
}

#[derive(Debug)]
struct Malformed(&'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the chunks of the body are malformed: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

impl Unchunked {
    fn new(body: AxumBody, trailers: Trailers) -> Self {
        Self { body, trailers, buffer: BytesMut::new(), at: At::Size }
    }

    /// The next bytes of the body, if enough has arrived.
    fn decode(&mut self) -> Result<Option<Bytes>, Malformed> {
        loop {
            match self.at {
                At::Size => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let size = std::str::from_utf8(&line).ok().and_then(|line| {
                        u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).ok()
                    });
                    self.at = match size.ok_or(Malformed("a chunk begins without its size"))? {
                        0 => At::Trailers,
                        size => At::Data(size),
                    };
                }
                At::Data(_) if self.buffer.is_empty() => return Ok(None),
                At::Data(left) => {
                    let taken = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
                    let data = self.buffer.split_to(taken).freeze();
                    self.at = match left - taken as u64 {
                        0 => At::DataEnd,
                        left => At::Data(left),
                    };
                    return Ok(Some(data));
                }
                At::DataEnd => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(Malformed("a chunk is longer than it says"));
                    }
                    self.at = At::Size;
                }
                // They are read whole, at the end.
                At::Trailers if self.buffer.len() > TRAILER_BYTES_MAX => {
                    return Err(Malformed("too much follows the last chunk"));
                }
                At::Trailers | At::End => return Ok(None),
            }
        }
    }

    fn line(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let mut line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                Ok(Some(line))
            }
            None if self.buffer.len() > LINE_BYTES_MAX => Err(Malformed("a chunk's size has no end")),
            None => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<(), Malformed> {
        if self.at != At::Trailers {
            return Err(Malformed("they end before the last"));
        }
        self.at = At::End;
        let mut headers = HeaderMap::new();
        let text = self.buffer.split().freeze();
        for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed("a trailer has no name"))?;
            let (name, value) = line.split_at(colon);
            let name = HeaderName::from_bytes(name.trim_ascii());
            let value = HeaderValue::from_bytes(value.strip_prefix(b":").unwrap_or_default().trim_ascii());
            headers.append(
                name.map_err(|_| Malformed("a trailer's name is none"))?,
                value.map_err(|_| Malformed("a trailer's value is none"))?,
            );
        }
        self.trailers.set(headers);
        Ok(())
    }
}

impl Stream for Unchunked {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.at == At::End {
                return Poll::Ready(None);
            }
            match this.decode() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(None) => {}
                Err(error) => {
                    this.at = At::End;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(task)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    this.at = At::End;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    let finished = this.finish();
                    this.at = At::End;
                    return Poll::Ready(finished.err().map(|error| Err(error.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Reads a chunked body that arrives in pieces that end at these places.
    fn read(chunked: &[u8], ends: &[usize]) -> Result<(Vec<u8>, HeaderMap), String> {
        let mut ends: Vec<usize> = ends.iter().map(|end| end % (chunked.len() + 1)).collect();
        ends.extend([0, chunked.len()]);
        ends.sort_unstable();
        let piece = |pair: &[usize]| Ok::<_, std::io::Error>(Bytes::copy_from_slice(&chunked[pair[0]..pair[1]]));
        let pieces: Vec<_> = ends.windows(2).map(piece).collect();
        let trailers = Trailers::default();
        let body = AxumBody::from_stream(futures::stream::iter(pieces));
        futures::executor::block_on(async {
            let mut unchunked = Unchunked::new(body, trailers.clone());
            let mut read = Vec::new();
            while let Some(piece) = unchunked.next().await {
                read.extend_from_slice(&piece.map_err(|error| error.to_string())?);
            }
            Ok((read, trailers.take().unwrap_or_default()))
        })
    }

    proptest! {
        #[test]
        fn whatever_pieces_it_comes_in_the_body_is_the_same(
            chunks in vec(vec(any::<u8>(), 1..50), 0..6),
            ends in vec(any::<usize>(), 0..20),
            is_signed in any::<bool>(),
            has_trailer in any::<bool>(),
        ) {
            let signature = if is_signed { format!(";chunk-signature={}", "a".repeat(64)) } else { String::new() };
            let mut chunked = Vec::new();
            for chunk in &chunks {
                chunked.extend_from_slice(format!("{:x}{signature}\r\n", chunk.len()).as_bytes());
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(format!("0{signature}\r\n").as_bytes());
            if has_trailer {
                chunked.extend_from_slice(b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:abc\r\n");
            }
            chunked.extend_from_slice(b"\r\n");
            let (body, trailers) = read(&chunked, &ends).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(trailers.contains_key("x-amz-checksum-crc32"), has_trailer);
        }

        #[test]
        fn what_breaks_off_is_an_error(chunk in vec(any::<u8>(), 1..50), cut in any::<usize>(), ends in vec(any::<usize>(), 0..5)) {
            let mut chunked = format!("{:x}\r\n", chunk.len()).into_bytes();
            chunked.extend_from_slice(&chunk);
            chunked.extend_from_slice(b"\r\n0\r\n\r\n");
            let cut = cut % (chunked.len() - "0\r\n\r\n".len() + 1);
            prop_assert!(read(&chunked[..cut], &ends).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), ends in vec(any::<usize>(), 0..5)) {
            let _ = read(&bytes, &ends);
        }
    }

    #[test]
    fn signatures_go_and_the_rest_of_a_query_stays() {
        let uri = |text: &str| without_signing(text.parse().unwrap()).to_string();
        assert_eq!(
            uri("/b/k?X-Amz-Signature=a&partNumber=1&X-Amz-Expires=5&uploadId=x"),
            "/b/k?partNumber=1&uploadId=x"
        );
        assert_eq!(uri("/b/k?AWSAccessKeyId=a&Signature=b&Expires=3"), "/b/k");
        assert_eq!(uri("/b?uploads"), "/b?uploads");
    }
}
