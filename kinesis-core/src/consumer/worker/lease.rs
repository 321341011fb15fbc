//! A lease: who reads a shard, and how far that has come.
//!
//! Invariant: the epoch rises with every change of hands; a checkpoint only rises.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::read::IteratorType;
use crate::stream::{SequenceNumber, ShardId};

/// Stands for all of a record, however many user records it holds.
const WHOLE: u64 = u64::MAX;

/// How far a shard was processed. `Ord` is the order in which a shard is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Checkpoint {
    /// Nothing yet; begin with the oldest record.
    TrimHorizon,
    /// Nothing yet; begin with the first record that arrived then or later.
    AtTimestamp(DateTime<Utc>),
    /// All up to this record and, in it, up to this user record.
    #[serde(rename_all = "camelCase")]
    After {
        /// The record.
        sequence_number: SequenceNumber,
        /// The place of the user record in it; `u64::MAX` is all of it.
        sub_sequence_number: u64,
    },
    /// All of a closed shard.
    ShardEnd,
}

impl Checkpoint {
    /// All of a record.
    pub(in crate::consumer) fn after(sequence_number: SequenceNumber) -> Self {
        Self::After { sequence_number, sub_sequence_number: WHOLE }
    }

    /// Where reading goes on; None at the shard's end.
    pub(in crate::consumer) fn iterator(self) -> Option<IteratorType> {
        match self {
            Self::TrimHorizon => Some(IteratorType::TrimHorizon),
            Self::AtTimestamp(at) => Some(IteratorType::AtTimestamp(at)),
            Self::After { sequence_number, sub_sequence_number: WHOLE } => {
                Some(IteratorType::AfterSequenceNumber(sequence_number))
            }
            // The rest of the record.
            Self::After { sequence_number, .. } => Some(IteratorType::AtSequenceNumber(sequence_number)),
            Self::ShardEnd => None,
        }
    }
}

/// One lease, under the names that the Kinesis Client Library has for its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Lease {
    /// The shard.
    #[serde(rename = "leaseKey")]
    pub shard: ShardId,
    /// The worker that holds it.
    #[serde(rename = "leaseOwner")]
    pub owner: Option<String>,
    /// Rises with every change of hands.
    #[serde(rename = "leaseCounter")]
    pub epoch: u64,
    /// How far it has come.
    pub checkpoint: Checkpoint,
    /// Changes of hands since then.
    pub owner_switches_since_checkpoint: u64,
    /// The worker that its owner is to hand it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// The shards that this one was split or merged from.
    #[serde(rename = "parentShardId")]
    pub parents: Vec<ShardId>,
}

impl Lease {
    /// A lease that nobody held.
    pub(in crate::consumer) fn new(shard: ShardId, parents: Vec<ShardId>, checkpoint: Checkpoint) -> Self {
        Self {
            shard,
            owner: None,
            epoch: 0,
            checkpoint,
            owner_switches_since_checkpoint: 0,
            requested_by: None,
            parents,
        }
    }

    /// The lease in other hands, or in none.
    pub(in crate::consumer) fn handed_to(mut self, owner: Option<String>) -> Self {
        self.owner = owner;
        self.epoch += 1;
        self.owner_switches_since_checkpoint += 1;
        self.requested_by = None;
        self
    }

    /// Whether all of its shard was processed.
    pub(in crate::consumer) fn is_done(&self) -> bool {
        self.checkpoint == Checkpoint::ShardEnd
    }
}
