//! The life of a query: start, queue, run, cancel; what is known of it while it lives and after.

mod admission;
mod execution;
mod history;
mod run;
mod start;
mod stream;

pub(crate) use admission::Admission;
pub use execution::{QueryExecution, QueryExecutionId, QueryState, QueryStatistics};
pub(crate) use history::History;
pub(crate) use run::{Delivery, Job, run};
pub use start::StartQuery;
pub(crate) use stream::held;
pub use stream::{QueryResult, QueryStream};
