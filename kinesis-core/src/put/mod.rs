//! Putting records: what goes in, what comes back, and who counts.

mod batch;
mod producer;
mod record;
mod transaction;

pub use batch::PutBatch;
pub use producer::Producer;
pub use record::{PutOutcome, PutRecord, PutRecordOutput, PutRecordsOutput};
pub use transaction::Transaction;
