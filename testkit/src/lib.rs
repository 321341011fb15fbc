//! What the tests of every crate share: a simulated disk, a fault-injecting store, a crash driver, conformance suites.
//!
//! Everything random is seeded and every fault is counted. A harness that cannot fail proves nothing, so each fault
//! here has a sabotaged twin with which the promise under test must break.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a harness reports by panicking")]

pub mod clock;
pub mod conformance;
pub mod crash;
pub mod disk;
pub mod fault_store;
pub mod seeds;
pub mod strace;
