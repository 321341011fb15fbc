//! Rows of text become record batches of a given schema; what does not fit is counted or rejected, never dropped silently.
//!
//! Invariant: rows in = rows in batches + rejects. A value that is no value of its column's type becomes NULL and is
//! counted under its column, or rejects its row: the caller chooses by [`Misfit`].

mod cell;
mod column;
mod decoder;
mod json_cell;

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;

pub(crate) use cell::Cell;
pub use decoder::RowDecoder;

use crate::Reject;

/// The longest row, in bytes.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Rows of one batch unless told otherwise.
pub const BATCH_ROWS: usize = 8192;

/// Bytes of input after which a batch ends, however few rows it has.
pub const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// What becomes of a value that is none of its column's type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misfit {
    /// It becomes NULL and is counted.
    #[default]
    Null,
    /// Its row is rejected.
    RejectRow,
}

/// Where a row comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// File, object or stream.
    pub source: &'a str,
    /// Line, from 1.
    pub line: Option<u64>,
    /// Bytes before it.
    pub offset: Option<u64>,
}

/// A batch, and what did not make it into the batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decoded {
    /// The rows that are data.
    pub batch: RecordBatch,
    /// The rows that are not.
    pub rejects: Vec<Reject>,
    /// Values that became NULL because they are none of their column's type, by column.
    pub nulled: BTreeMap<String, u64>,
}
