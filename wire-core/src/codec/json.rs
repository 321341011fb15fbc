//! JSON, by serde_json; byte strings are base64 text.
//!
//! Invariant: a blob's base64 is written straight into the response buffer and read straight from the request's.

use std::io;

use base64_simd::{AsOut, STANDARD};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;
use serde_json::{Deserializer, Serializer};

use super::refusal::refusal;
use crate::WireError;

pub(super) fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<T, WireError> {
    // serde reads a struct from an array as well; AWS does not.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(WireError::serialization("the request is not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| explain::<T>(body, &error))
}

#[cold]
fn explain<'de, T: Deserialize<'de>>(body: &'de [u8], error: &serde_json::Error) -> WireError {
    let mut deserializer = Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => refusal(error.path(), &error.inner().to_string()),
        // What failed comes after the object.
        Ok(_) => WireError::serialization(error.to_string()),
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(output: &T) -> Result<Vec<u8>, String> {
    let mut buffer = Vec::with_capacity(super::OUTPUT_BYTES_FIRST);
    output.serialize(&mut Serializer::with_formatter(&mut buffer, Base64Bytes)).map_err(|error| error.to_string())?;
    Ok(buffer)
}

/// Compact JSON whose byte strings are base64.
struct Base64Bytes;

/// How many bytes are encoded at a time: a multiple of three, so that only the last chunk is padded.
const CHUNK_BYTES: usize = 3 * 1024;

impl Formatter for Base64Bytes {
    fn write_byte_array<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        let mut text = [0; CHUNK_BYTES / 3 * 4];
        writer.write_all(b"\"")?;
        for chunk in value.chunks(CHUNK_BYTES) {
            writer.write_all(STANDARD.encode(chunk, text.as_mut_slice().as_out()))?;
        }
        writer.write_all(b"\"")
    }
}
