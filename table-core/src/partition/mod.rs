//! Partitions: what one is, how its values become a path, and how a query selects among very many of them.

mod def;
mod domain;
mod index;
pub mod path;
mod run;
mod scalar;

pub use def::{PartitionDef, PartitionLocation, PartitionValues, Statistics};
pub use domain::{Domain, Domains};
pub use index::{PARTITIONS_MAX, PartitionIndex, Rows};
pub(crate) use scalar::parse_decimal;
pub use scalar::{Real, Scalar};
