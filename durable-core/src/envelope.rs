//! A small checked wrapping for everything that is written once and read whole: manifests, seals, commits.
//!
//! | name | bytes | |
//! |---|---|---|
//! | magic | 8 | which kind of thing, and its format's version |
//! | crc | 4 | CRC32C of length and body, little endian |
//! | length | 4 | of the body, little endian |
//! | body | length | |
//!
//! Invariant: [`open`] answers exactly what [`seal`] was given, or [`ErrorKind::Corrupt`]; never a part of it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Error, ErrorKind, Result};

const HEADER_BYTES: usize = 16;

/// Wraps `body`.
///
/// # Errors
/// `LimitExceeded` past 4 GiB.
pub(crate) fn seal(magic: [u8; 8], body: &[u8]) -> Result<Bytes> {
    let length = u32::try_from(body.len()).map_err(|_| {
        Error::new(ErrorKind::LimitExceeded, format!("{} bytes do not fit one envelope of 4 GiB", body.len()))
    })?;
    let mut sealed = BytesMut::with_capacity(HEADER_BYTES + body.len());
    sealed.put_slice(&magic);
    sealed.put_u32_le(checksum(length, body));
    sealed.put_u32_le(length);
    sealed.put_slice(body);
    Ok(sealed.freeze())
}

/// Unwraps what [`seal`] wrote; `name` is for the message.
///
/// # Errors
/// `Corrupt` if anything differs from what was written.
pub(crate) fn open(magic: [u8; 8], sealed: &Bytes, name: &str) -> Result<Bytes> {
    let corrupt = |what: &str| {
        Error::new(ErrorKind::Corrupt, format!("{name}: {what}; restore it from a copy, it is not served"))
    };
    let Some((header, body)) = sealed.split_at_checked(HEADER_BYTES) else {
        return Err(corrupt("shorter than its header"));
    };
    if header[..8] != magic {
        return Err(corrupt("does not begin as this kind of file does"));
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(12) as usize != body.len() {
        return Err(corrupt("its length is not the one it was written with"));
    }
    if word(8) != checksum(word(12), body) {
        return Err(corrupt("its checksum does not match"));
    }
    Ok(sealed.slice(HEADER_BYTES..))
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 8] = *b"ENVTEST1";

    #[test]
    fn every_flipped_bit_is_seen() {
        let sealed = seal(MAGIC, b"the body").unwrap();
        assert_eq!(open(MAGIC, &sealed, "it").unwrap(), "the body");
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(MAGIC, &damaged.into(), "it").unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn every_cut_is_seen() {
        let sealed = seal(MAGIC, b"the body").unwrap();
        for length in 0..sealed.len() {
            assert!(open(MAGIC, &sealed.slice(..length), "it").is_err());
        }
    }
}
