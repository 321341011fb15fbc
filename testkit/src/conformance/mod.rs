//! Suites that run unchanged on every implementation of a trait.

pub mod journal;
pub mod store;
