//! What a stream is set to: its mode, retention, tags, registered consumers; and the changes of that.
//!
//! Invariant: a configuration changes only by a [`Change`] that the journal holds, so every opening finds it as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::engine::time::moment;
use crate::error::{Error, Result};
use crate::limits::{
    RECORD_BYTES_MAX, RETENTION_DEFAULT, RETENTION_MAX, TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX,
};

/// Who decides how many shards a stream has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamMode {
    /// The caller: by splits, merges and [`update_shard_count`](crate::DataStream::update_shard_count).
    #[default]
    #[serde(rename = "PROVISIONED")]
    Provisioned,
    /// The stream: it doubles what it has carried at most, as AWS's on-demand streams do.
    #[serde(rename = "ON_DEMAND")]
    OnDemand,
}

impl fmt::Display for StreamMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        })
    }
}

impl FromStr for StreamMode {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` unless `text` is `PROVISIONED` or `ON_DEMAND`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "PROVISIONED" => Ok(Self::Provisioned),
            "ON_DEMAND" => Ok(Self::OnDemand),
            _ => Err(Error::invalid(format!("'{text:.80}' is not a stream mode: PROVISIONED or ON_DEMAND"))),
        }
    }
}

/// What [`create_stream`](crate::Kinesis::create_stream) takes; a number is that many provisioned shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    pub(crate) shards: u32,
    pub(crate) config: StreamConfig,
}

impl From<u32> for StreamSpec {
    fn from(shards: u32) -> Self {
        Self::provisioned(shards)
    }
}

impl StreamSpec {
    /// A stream with this many shards (1 to 10,000), which only the caller changes.
    #[must_use]
    pub fn provisioned(shards: u32) -> Self {
        Self { shards, config: StreamConfig::default() }
    }

    /// A stream that begins with 4 shards and grows with what it carries.
    #[must_use]
    pub fn on_demand() -> Self {
        let config = StreamConfig { mode: StreamMode::OnDemand, ..StreamConfig::default() };
        Self { shards: crate::limits::ON_DEMAND_SHARDS_MIN, config }
    }

    /// How long records stay readable, at least: 24 (the default) to 8760 hours.
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.config.retention_seconds = retention.as_secs();
        self
    }

    /// The largest record, data and partition key, at most 10 MiB; without, what the instance's
    /// [`Settings`](crate::Settings) say.
    #[must_use]
    pub fn with_record_bytes_max(mut self, bytes: usize) -> Self {
        self.config.record_bytes_max = Some(bytes);
        self
    }

    /// A tag more. A key that is there already gets the new value.
    #[must_use]
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.tags.insert(key.into(), value.into());
        self
    }
}

/// A consumer that is registered for enhanced fan-out: it has a throughput of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamConsumer {
    /// Its name within the stream.
    pub name: String,
    /// When it was registered, to the second. Part of its ARN: a consumer that is registered again is another one.
    #[serde(with = "chrono::serde::ts_seconds")]
    pub created: DateTime<Utc>,
}

/// The settings of a stream, as frames and checkpoints hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamConfig {
    pub(crate) retention_seconds: u64,
    #[serde(default)]
    pub(crate) mode: StreamMode,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) consumers: BTreeMap<String, StreamConsumer>,
    /// The largest record, if the stream has a bound of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) record_bytes_max: Option<usize>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) shard_level_metrics: BTreeSet<String>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            retention_seconds: RETENTION_DEFAULT.as_secs(),
            mode: StreamMode::default(),
            tags: BTreeMap::new(),
            consumers: BTreeMap::new(),
            record_bytes_max: None,
            shard_level_metrics: BTreeSet::new(),
        }
    }
}

/// A change of a stream's settings, as a frame holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    RetentionSeconds(u64),
    Mode(StreamMode),
    AddTags(BTreeMap<String, String>),
    RemoveTags(BTreeSet<String>),
    RegisterConsumer(StreamConsumer),
    DeregisterConsumer(String),
    RecordBytesMax(usize),
    ShardLevelMetrics(BTreeSet<String>),
}

impl StreamConfig {
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::RetentionSeconds(seconds) => self.retention_seconds = seconds,
            Change::Mode(mode) => self.mode = mode,
            Change::AddTags(tags) => self.tags.extend(tags),
            Change::RemoveTags(keys) => self.tags.retain(|key, _| !keys.contains(key)),
            Change::RegisterConsumer(consumer) => {
                self.consumers.insert(consumer.name.clone(), consumer);
            }
            Change::DeregisterConsumer(name) => {
                self.consumers.remove(&name);
            }
            Change::RecordBytesMax(bytes) => self.record_bytes_max = Some(bytes),
            Change::ShardLevelMetrics(metrics) => self.shard_level_metrics = metrics,
        }
    }

    pub(crate) fn retention(&self) -> Duration {
        Duration::from_secs(self.retention_seconds)
    }

    /// Refuses settings past a bound.
    pub(crate) fn check(&self) -> Result<()> {
        check_retention(self.retention())?;
        if let Some(bytes) = self.record_bytes_max.filter(|bytes| !(1..=RECORD_BYTES_MAX).contains(bytes)) {
            return Err(Error::invalid(format!("records of {bytes} bytes: a stream takes 1 to {RECORD_BYTES_MAX}")));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(Error::limit(format!("{} tags: a stream has at most {TAGS_MAX}", self.tags.len())));
        }
        self.tags.iter().try_for_each(|(key, value)| check_tag(key, value))
    }
}

/// Refuses a retention that is not within 24 to 8760 hours.
pub(crate) fn check_retention(retention: Duration) -> Result<()> {
    if (RETENTION_DEFAULT..=RETENTION_MAX).contains(&retention) {
        return Ok(());
    }
    Err(Error::invalid(format!("a retention of {} s is not within 24 to 8760 hours", retention.as_secs())))
}

fn check_tag(key: &str, value: &str) -> Result<()> {
    let (key_chars, value_chars) = (key.chars().count(), value.chars().count());
    if (1..=TAG_KEY_CHARS_MAX).contains(&key_chars) && value_chars <= TAG_VALUE_CHARS_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "tag '{key:.80}' has a key of {key_chars} and a value of {value_chars} characters: \
         1 to {TAG_KEY_CHARS_MAX} and at most {TAG_VALUE_CHARS_MAX} are taken"
    )))
}

impl StreamConsumer {
    pub(crate) fn new(name: &str, now_ms: i64) -> Self {
        Self { name: name.to_owned(), created: moment(now_ms.div_euclid(1000) * 1000) }
    }
}
