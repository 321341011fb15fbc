//! The columns that every record has.
//!
//! Invariant: keys and payloads are the scanned batch's own buffers.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};

use crate::tail::ShardStamp;

/// One of them. Their order is the table's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordColumn {
    ShardId,
    SequenceNumber,
    Arrival,
    PartitionKey,
    HashKey,
    Data,
}

impl RecordColumn {
    pub(super) const ALL: [Self; 6] =
        [Self::ShardId, Self::SequenceNumber, Self::Arrival, Self::PartitionKey, Self::HashKey, Self::Data];

    /// Its name, before any prefix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ShardId => "shard_id",
            Self::SequenceNumber => "sequence_number",
            Self::Arrival => "approximate_arrival_timestamp",
            Self::PartitionKey => "partition_key",
            Self::HashKey => "hash_key",
            Self::Data => "data",
        }
    }

    pub(super) fn field(self, prefix: &str) -> Field {
        let data_type = match self {
            Self::ShardId | Self::SequenceNumber | Self::PartitionKey => DataType::Utf8,
            Self::Arrival => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Self::HashKey => DataType::FixedSizeBinary(16),
            Self::Data => DataType::Binary,
        };
        Field::new(format!("{prefix}{}", self.name()), data_type, false)
    }

    /// Its values for records of one shard, scanned as a batch of a segment's columns.
    pub(super) fn array(self, stamp: ShardStamp, batch: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::ShardId => {
                let id = stamp.id.to_string();
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n(id, batch.num_rows())))
            }
            Self::SequenceNumber => {
                let indices = column(batch, "sequence_index")?.as_primitive::<UInt64Type>();
                let arrivals = column(batch, "arrival")?.as_primitive::<TimestampMillisecondType>();
                let numbers = indices.values().iter().zip(arrivals.values());
                Arc::new(StringArray::from_iter_values(
                    numbers.map(|(index, arrival_ms)| stamp.number(*index, *arrival_ms).to_string()),
                ))
            }
            Self::Arrival => Arc::clone(column(batch, "arrival")?),
            Self::PartitionKey => Arc::clone(column(batch, "partition_key")?),
            Self::HashKey => Arc::clone(column(batch, "hash_key")?),
            Self::Data => Arc::clone(column(batch, "data")?),
        })
    }
}

/// A column of a scanned batch.
pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("a scanned batch has no column {name}")))
}
