//! A table as DataFusion queries it: prune partitions, list the survivors, read what is left.
//!
//! Invariant: pruning happens before listing, listing before opening, opening before reading; each step's cost follows
//! what the query selects, not what the table holds. Filters on partition keys alone are exact: no row of a partition
//! that fails one is ever produced, and none has to be filtered again.

mod by_name;
mod filter;
mod nested_names;
mod parquet_reader;
mod purpose;
mod survey;
mod table;
mod text;

pub use purpose::{ReadCause, ReadPurpose};
pub use survey::Survey;
pub use table::{BYTES_PER_THREAD, HiveTable};
pub use text::{ROWS_REJECTED, VALUES_NULLED};
