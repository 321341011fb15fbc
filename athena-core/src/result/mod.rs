//! Results as objects: the CSV or text that the service writes, what describes it, and pages of it.
//!
//! Invariant: a result object is visible only when it is complete, and its description only after it.

mod csv;
mod object;
mod page;
mod text;

pub use csv::Row;
pub(crate) use csv::text_rows;
pub(crate) use object::{ResultForm, ResultWriter};
pub(crate) use page::read_page;
pub use page::{PageRequest, ROWS_PER_PAGE_MAX, ResultPage};
pub use text::ColumnInfo;
