//! Where a record goes: the MD5 of its partition key, and the ranges of it that shards own.
//!
//! Invariant: the ranges of a stream's open shards cover every hash key exactly once.

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A point in `0..2^128`: the MD5 of a partition key as a big-endian number, or one given explicitly.
/// Its text is decimal, without leading zeros, as AWS writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

impl HashKey {
    /// The largest.
    pub const MAX: Self = Self(u128::MAX);

    /// The hash key of a partition key.
    ///
    /// ```
    /// assert_eq!(kinesis_core::HashKey::of("").to_string(), "281949768489412648962353822266799178366");
    /// ```
    #[must_use]
    pub fn of(partition_key: &str) -> Self {
        Self(u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into()))
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HashKey {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` unless `text` is `0` or digits without a leading zero, at most `2^128 - 1`.
    fn from_str(text: &str) -> Result<Self> {
        let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
        match text.parse() {
            Ok(number) if plain => Ok(Self(number)),
            _ => Err(Error::invalid(format!(
                "explicit hash key '{text}' is not a decimal number from 0 to 2^128 - 1 without leading zeros"
            ))),
        }
    }
}

impl Serialize for HashKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The hash keys that one shard owns, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKeyRange {
    /// The first.
    pub starting: HashKey,
    /// The last.
    pub ending: HashKey,
}

impl HashKeyRange {
    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: HashKey) -> bool {
        self.starting <= key && key <= self.ending
    }

    /// `shards` ranges of `floor(2^128 / shards)` keys each, as AWS makes them; the last takes the rest.
    /// Empty for no shards.
    #[must_use]
    pub fn split_evenly(shards: u32) -> Vec<Self> {
        let Some(last) = shards.checked_sub(1) else { return Vec::new() };
        if last == 0 {
            return vec![Self { starting: HashKey(0), ending: HashKey::MAX }];
        }
        // floor(2^128 / n), which u128::MAX / n misses when n divides 2^128.
        let (n, max) = (u128::from(shards), u128::MAX);
        let width = max / n + u128::from(max % n == n - 1);
        (0..shards)
            .map(|shard| {
                let starting = width * u128::from(shard);
                let ending = if shard == last { max } else { starting + (width - 1) };
                Self { starting: HashKey(starting), ending: HashKey(ending) }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_key_is_a_plain_decimal() {
        for good in ["0", "1", "340282366920938463463374607431768211455"] {
            assert_eq!(good.parse::<HashKey>().unwrap().to_string(), good);
        }
        for bad in ["", "-1", "+1", "00", "01", "1 ", "a", "340282366920938463463374607431768211456"] {
            assert!(bad.parse::<HashKey>().is_err(), "{bad}");
        }
    }
}
