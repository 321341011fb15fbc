//! What is known of one query.
//!
//! Invariant: states only advance: QUEUED, RUNNING, then one of SUCCEEDED, FAILED and CANCELLED, which is final.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{AthenaError, Error, Result};
use crate::scan::ReadStatistics;

/// The name of one execution of a query: a random UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct QueryExecutionId(Uuid);

impl QueryExecutionId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for QueryExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<QueryExecutionId> for String {
    fn from(id: QueryExecutionId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for QueryExecutionId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for QueryExecutionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let uuid = Uuid::try_parse(text);
        uuid.map(Self).map_err(|_| Error::invalid(format!("\"{text}\" is not the id of a query: those are UUIDs")))
    }
}

/// Where a query stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum QueryState {
    /// It waits for its turn.
    Queued,
    /// It is planned or reads, or its result is written.
    Running,
    /// Its result is complete.
    Succeeded,
    /// It ended with an error.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl QueryState {
    /// Whether the state can no longer change.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for QueryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        })
    }
}

/// What a query cost. Times are milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct QueryStatistics {
    /// From submission to the final state.
    pub total_execution_ms: u64,
    /// Waiting for its turn.
    pub queue_ms: u64,
    /// Catalog, pruning, listing, planning.
    pub planning_ms: u64,
    /// Reading, computing, and writing the result as it comes.
    pub engine_execution_ms: u64,
    /// Completing the result object and its description.
    pub service_processing_ms: u64,
    /// Bytes that the plan asked the store for: footers, indexes and the ranges of the columns it needs. A footer that
    /// an earlier query left in memory counts nothing.
    pub data_scanned_bytes: u64,
    /// Bytes that crossed from the store: those, and the gaps between ranges that were read as one. What the store
    /// saw, to the byte; the cutoff counts these.
    pub transferred_bytes: u64,
    /// Bytes of all files of the tables named, as if nothing had been pruned. `None` where the catalog does not know
    /// the size of a partition that was never listed.
    pub total_bytes: Option<u64>,
    /// What was asked of the store, by cause.
    pub reads: ReadStatistics,
    /// Partitions left after pruning; a table without partition keys counts as one.
    pub partitions_read: u64,
    /// Partitions of the tables named.
    pub partitions_total: u64,
    /// Files of the partitions left.
    pub files_read: u64,
    /// Files of the tables named; `None` as for [`total_bytes`](Self::total_bytes).
    pub files_total: Option<u64>,
    /// Rows of the result.
    pub rows: u64,
    /// Rows of text files that were no data, and are missing from what was computed.
    pub rows_rejected: u64,
    /// Values of text files that were none of their column's type, and were read as NULL.
    pub values_nulled: u64,
}

/// One execution of a query, as of now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QueryExecution {
    /// Its name.
    pub id: QueryExecutionId,
    /// The statement.
    pub sql: String,
    /// The database of names that have none.
    pub database: String,
    /// `DML` for queries, `UTILITY` for SHOW, DESCRIBE and EXPLAIN.
    pub statement_type: String,
    /// Where it stands.
    pub state: QueryState,
    /// Why it failed or was cancelled.
    pub state_change_reason: Option<String>,
    /// When it was submitted.
    pub submitted_at: DateTime<Utc>,
    /// When it reached its final state.
    pub completed_at: Option<DateTime<Utc>>,
    /// The result object within the result store, for a query that stores its result. It exists once the state is
    /// `Succeeded`.
    pub output_location: Option<String>,
    /// What went wrong, if it failed.
    pub error: Option<AthenaError>,
    /// What it cost so far; complete once the state is final.
    pub statistics: QueryStatistics,
    /// When its process last wrote this.
    pub(crate) heartbeat_at: DateTime<Utc>,
}
