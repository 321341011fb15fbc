//! Where a reader stands in a shard.
//!
//! Invariant: an iterator names the next index to read, so a read is a contiguous run from there: no gap, no repeat.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::stream::{SequenceNumber, ShardId};

/// Where to begin reading a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IteratorType {
    /// At the oldest record that retention has left.
    TrimHorizon,
    /// Behind the newest record: only what is put from now on.
    Latest,
    /// At this record, or the next if it is not there (a shard's starting number is fine).
    AtSequenceNumber(SequenceNumber),
    /// Behind this record.
    AfterSequenceNumber(SequenceNumber),
    /// At the first record that arrived at this time or later; before the oldest it is [`TrimHorizon`](Self::TrimHorizon).
    AtTimestamp(DateTime<Utc>),
}

/// A reader's place in one shard of one stream. Its text, which reads back as the iterator, is what a client gets; it
/// means nothing to an instance of other streams. It stays valid when the instance is opened anew, as long as
/// [`Limits::with_iterator_age`](crate::Limits::with_iterator_age) lets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIterator {
    pub(crate) stream: u64,
    pub(crate) shard: ShardId,
    pub(crate) from: From,
    /// When it was given out, in milliseconds since 1970.
    pub(crate) issued_ms: i64,
}

/// Stands before the bytes of an iterator's text.
const VERSION: u8 = 1;
/// Version, stream, shard, index (0 is the oldest), time of issue, CRC32C of all that.
const BYTES: usize = 1 + 8 + 4 + 8 + 8 + 4;

impl fmt::Display for ShardIterator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.shard.index().to_be_bytes());
        let index = match self.from {
            From::Oldest => 0,
            From::Index(index) => index,
        };
        bytes.extend_from_slice(&index.to_be_bytes());
        bytes.extend_from_slice(&self.issued_ms.to_be_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        f.write_str(&STANDARD.encode(bytes))
    }
}

impl FromStr for ShardIterator {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` unless `text` is an iterator's.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::invalid("this is not a shard iterator; ask for one with shard_iterator");
        let bytes = STANDARD.decode(text).map_err(|_| invalid())?;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(invalid)?;
        let rest = body.strip_prefix(&[VERSION]).filter(|_| bytes.len() == BYTES).ok_or_else(invalid)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(invalid());
        }
        let (stream, rest) = rest.split_first_chunk().ok_or_else(invalid)?;
        let (shard, rest) = rest.split_first_chunk().ok_or_else(invalid)?;
        let (index, rest) = rest.split_first_chunk().ok_or_else(invalid)?;
        let (issued_ms, _) = rest.split_first_chunk().ok_or_else(invalid)?;
        let from = match u64::from_be_bytes(*index) {
            0 => From::Oldest,
            index => From::Index(index),
        };
        Ok(Self {
            stream: u64::from_be_bytes(*stream),
            shard: ShardId::new(u32::from_be_bytes(*shard)),
            from,
            issued_ms: i64::from_be_bytes(*issued_ms),
        })
    }
}

impl ShardIterator {
    /// The shard it stands in.
    #[must_use]
    pub fn shard_id(&self) -> ShardId {
        self.shard
    }
}

/// The next record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest there is when it is read.
    Oldest,
    /// The first at or above this index; an error if retention took it.
    Index(u64),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_iterator_reads_as_it_is_written_and_nothing_else_does(
            stream: u64, shard: u32, index: u64, issued_ms: i64, flip in 0usize..BYTES * 8,
        ) {
            let from = if index == 0 { From::Oldest } else { From::Index(index) };
            let iterator = ShardIterator { stream, shard: ShardId::new(shard), from, issued_ms };
            let text = iterator.to_string();
            prop_assert_eq!(text.parse::<ShardIterator>().unwrap(), iterator);
            let mut bytes = STANDARD.decode(&text).unwrap();
            bytes[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(STANDARD.encode(&bytes).parse::<ShardIterator>().is_err());
        }

        #[test]
        fn any_text_is_an_iterator_or_refused(text in ".{0,80}") {
            prop_assert!(text.parse::<ShardIterator>().is_err());
        }
    }
}
