//! One set of input and output types, two encodings: JSON 1.0/1.1 and AWS's CBOR 1.1.
//!
//! Invariant: a decoder allocates no more than a small multiple of what it was given, nests no deeper than a named bound, and
//! never panics. What it cannot read is a `SerializationException` that says where.

mod blob;
mod cbor;
mod json;
mod refusal;
mod timestamp;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use blob::Blob;
pub use timestamp::Timestamp;

use crate::WireError;

/// Room for most answers; larger ones grow.
const OUTPUT_BYTES_FIRST: usize = 512;

/// How the shapes of an operation are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// `application/x-amz-json-1.0`: as 1.1, and answered with the same content type.
    Json10,
    /// `application/x-amz-json-1.1`: blobs are base64, timestamps seconds with a fraction.
    Json11,
    /// `application/x-amz-cbor-1.1`: blobs are byte strings, timestamps tag 1 with milliseconds.
    Cbor11,
}

impl Encoding {
    /// The encoding that a `Content-Type` names; parameters (`; charset=...`) are ignored.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let media_type = content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type).trim();
        [Self::Json11, Self::Cbor11, Self::Json10]
            .into_iter()
            .find(|it| it.content_type().eq_ignore_ascii_case(media_type))
    }

    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json10 => "application/x-amz-json-1.0",
            Self::Json11 => "application/x-amz-json-1.1",
            Self::Cbor11 => "application/x-amz-cbor-1.1",
        }
    }

    /// Reads an input. Members that the type does not have are ignored.
    ///
    /// From CBOR a [`Blob`] is a slice of `body`, not a copy.
    ///
    /// # Errors
    ///
    /// `SerializationException` if the body is no such input; `ValidationException` if a member without a default is absent.
    pub fn decode<T: DeserializeOwned>(self, body: &Bytes) -> Result<T, WireError> {
        match self {
            Self::Json10 | Self::Json11 => json::decode(body),
            Self::Cbor11 => cbor::decode(body),
        }
    }

    /// Writes an output. `()` is an empty body, as AWS answers where an operation has no output.
    ///
    /// # Errors
    ///
    /// `InternalFailure` if the type's `Serialize` fails (a map whose keys are no strings, in JSON).
    pub fn encode<T: Serialize + ?Sized>(self, output: &T) -> Result<Bytes, WireError> {
        let (encoded, nothing): (_, &[u8]) = match self {
            Self::Json10 | Self::Json11 => (json::encode(output), b"null"),
            Self::Cbor11 => (cbor::encode(output), &[cbor::NULL]),
        };
        let encoded =
            encoded.map_err(|reason| WireError::internal(format!("the answer cannot be encoded: {reason}")))?;
        Ok(if encoded == nothing { Bytes::new() } else { encoded.into() })
    }
}
