//! What the harness itself promises, one module per promise: faults happen, are counted, and are caught.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod crash_driver;
mod fault_store;
mod simulated_disk;
