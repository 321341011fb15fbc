//! The crate's promises, one module each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod ambiguous_put;
mod catalog_conformance;
mod concurrent_commits;
mod crawl_is_idempotent;
mod crawl_partitions;
mod format_is_stable;
mod handles_are_shareable;
mod lake;
mod opening_does_not_follow_history;
mod survives_kill;
mod traps;
