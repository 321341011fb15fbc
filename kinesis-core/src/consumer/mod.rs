//! Those who read: what a consumer keeps in the stream itself, a function that is called with
//! batches, and workers that share the shards among them.

pub mod mapping;
mod state;
pub mod worker;

pub use state::ConsumerState;
