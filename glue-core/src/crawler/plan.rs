//! What a crawl found and means to do, in data and in words.

use serde::Serialize;
use table_core::{Column, Format};

/// A file or folder that costs itself, not the crawl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// Within the crawled store.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

impl Problem {
    pub(super) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// It is created.
    New,
    /// Its definition or its partitions change.
    Changed,
    /// It stays as it is.
    Unchanged,
}

/// A table that the files make up.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PlannedTable {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Its prefix within the crawled store; a single object's path if only that object is the table.
    pub location: String,
    /// What the files are.
    pub format: Format,
    /// Columns in the files.
    pub columns: Vec<Column>,
    /// Columns in the paths.
    pub partition_keys: Vec<Column>,
    /// Files.
    pub files: usize,
    /// Bytes as stored.
    pub bytes: u64,
    /// Rows, where every file's count is known.
    pub rows: Option<u64>,
    /// Partitions found.
    pub partitions: usize,
    /// Partitions that the catalog does not have yet.
    pub partitions_new: usize,
    /// Partitions whose statistics or place changed.
    pub partitions_changed: usize,
    /// Partitions of the catalog whose files are gone.
    pub partitions_gone: usize,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why it is what it is: why folders were joined or split, and what forced each type.
    pub reasons: Vec<String>,
}

/// What a crawl would do.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CrawlPlan {
    /// Tables, by name.
    pub tables: Vec<PlannedTable>,
    /// What could not be read or understood.
    pub problems: Vec<Problem>,
    /// Files looked at.
    pub files: usize,
    /// Files read, because they are new or changed.
    pub files_read: usize,
    /// Objects that are no data: markers, hidden, empty or excluded.
    pub ignored: usize,
}

impl CrawlPlan {
    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.tables.iter().all(|table| table.outcome == Outcome::Unchanged)
    }
}

/// What a crawl did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CrawlReport {
    /// What was found.
    pub plan: CrawlPlan,
    /// The commit that holds it; `None` if there was nothing to commit.
    pub committed: Option<u64>,
}

/// How a crawl is getting on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrawlEvent {
    /// The target was listed.
    Listed {
        /// Files that may be data.
        files: usize,
        /// Those that are new or changed, and are read.
        to_read: usize,
    },
    /// A file was read, or could not be.
    FileRead {
        /// Its path.
        path: String,
        /// Files read so far.
        done: usize,
        /// Files to read.
        total: usize,
    },
    /// The files were grouped.
    Grouped {
        /// Into so many tables.
        tables: usize,
    },
    /// The catalog was changed.
    Committed {
        /// The commit's number.
        number: u64,
    },
}
