//! Sealed segments: what the store holds of a stream.

mod cache;
mod format;
mod list;
mod meta;
mod rows;

pub(crate) use cache::{SegmentCache, Wanted};
pub use format::Compression;
pub(crate) use format::{EncodedSegment, SegmentOwner, SegmentRow, encode};
#[cfg(feature = "datafusion")]
pub(crate) use format::{columns, record_batch};
pub(crate) use list::{Group, SegmentList};
pub(crate) use meta::SegmentMeta;
