//! The number that a record gets when it is put: rises within a shard for ever.
//!
//! Invariant: numbers compare as their decimal texts do as integers; a shard created later has greater ones; within a
//! shard the index alone decides, whatever the clock did.
//!
//! AWS's layout, 186 bits, most significant first:
//!
//! | bits | field |
//! |---|---|
//! | 2 | version, always 2 |
//! | 36 | second in which the shard was created |
//! | 4 | low four bits of the shard's index |
//! | 64 | index of the record (top bit 0) |
//! | 8 | zero here |
//! | 36 | second in which the record arrived |
//! | 32 | the shard's index |
//! | 4 | version, always 2 |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::shard::ShardId;
use crate::error::{Error, Result};

const SECONDS_MASK: u64 = (1 << 36) - 1;
const VERSION: u64 = 2;
/// `2 * 2^184` and what is above it up to `3 * 2^184` have this many decimal digits.
const TEXT_DIGITS: usize = 56;

/// A record's place in its shard. Its text is AWS's: a decimal number of 56 digits.
///
/// `Ord` is the order of the numbers: by the shard's creation, then by index within the shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber {
    /// The 192-bit number, most significant word first.
    words: [u64; 3],
}

impl SequenceNumber {
    /// Bytes of [`to_bytes`](Self::to_bytes).
    pub const BYTES: usize = 24;

    /// The index that a closed shard's ending number has; no record gets it.
    pub(crate) const INDEX_MAX: u64 = u64::MAX >> 1;

    /// The number of the record `index` that arrived in `shard`, created in second `shard_created_secs`, in second
    /// `arrived_secs` (both since 1970, 36 bits are kept).
    pub(crate) fn new(shard_created_secs: u64, shard: ShardId, index: u64, arrived_secs: u64) -> Self {
        let shard = u64::from(shard.index());
        let mut words = [0; 3];
        let fields = [
            (VERSION, 2),
            (shard_created_secs & SECONDS_MASK, 36),
            (shard & 0xF, 4),
            (index, 64),
            (0, 8),
            (arrived_secs & SECONDS_MASK, 36),
            (shard, 32),
            (VERSION, 4),
        ];
        for (value, width) in fields {
            push(&mut words, value, width);
        }
        Self { words }
    }

    /// The shard that gave the number.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        ShardId::new(u32::try_from(self.bits(4, 32)).unwrap_or(u32::MAX))
    }

    /// The record's index: rises within the shard, with gaps.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.bits(80, 64)
    }

    /// The second since 1970 in which the shard was created.
    #[must_use]
    pub fn shard_created_secs(&self) -> u64 {
        self.bits(148, 36)
    }

    /// The second since 1970 in which the record arrived.
    #[must_use]
    pub fn arrived_secs(&self) -> u64 {
        self.bits(36, 36)
    }

    /// The number as 24 bytes, big-endian: they compare as the numbers do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The number of 24 bytes.
    ///
    /// # Errors
    /// `InvalidInput` unless they are [`to_bytes`](Self::to_bytes) of a number.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Result<Self> {
        let mut words = [0; 3];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Self::checked(words).ok_or_else(|| Error::invalid("these bytes are not a sequence number"))
    }

    /// A number of these words, if the fixed fields are as this layout has them.
    fn checked(words: [u64; 3]) -> Option<Self> {
        let number = Self { words };
        let low_nibble = u64::from(number.shard().index()) & 0xF;
        let fixed = number.bits(184, 8) == VERSION && number.bits(0, 4) == VERSION;
        (fixed && number.bits(144, 4) == low_nibble && number.bits(72, 8) == 0 && number.index() >> 63 == 0)
            .then_some(number)
    }

    /// `width` bits from bit `from` (0 is the least significant) on.
    fn bits(&self, from: u32, width: u32) -> u64 {
        let (word, shift) = (from / 64, from % 64);
        let at = |word: u32| self.words.iter().rev().nth(word as usize).copied().unwrap_or(0);
        let pair = u128::from(at(word + 1)) << 64 | u128::from(at(word));
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        low_half(pair >> shift) & mask
    }
}

/// Shifts the number left by `width` bits and puts `value` there.
fn push(words: &mut [u64; 3], value: u64, width: u32) {
    let mut carry = value;
    for word in words.iter_mut().rev() {
        let wide = u128::from(*word) << width | u128::from(carry);
        (*word, carry) = (low_half(wide), low_half(wide >> 64));
    }
}

fn low_half(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nineteen digits at a time: the largest power of ten in a word.
        const CHUNK: u128 = 10_000_000_000_000_000_000;
        let mut words = self.words;
        let mut chunks = [0; 4];
        for chunk in chunks.iter_mut().rev() {
            let mut remainder = 0;
            for word in &mut words {
                let wide = remainder << 64 | u128::from(*word);
                (*word, remainder) = (low_half(wide / CHUNK), wide % CHUNK);
            }
            *chunk = low_half(remainder);
        }
        let text = chunks.map(|chunk| format!("{chunk:019}")).concat();
        f.write_str(text.trim_start_matches('0'))
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SequenceNumber {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` unless `text` is the decimal text of a sequence number.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("'{text:.80}' is not a sequence number"));
        if text.len() != TEXT_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let mut words = [0u64; 3];
        for digit in text.bytes() {
            let mut carry = u128::from(digit - b'0');
            for word in words.iter_mut().rev() {
                let wide = u128::from(*word) * 10 + carry;
                (*word, carry) = (low_half(wide), wide >> 64);
            }
        }
        Self::checked(words).ok_or_else(invalid)
    }
}

impl Serialize for SequenceNumber {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SequenceNumber {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_aws_gave_read_as_aws_wrote_them() {
        // From AWS's documentation: the second a shard was created in, its index, the record's index and second.
        for (text, created_secs, shard, index, arrived_secs) in [
            ("49543463076548007577105092703039560359975228518395019266", 1_411_403_981, 0, 5501, 1_411_431_220),
            (
                "49590338271490256608559692538361571095921575989136588898",
                1_542_776_258,
                6,
                1_734_642_199,
                1_545_084_650,
            ),
        ] {
            let number: SequenceNumber = text.parse().unwrap();
            assert_eq!(number, SequenceNumber::new(created_secs, ShardId::new(shard), index, arrived_secs));
            assert_eq!(number.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(created in 0u64..1 << 36, shard: u32, index in 0..u64::MAX / 2, secs in 0u64..1 << 36) {
            let number = SequenceNumber::new(created, ShardId::new(shard), index, secs);
            prop_assert_eq!(number.to_string().parse::<SequenceNumber>().unwrap(), number);
            prop_assert_eq!(SequenceNumber::from_bytes(number.to_bytes()).unwrap(), number);
            prop_assert_eq!(number.to_string().len(), TEXT_DIGITS);
            prop_assert_eq!(
                (number.shard_created_secs(), number.shard().index(), number.index(), number.arrived_secs()),
                (created, shard, index, secs)
            );
        }

        #[test]
        fn any_text_is_a_number_or_refused(text in "[0-9]{0,60}|.{0,60}") {
            if let Ok(number) = text.parse::<SequenceNumber>() {
                prop_assert_eq!(number.to_string(), text);
            }
        }

        #[test]
        fn the_index_decides_within_a_shard(shard: u32, index in 0..u64::MAX / 4, later in 1..1000u64, secs: [u32; 3]) {
            let [created, first, second] = secs.map(u64::from);
            let early = SequenceNumber::new(created, ShardId::new(shard), index, first);
            let late = SequenceNumber::new(created, ShardId::new(shard), index + later, second);
            prop_assert!(early < late);
            prop_assert!(early.to_string() < late.to_string());
        }
    }
}
