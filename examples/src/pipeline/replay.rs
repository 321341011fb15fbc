//! Step 7: the stream read again from its first record, shard by shard, and counted by other means than SQL.
//!
//! Invariant: nothing here looks at what was delivered; it knows only the stream.

use std::collections::BTreeMap;

use kinesis_core::{DataStream, IteratorType};
use serde_json::Value;

use super::progress::Stage;
use super::record::{Decoded, decode};
use crate::failure::{Doing, Result};

/// Records of one read.
const READ_RECORDS: usize = 5_000;

/// What the stream holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Events.
    pub events: u64,
    /// Malformed rows.
    pub malformed: u64,
    /// Records of each shard.
    pub by_shard: BTreeMap<String, u64>,
    /// Events by the value of the column counted by; null stands as `None`.
    pub by_value: BTreeMap<Option<String>, u64>,
}

/// Reads every shard from its first record to its tip and counts, events by the value of `column` if one is given. Dropping the
/// future stops the reading.
///
/// # Errors
/// The stream cannot be read, or holds what this pipeline did not put there.
pub async fn replay(stream: &DataStream, column: Option<&str>, stage: &Stage) -> Result<Replayed> {
    let mut replayed = Replayed::default();
    for shard in stream.list_shards().doing(|| format!("cannot list the shards of {}", stream.name()))? {
        let doing = || format!("cannot read {} of {} again", shard.id, stream.name());
        let mut iterator = Some(stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await.doing(doing)?);
        while let Some(from) = iterator {
            let read = stream.get_records(&from, READ_RECORDS).await.doing(doing)?;
            for record in &read.records {
                replayed.count(&record.data, column)?;
            }
            let count = u64::try_from(read.records.len()).unwrap_or(u64::MAX);
            *replayed.by_shard.entry(shard.id.to_string()).or_default() += count;
            stage.add(count);
            // An open shard always has a next iterator: at its tip there is nothing more to read.
            iterator = read.next_iterator.filter(|_| count > 0);
        }
    }
    Ok(replayed)
}

impl Replayed {
    /// All records.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.events + self.malformed
    }

    fn count(&mut self, data: &[u8], column: Option<&str>) -> Result<()> {
        match decode(data)? {
            Decoded::Malformed(_) => self.malformed += 1,
            Decoded::Event(event) => {
                self.events += 1;
                if let Some(column) = column {
                    let value = event.get(column).and_then(text);
                    *self.by_value.entry(value).or_default() += 1;
                }
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
