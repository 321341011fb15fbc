//! Bytes of a request or an answer.
//!
//! Invariant: a blob read from CBOR is a slice of the request's one buffer. serde cannot hand a buffer's owner to a type, so
//! the decoder leaves it in a thread-local for the length of one synchronous call.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use base64_simd::STANDARD;
use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes: base64 text in JSON, a byte string in CBOR.
///
/// ```
/// use wire_core::{Blob, Encoding, bytes::Bytes};
///
/// assert_eq!(Encoding::Json11.encode(&Blob::from("hello"))?, r#""aGVsbG8=""#);
/// assert_eq!(Encoding::Cbor11.encode(&Blob::from("hello"))?, b"\x45hello".as_slice());
/// # Ok::<(), wire_core::WireError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blob(Bytes);

impl Blob {
    /// The bytes, not copied.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl<T: Into<Bytes>> From<T> for Blob {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Blob {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Blob {
    /// The length only: what clients send does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(BlobVisitor { text: true })
        } else {
            deserializer.deserialize_bytes(BlobVisitor { text: false })
        }
    }
}

struct BlobVisitor {
    text: bool,
}

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text { "a blob as base64 text" } else { "a blob as a byte string" })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
        if !self.text {
            return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self));
        }
        let bytes = STANDARD.decode_to_vec(text).map_err(|_| E::custom("the blob is not valid base64"))?;
        Ok(Blob(bytes.into()))
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Blob, E> {
        Ok(Blob(slice_of_body(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes.into()))
    }

    /// What serde_json by itself writes for a blob. This crate's JSON never does.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = elements.next_element::<u8>()? {
            bytes.push(byte);
        }
        Ok(Blob(bytes.into()))
    }
}

thread_local! {
    static BODY: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
}

/// Runs a decoder whose blobs become slices of `body`.
pub(super) fn with_body<T>(body: &Bytes, decode: impl FnOnce() -> T) -> T {
    struct Leave(Bytes);
    impl Drop for Leave {
        fn drop(&mut self) {
            BODY.set(std::mem::take(&mut self.0));
        }
    }
    let _leave = Leave(BODY.replace(body.clone()));
    decode()
}

/// The same bytes as a slice of the body if they lie in it, else a copy.
fn slice_of_body(bytes: &[u8]) -> Bytes {
    BODY.with_borrow(|body| {
        let start = (bytes.as_ptr() as usize).checked_sub(body.as_ptr() as usize);
        let range = start.and_then(|start| Some(start..start.checked_add(bytes.len())?));
        match range {
            Some(range) if range.end <= body.len() => body.slice(range),
            _ => Bytes::copy_from_slice(bytes),
        }
    })
}
