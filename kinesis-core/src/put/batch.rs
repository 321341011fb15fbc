//! A batch: records that are put as one, by whom, and how durably.

use std::collections::BTreeMap;

use durable_core::journal::Durability;

use super::producer::Producer;
use super::record::PutRecord;
use crate::stream::{SequenceNumber, ShardId};

/// Records for one [`put_batch`](crate::DataStream::put_batch): all are stored or none, over however many shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBatch {
    pub(crate) records: Vec<PutRecord>,
    pub(crate) producer: Option<Producer>,
    pub(crate) durability: Durability,
    pub(crate) expected: BTreeMap<ShardId, Option<SequenceNumber>>,
    /// Whether records of shards past their throughput are left out, instead of the batch being refused.
    pub(crate) partial: bool,
}

impl PutBatch {
    /// A batch of at most 500 records that is acknowledged when it is as durable as the journal makes it.
    #[must_use]
    pub fn new(records: Vec<PutRecord>) -> Self {
        Self { records, producer: None, durability: Durability::Journal, expected: BTreeMap::new(), partial: false }
    }

    /// Numbers the records, so that what was put before is recognised and not put again.
    #[must_use]
    pub fn with_producer(mut self, producer: Producer) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Puts the batch only if `newest` is the newest record of `shard`; none means that it never had one. May be said of
    /// several shards, also of some that the batch does not reach.
    #[must_use]
    pub fn with_expected(mut self, shard: ShardId, newest: Option<SequenceNumber>) -> Self {
        self.expected.insert(shard, newest);
        self
    }

    /// Asks to be acknowledged earlier: [`Durability::Memory`] once the order is fixed. A crash before the journal
    /// is written loses the batch; readers see it once it is written.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}
