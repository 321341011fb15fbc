//! The crate's promises, one module each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod handles_are_shareable;
mod hive_types_round_trip;
mod metastore_conformance;
mod one_partition_of_many;
