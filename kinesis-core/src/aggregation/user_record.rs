//! The records that an application put, out of those that a stream holds.

use bytes::Bytes;

use super::format::{AggregatedRecord, decode};
use crate::read::{PartitionKey, Record};
use crate::stream::{HashKey, HashKeyRange};

/// A record as an application put it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserRecord {
    /// It, with the sequence number and arrival of the record of the stream that holds it.
    pub record: Record,
    /// Its place, from 0, among those of the same sequence number.
    pub sub_sequence_number: u64,
    /// Whether it was in an aggregate.
    pub is_aggregated: bool,
}

impl Record {
    /// The records that are in this one if a Kinesis Producer Library (or an [`Aggregator`](crate::Aggregator)) aggregated
    /// them, in their order; else this one alone. Payloads are slices of this one's.
    ///
    /// ```
    /// use kinesis_core::{Aggregator, IteratorType, Kinesis, PutRecord};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> kinesis_core::Result<()> {
    /// let kinesis = Kinesis::memory().open().await?;
    /// let stream = kinesis.create_stream("clicks", 1).await?;
    /// let mut aggregator = Aggregator::new(&stream)?;
    /// for number in 0..100 {
    ///     for full in aggregator.add(PutRecord::new(format!("{number}"), "user-1"))? {
    ///         stream.put_record(full).await?;
    ///     }
    /// }
    /// for rest in aggregator.flush() {
    ///     stream.put_record(rest).await?;
    /// }
    ///
    /// let iterator = stream.shard_iterator(stream.list_shards()?[0].id, IteratorType::TrimHorizon).await?;
    /// let records = stream.get_records(&iterator, 100).await?.records;
    /// assert_eq!(records.len(), 1);
    /// assert_eq!(records[0].user_records().len(), 100);
    /// # kinesis.close().await
    /// # }
    /// ```
    #[must_use]
    pub fn user_records(&self) -> Vec<UserRecord> {
        let aggregated = decode(&self.data).and_then(|records| self.aggregated(records));
        let plain = || vec![UserRecord { record: self.clone(), sub_sequence_number: 0, is_aggregated: false }];
        aggregated.unwrap_or_else(plain)
    }

    /// As [`user_records`](Self::user_records), by the rule of the Kinesis Client Library: at the first user record whose
    /// hash key lies outside `range`, that of the shard it was read from, all of the aggregate are left out. Such ones were
    /// aggregated before a reshard, and a Kinesis Producer Library puts them again. An [`Aggregator`](crate::Aggregator)
    /// does not, so do not use this for what it wrote.
    #[must_use]
    pub fn user_records_in(&self, range: HashKeyRange) -> Vec<UserRecord> {
        let records = self.user_records();
        let is_outside = |user: &UserRecord| user.is_aggregated && !range.contains(user.record.hash_key);
        if records.iter().any(is_outside) { Vec::new() } else { records }
    }

    /// None if a record of it names a key that is not there, or one that is none.
    fn aggregated(&self, aggregate: AggregatedRecord) -> Option<Vec<UserRecord>> {
        let keys = aggregate.partition_key_table.into_iter().map(|key| {
            let hash_key = HashKey::of(&key);
            (PartitionKey::new(Bytes::from(key)), hash_key)
        });
        let keys: Vec<_> = keys.collect();
        let hash_keys: Option<Vec<HashKey>> =
            aggregate.explicit_hash_key_table.iter().map(|text| text.parse().ok()).collect();
        let hash_keys = hash_keys?;
        let place = |index: u64| usize::try_from(index).unwrap_or(usize::MAX);
        let users = aggregate.records.into_iter().zip(0..).map(|(entry, sub_sequence_number)| {
            let (partition_key, hash_key) = keys.get(place(entry.partition_key_index))?.clone();
            let hash_key = match entry.explicit_hash_key_index {
                Some(index) => *hash_keys.get(place(index))?,
                None => hash_key,
            };
            let record = Record {
                sequence_number: self.sequence_number,
                arrival: self.arrival,
                partition_key,
                hash_key,
                data: entry.data,
            };
            Some(UserRecord { record, sub_sequence_number, is_aggregated: true })
        });
        users.collect()
    }
}
