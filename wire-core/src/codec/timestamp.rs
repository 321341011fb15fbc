//! Moments of a request or an answer.
//!
//! Invariant: milliseconds, as AWS keeps them; what is finer is rounded.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name by which the CBOR encoder knows a timestamp.
pub(super) const TIMESTAMP: &str = "$wire_core::Timestamp";

/// A moment: seconds since 1970 with a fraction in JSON; in CBOR tag 1 with integer milliseconds, as AWS's clients for Kinesis
/// write it (standard CBOR means seconds there, so a float in CBOR is read as seconds).
///
/// ```
/// use chrono::DateTime;
/// use wire_core::{Encoding, Timestamp};
///
/// let moment = Timestamp::from(DateTime::from_timestamp_millis(1_767_225_600_123).unwrap());
/// assert_eq!(Encoding::Json11.encode(&moment)?, "1767225600.123");
/// assert_eq!(Encoding::Cbor11.encode(&moment)?, b"\xc1\x1b\x00\x00\x01\x9b\x76\xda\xa8\x7b".as_slice());
/// # Ok::<(), wire_core::WireError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The moment.
    #[must_use]
    pub fn datetime(self) -> DateTime<Utc> {
        self.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(moment: DateTime<Utc>) -> Self {
        Self(moment)
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let milliseconds = self.0.timestamp_millis();
        if serializer.is_human_readable() {
            #[expect(clippy::cast_precision_loss, reason = "chrono's range in milliseconds is within 2^53")]
            serializer.serialize_f64(milliseconds as f64 / 1000.0)
        } else {
            serializer.serialize_newtype_struct(TIMESTAMP, &milliseconds)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let integer = if deserializer.is_human_readable() { Unit::Seconds } else { Unit::Milliseconds };
        deserializer.deserialize_any(TimestampVisitor { integer })
    }
}

/// What an integer counts. A float counts seconds in both encodings.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Milliseconds,
}

struct TimestampVisitor {
    integer: Unit,
}

impl Visitor<'_> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timestamp as a number since 1970")
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Timestamp, E> {
        let moment = match self.integer {
            Unit::Seconds => DateTime::from_timestamp(count, 0),
            Unit::Milliseconds => DateTime::from_timestamp_millis(count),
        };
        moment.map(Timestamp).ok_or_else(|| E::custom(format_args!("the timestamp {count} is out of range")))
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Timestamp, E> {
        self.visit_i64(i64::try_from(count).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Timestamp, E> {
        let milliseconds = (seconds * 1000.0).round();
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and the ends of i64 are out of range")]
        let moment = DateTime::from_timestamp_millis(milliseconds as i64).filter(|_| milliseconds.is_finite());
        moment.map(Timestamp).ok_or_else(|| E::custom(format_args!("the timestamp {seconds} is out of range")))
    }
}
