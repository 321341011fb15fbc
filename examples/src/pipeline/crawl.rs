//! Step 5: what is delivered becomes a table. The crawler is told by messages, and asked again to show that it knows.
//!
//! Invariant: an announcement is acknowledged after the commit that has its partition, so none is lost to a kill between.

use std::collections::BTreeSet;
use std::sync::Arc;

use glue_core::Glue;
use object_store::ObjectStore;
use object_store::path::Path;

use super::deliver::DELIVERED;
use super::messages::{CRAWL, Messages, ObjectDelivered};
use super::progress::Stage;
use super::reference::REFERENCE;
use crate::failure::{Doing, Failure, Result};

/// The database of all tables.
pub const DATABASE: &str = "default";

/// What the announced crawls came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crawls {
    /// Objects announced, each once.
    pub objects: u64,
    /// Crawls that committed something.
    pub commits: u64,
}

/// Crawls the table whenever messages say that objects of it were delivered, until they end. Dropping the future leaves messages
/// to the next run.
///
/// # Errors
/// The broker, the store or the catalog failed.
pub async fn crawl_announced(
    glue: &Glue,
    store: &Arc<dyn ObjectStore>,
    table: &str,
    messages: &Messages,
    stage: &Stage,
) -> Result<Crawls> {
    let mut crawls = Crawls::default();
    let mut inbox = messages.consume(CRAWL).await?;
    loop {
        let batch = inbox.next_batch().await?;
        let mut paths = BTreeSet::new();
        for message in batch.messages() {
            let object: ObjectDelivered = message.json().doing(|| "cannot read an announcement".to_owned())?;
            paths.insert(object.path);
        }
        if !paths.is_empty() {
            let count = u64::try_from(paths.len()).unwrap_or(u64::MAX);
            crawls.objects += count;
            crawls.commits += u64::from(crawl(glue, store, DELIVERED, table).await?);
            stage.add(count);
        }
        let ended = batch.ended();
        batch.acknowledge().await?;
        if ended {
            return Ok(crawls);
        }
    }
}

/// Crawls the table once more; whether that committed anything, which it should not. Dropping the future changes nothing.
///
/// # Errors
/// The store or the catalog failed.
pub async fn crawl_again(glue: &Glue, store: &Arc<dyn ObjectStore>, table: &str) -> Result<bool> {
    crawl(glue, store, DELIVERED, table).await
}

/// Crawls one reference table. Dropping the future leaves the catalog as it was, or whole.
///
/// # Errors
/// The store or the catalog failed.
pub async fn crawl_reference(glue: &Glue, store: &Arc<dyn ObjectStore>, table: &str) -> Result<bool> {
    crawl(glue, store, REFERENCE, table).await
}

/// One crawl of the folder of a table; whether it committed anything. A file that it cannot read is a failure here: the pipeline
/// wrote all of them.
async fn crawl(glue: &Glue, store: &Arc<dyn ObjectStore>, prefix: &str, table: &str) -> Result<bool> {
    let doing = || format!("cannot crawl {prefix}/{table}");
    let target = Path::from_iter([prefix, table]);
    let crawler = glue.crawler(format!("{prefix}-{table}"), Arc::clone(store), target).with_database(DATABASE);
    let report = crawler.run().await.doing(doing)?;
    match report.plan.problems.first() {
        None => Ok(report.committed.is_some()),
        Some(problem) => Err(Failure::caused(doing(), format!("{}: {}", problem.path, problem.reason))),
    }
}
