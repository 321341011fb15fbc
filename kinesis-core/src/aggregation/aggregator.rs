//! Aggregates on their way: one for each open shard.
//!
//! Invariant: what is handed out never counts more bytes than a stream takes, and user records of one partition key leave
//! in the order in which they came.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::format::{AggregatedRecord, Entry, FRAME_BYTES, encode, field_bytes};
use crate::engine::state::Shards;
use crate::error::{Error, Result};
use crate::put::PutRecord;
use crate::stream::{DataStream, HashKey, HashKeyRange};

/// Gathers small records to large ones, as the Kinesis Producer Library does: a shard's throughput is counted in records
/// too, and what reads a thousand records of 100 bytes reads one of 100 kB faster.
///
/// It puts nothing itself: put what [`add`](Self::add) and [`flush`](Self::flush) hand out, in that order. Flush by a timer
/// of your own: what it holds is nowhere else. See [`Record::user_records`](crate::Record::user_records) for the other end.
#[derive(Debug)]
pub struct Aggregator {
    stream: DataStream,
    bytes_max: usize,
    records_max: usize,
    /// As they were when open aggregates were last held against them: a reshard makes another map.
    shards: Arc<Shards>,
    /// By the hash keys of the shard that each is for.
    open: BTreeMap<HashKey, Open>,
}

/// One aggregate that still takes records.
#[derive(Debug)]
struct Open {
    range: HashKeyRange,
    /// The first record's routes them all.
    first: Option<(String, Option<HashKey>)>,
    aggregate: AggregatedRecord,
    partition_keys: BTreeMap<String, u64>,
    explicit_hash_keys: BTreeMap<HashKey, u64>,
    /// Bytes of the protobuf.
    encoded: usize,
}

impl Aggregator {
    /// For the shards that are open now; others are looked up when a record belongs to none of these.
    ///
    /// # Errors
    /// `NotFound` if the stream was deleted; `Closed`.
    pub fn new(stream: &DataStream) -> Result<Self> {
        Ok(Self {
            bytes_max: stream.describe()?.record_bytes_max,
            shards: stream.state().shards(),
            stream: stream.clone(),
            records_max: usize::MAX,
            open: BTreeMap::new(),
        })
    }

    /// Bytes of data and partition key that an aggregate counts at most; the first record may be larger. Without it what the
    /// stream takes.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// User records of an aggregate at most, at least one. Without it as many as fit.
    #[must_use]
    pub fn with_records_max(mut self, records: usize) -> Self {
        self.records_max = records.max(1);
        self
    }

    /// Adds a record; answers what is full now and is to be put, which is nothing or one, or several after a reshard.
    ///
    /// # Errors
    /// `InvalidInput` for a partition key of no or more than 256 characters; `NotFound` if the stream was deleted; `Closed`.
    /// The record is not added then.
    pub fn add(&mut self, record: PutRecord) -> Result<Vec<PutRecord>> {
        if !(1..=256).contains(&record.partition_key.chars().count()) {
            return Err(Error::invalid("a partition key has 1 to 256 characters"));
        }
        let hash_key = record.explicit_hash_key.unwrap_or_else(|| HashKey::of(&record.partition_key));
        let mut full = self.keep_to_open_shards()?;
        let Some(range) = self.range_of(hash_key) else {
            // No shard takes it now: the put will say so.
            full.push(record);
            return Ok(full);
        };
        let open = self.open.entry(range.starting).or_insert_with(|| Open::new(range));
        let bytes = open.bytes_with(&record);
        let is_full = open.aggregate.records.len() >= self.records_max || bytes > self.bytes_max;
        if is_full {
            full.extend(open.close());
        }
        open.push(record);
        Ok(full)
    }

    /// All that it still holds, to be put.
    pub fn flush(&mut self) -> Vec<PutRecord> {
        std::mem::take(&mut self.open).into_values().filter_map(|mut open| open.close()).collect()
    }

    /// Closes aggregates for shards that are closed: their records may belong to several shards by now.
    fn keep_to_open_shards(&mut self) -> Result<Vec<PutRecord>> {
        self.stream.check()?;
        let shards = self.stream.state().shards();
        let mut closed = Vec::new();
        if !Arc::ptr_eq(&shards, &self.shards) {
            let is_open = |range| shards.values().any(|shard| shard.is_open() && shard.range == range);
            self.open.retain(|_, open| {
                let keep = is_open(open.range);
                if !keep {
                    closed.extend(open.split());
                }
                keep
            });
            self.shards = shards;
        }
        Ok(closed)
    }

    fn range_of(&self, hash_key: HashKey) -> Option<HashKeyRange> {
        let below = self.open.range(..=hash_key).next_back();
        let known = below.map(|(_, open)| open.range).filter(|range| range.contains(hash_key));
        let look_up = || {
            let mut open = self.shards.values().filter(|shard| shard.is_open());
            open.find(|shard| shard.range.contains(hash_key)).map(|shard| shard.range)
        };
        known.or_else(look_up)
    }
}

impl Open {
    fn new(range: HashKeyRange) -> Self {
        Self {
            range,
            first: None,
            aggregate: AggregatedRecord::default(),
            partition_keys: BTreeMap::new(),
            explicit_hash_keys: BTreeMap::new(),
            encoded: 0,
        }
    }

    /// What the protobuf grows by with this record.
    fn growth(&self, record: &PutRecord) -> usize {
        let new_key = !self.partition_keys.contains_key(&record.partition_key);
        let new_hash = record.explicit_hash_key.filter(|key| !self.explicit_hash_keys.contains_key(key));
        field_bytes(self.entry(record).encoded_len())
            + if new_key { field_bytes(record.partition_key.len()) } else { 0 }
            + new_hash.map_or(0, |key| field_bytes(key.to_string().len()))
    }

    /// What the aggregate counts with this record, as a stream counts it.
    fn bytes_with(&self, record: &PutRecord) -> usize {
        let key = self.first.as_ref().map_or(record.partition_key.len(), |(key, _)| key.len());
        FRAME_BYTES + self.encoded + self.growth(record) + key
    }

    fn entry(&self, record: &PutRecord) -> Entry {
        let next_key = self.partition_keys.len() as u64;
        let next_hash = self.explicit_hash_keys.len() as u64;
        let hash_key = record.explicit_hash_key;
        Entry {
            partition_key_index: self.partition_keys.get(&record.partition_key).copied().unwrap_or(next_key),
            explicit_hash_key_index: hash_key
                .map(|key| self.explicit_hash_keys.get(&key).copied().unwrap_or(next_hash)),
            data: record.data.clone(),
            tags: Vec::new(),
        }
    }

    fn push(&mut self, record: PutRecord) {
        self.encoded += self.growth(&record);
        let entry = self.entry(&record);
        let next_key = self.partition_keys.len() as u64;
        if self.first.is_none() {
            self.first = Some((record.partition_key.clone(), record.explicit_hash_key));
        }
        if entry.partition_key_index == next_key {
            self.aggregate.partition_key_table.push(record.partition_key.clone());
            self.partition_keys.insert(record.partition_key, next_key);
        }
        let next_hash = self.explicit_hash_keys.len() as u64;
        if let Some(key) = record.explicit_hash_key
            && entry.explicit_hash_key_index == Some(next_hash)
        {
            self.aggregate.explicit_hash_key_table.push(key.to_string());
            self.explicit_hash_keys.insert(key, next_hash);
        }
        self.aggregate.records.push(entry);
    }

    /// The record to put, and none of it stays. One user record is not aggregated.
    fn close(&mut self) -> Option<PutRecord> {
        let closed = std::mem::replace(self, Self::new(self.range));
        let (partition_key, explicit_hash_key) = closed.first?;
        Some(match closed.aggregate.records.as_slice() {
            [only] => PutRecord { data: only.data.clone(), partition_key, explicit_hash_key },
            _ => {
                let hash_key = explicit_hash_key.unwrap_or_else(|| HashKey::of(&partition_key));
                PutRecord::new(encode(&closed.aggregate), partition_key).with_explicit_hash_key(hash_key)
            }
        })
    }

    /// Its user records one by one.
    fn split(&mut self) -> Vec<PutRecord> {
        let closed = std::mem::replace(self, Self::new(self.range));
        let hash_keys: BTreeMap<u64, HashKey> =
            closed.explicit_hash_keys.into_iter().map(|(key, index)| (index, key)).collect();
        let keys = closed.aggregate.partition_key_table;
        let single = |entry: Entry| PutRecord {
            data: entry.data,
            partition_key: usize::try_from(entry.partition_key_index)
                .ok()
                .and_then(|index| keys.get(index).cloned())
                .unwrap_or_default(),
            explicit_hash_key: entry.explicit_hash_key_index.and_then(|index| hash_keys.get(&index).copied()),
        };
        closed.aggregate.records.into_iter().map(single).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = PutRecord> {
        let data = proptest::collection::vec(any::<u8>(), 0..300);
        (data, "[a-c]{1,3}", proptest::option::of(0..5_u128)).prop_map(|(data, key, hash_key)| PutRecord {
            data: data.into(),
            partition_key: key,
            explicit_hash_key: hash_key.map(HashKey),
        })
    }

    proptest! {
        /// What is counted while records are added is what is written.
        #[test]
        fn the_size_is_known_before_it_is_written(records in proptest::collection::vec(record(), 2..40)) {
            let range = HashKeyRange { starting: HashKey(0), ending: HashKey::MAX };
            let mut open = Open::new(range);
            let mut counted = 0;
            for record in records {
                counted = open.bytes_with(&record);
                open.push(record);
            }
            prop_assert_eq!(open.close().map(|record| record.payload_bytes()), Some(counted));
        }
    }
}
