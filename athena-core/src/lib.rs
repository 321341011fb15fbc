//! SQL over files in place, in your process.
//!
//! # What it does
//!
//! - Runs one read-only statement over catalogued tables (Parquet, CSV, JSON lines) on any object store: only the
//!   partitions that the filter leaves are listed, only the row groups, pages and columns that the plan needs are read.
//! - Keeps each query's life as the service has it: start, queue, run, cancel, statistics, result objects in the
//!   service's own CSV, pages of them in its exact text forms; and the same rows as a stream of Arrow record batches.
//! - Counts every byte it reads by what it was for, and stops *before* the read that would pass a query's cutoff.
//!
//! # What it does not
//!
//! - It does not write tables yet: no CREATE, INSERT or UNLOAD; each is refused by name.
//! - It speaks DataFusion's dialect with Trino's NULL ordering and decimal literals; where the two dialects' functions
//!   differ, the answer is DataFusion's, without a warning.
//! - It never reads a file that the catalog does not know: no statement can name one.
//!
//! # Example
//!
//! ```
//! use athena_core::{Athena, PageRequest};
//!
//! # fn main() -> athena_core::Result<()> {
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let athena = Athena::memory().build()?;
//! let id = athena.start("select 7 * 6 as answer").await?;
//! let done = athena.wait(id).await?;
//! assert_eq!(done.state.to_string(), "SUCCEEDED");
//! let page = athena.results(id, PageRequest::first()).await?;
//! assert_eq!(page.rows[0][0].as_deref(), Some("42"));
//! # Ok(()) }) }
//! ```
//!
//! `cargo run -p athena-core --example query_files` shows it over files.
//!
//! # Concepts
//!
//! - A [`StartQuery`] becomes a [`QueryExecution`] named by a [`QueryExecutionId`]; its state is queued, running, then
//!   final.
//! - [`Athena::start`] stores the result; [`Athena::stream`] hands it over as it is computed; [`Athena::query`] does
//!   both and waits.
//! - The catalog is any [`table_core::Metastore`]: glue-core's, or one in memory. A query sees each table at one
//!   version of it.
//! - Queries run on threads of the instance's own; [`AthenaBuilder`] bounds threads, memory, and how many run and wait.
//!
//! # Durability and consistency
//!
//! A result object is visible only when it is whole. A query's record is written before `start` returns and again,
//! after the result, when it ends; what a crash left unfinished is reported as failed a minute later, by whoever asks.
//! A table's files are listed once per query; a file that is replaced while a query reads it can fail the query, and is
//! never mixed with its successor's pages unnoticed: ranges past its end are an error.
//!
//! # Limits
//!
//! | what | bound |
//! |---|---|
//! | statement | [`STATEMENT_BYTES_MAX`] bytes, [`STATEMENT_DEPTH_MAX`] levels, [`STATEMENT_OPERATORS_MAX`] operators, [`STATEMENT_COMPARISONS_MAX`] comparisons |
//! | queries running, waiting | 8 and 100, settings |
//! | memory of all queries | 1 GiB, a setting; spilling is off unless allowed |
//! | rows of a page | [`ROWS_PER_PAGE_MAX`] |
//! | result held by [`Athena::query`] | 256 MiB, a setting |
//!
//! # Features
//!
//! None yet.

mod athena;
mod builder;
mod error;
mod query;
mod result;
mod scan;
mod sql;

pub use arrow;
pub use bytes;
pub use object_store;

pub use athena::{Athena, EXECUTIONS_LISTED_MAX};
pub use builder::AthenaBuilder;
pub use error::{AthenaError, Error, ErrorCategory, ErrorKind, Result};
pub use query::{QueryExecution, QueryExecutionId, QueryResult, QueryState, QueryStatistics, QueryStream, StartQuery};
pub use result::{ColumnInfo, PageRequest, ROWS_PER_PAGE_MAX, ResultPage, Row};
pub use scan::ReadStatistics;
pub use sql::{STATEMENT_BYTES_MAX, STATEMENT_COMPARISONS_MAX, STATEMENT_DEPTH_MAX, STATEMENT_OPERATORS_MAX};
