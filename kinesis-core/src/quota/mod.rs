//! Quotas: how much a shard and an account may do, as AWS sets it, or nothing of the kind.
//!
//! Invariant: a quota refuses, it never delays; what is refused has had no effect.

mod bucket;
mod limits;
mod shards;

pub use limits::Limits;
pub(crate) use shards::{ControlCall, Quotas, exceeded};
