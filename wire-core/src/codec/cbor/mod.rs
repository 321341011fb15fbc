//! AWS's CBOR: serde over cbor4ii's items, with AWS's own meaning of tag 1.
//!
//! Invariant: the grammar of items (heads, lengths, chunks, breaks) is cbor4ii's; here is only what serde and AWS add.

mod decoder;
mod encoder;

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::blob;
use super::refusal::refusal;
use crate::WireError;

pub(super) use cbor4ii::core::marker::NULL;

/// How deep arrays, maps, tags and chunked strings may nest. AWS's shapes nest less than ten deep.
const DEPTH_MAX: usize = 64;

pub(super) fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<T, WireError> {
    blob::with_body(body, || decoder::decode(body)).map_err(|error| explain::<T>(body, &error))
}

#[cold]
fn explain<T: DeserializeOwned>(body: &[u8], error: &CborError) -> WireError {
    let mut decoder = decoder::Decoder::new(body);
    match serde_path_to_error::deserialize::<_, T>(&mut decoder) {
        Err(error) => refusal(error.path(), &error.inner().to_string()),
        // What failed comes after the map.
        Ok(_) => WireError::serialization(error.to_string()),
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(output: &T) -> Result<Vec<u8>, String> {
    encoder::encode(output).map_err(|error| error.to_string())
}

/// Why an item cannot be read or written.
#[derive(Debug)]
pub(super) struct CborError(String);

impl CborError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for CborError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CborError {}

impl serde::de::Error for CborError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl serde::ser::Error for CborError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<E: fmt::Debug> From<cbor4ii::core::dec::Error<E>> for CborError {
    #[cold]
    fn from(error: cbor4ii::core::dec::Error<E>) -> Self {
        use cbor4ii::core::dec::Error;
        Self(match error {
            Error::Eof { .. } | Error::RequireLength { .. } => "the CBOR ends too early".into(),
            Error::RequireUtf8 { .. } => "a CBOR text is not UTF-8".into(),
            Error::DepthOverflow { .. } => format!("the CBOR is nested deeper than {DEPTH_MAX} levels"),
            Error::CastOverflow { .. } | Error::ArithmeticOverflow { .. } | Error::LengthOverflow { .. } => {
                "a CBOR number is out of range".into()
            }
            _ => "the CBOR is malformed".into(),
        })
    }
}

impl<E: fmt::Display> From<cbor4ii::core::enc::Error<E>> for CborError {
    #[cold]
    fn from(error: cbor4ii::core::enc::Error<E>) -> Self {
        let cbor4ii::core::enc::Error::Write(error) = error else { return Self::new("the CBOR cannot be written") };
        Self(error.to_string())
    }
}
