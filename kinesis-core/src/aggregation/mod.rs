//! Many user records in one record, in the form of the Kinesis Producer Library.
//!
//! Invariant: what is no whole aggregate (its magic, its MD5, its protobuf, every index in it) is a plain record, as with
//! the Kinesis Client Library.

mod aggregator;
mod format;
mod user_record;

pub use aggregator::Aggregator;
pub use user_record::UserRecord;
