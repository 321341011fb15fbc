//! From a statement to a plan that reads only what it must, and counts it.

mod host_guard;
mod joins_yield;
mod meter;
mod plan;
mod session;

pub use meter::ReadStatistics;
pub(crate) use meter::{Meter, MeteredStore};
pub(crate) use plan::{Planned, plan};
pub(crate) use session::{Engine, EngineSettings};
