//! One statement in: what it is, or why it is refused.

mod describe;
mod pattern;
mod statement;

pub(crate) use describe::{explain_lines, run as run_catalog_statement};
pub(crate) use statement::{CatalogStatement, Statement};
pub use statement::{STATEMENT_BYTES_MAX, STATEMENT_COMPARISONS_MAX, STATEMENT_DEPTH_MAX, STATEMENT_OPERATORS_MAX};

/// The one catalog, under the service's name for it.
pub(crate) const CATALOG: &str = "awsdatacatalog";
