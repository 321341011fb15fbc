//! Tumbling windows: stretches of arrival time, one behind the other, with a state that goes from call to call.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A window that was begun and is not over, as it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    /// Where it begins, milliseconds since 1970.
    pub(super) start_ms: i64,
    pub(super) state: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    start_ms: i64,
    state: String,
}

impl Saved {
    /// Where the window begins that a moment belongs to.
    pub(super) fn start_of(at: DateTime<Utc>, size: Duration) -> i64 {
        let size = i64::try_from(size.as_millis()).unwrap_or(i64::MAX).max(1);
        at.timestamp_millis().div_euclid(size) * size
    }

    pub(super) fn end_ms(&self, size: Duration) -> i64 {
        self.start_ms.saturating_add(i64::try_from(size.as_millis()).unwrap_or(i64::MAX))
    }

    /// As bytes to commit; none is no window.
    pub(super) fn encode(window: Option<&Self>) -> Bytes {
        let stored = window.map(|saved| Stored { start_ms: saved.start_ms, state: STANDARD.encode(&saved.state) });
        stored.and_then(|stored| serde_json::to_vec(&stored).ok()).unwrap_or_default().into()
    }

    /// What [`encode`](Self::encode) made.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        Some(Self { start_ms: stored.start_ms, state: STANDARD.decode(stored.state).ok()?.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_behind_one_another_and_keep_their_state() {
        let at = |ms: i64| DateTime::from_timestamp_millis(ms).unwrap_or_default();
        let size = Duration::from_secs(60);
        assert_eq!([0, 59_999, 60_000, -1].map(|ms| Saved::start_of(at(ms), size)), [0, 0, 60_000, -60_000]);
        let saved = Saved { start_ms: 60_000, state: Bytes::from_static(b"\x00\xff") };
        assert_eq!(saved.end_ms(size), 120_000);
        assert_eq!(Saved::decode(&Saved::encode(Some(&saved))), Some(saved));
        assert_eq!(Saved::decode(&Saved::encode(None)), None);
    }
}
