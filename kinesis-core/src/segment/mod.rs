//! Sealed segments: what the store holds of a stream.

mod cache;
mod format;
mod meta;
mod rows;

pub(crate) use cache::SegmentCache;
pub(crate) use format::{SegmentOwner, SegmentRow, encode};
pub(crate) use meta::SegmentMeta;
