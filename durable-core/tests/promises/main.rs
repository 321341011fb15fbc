//! What this crate promises, one module per promise. Every harness with injected faults has a sabotaged twin that must fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation
)]

mod ambiguous_put;
mod corruption;
mod disk_full;
mod durable_local_order;
mod failed_io_poisons;
mod fence;
mod format_is_stable;
mod journal_conformance;
mod lease;
mod simulated;
mod survives_kill;
mod survives_power_loss;
mod torn_write;
mod versioned_commit;
