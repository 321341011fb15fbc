//! What was asked, what it cost and what it answered are there for the next process; what a crash left unfinished is
//! reported as failed.

use std::sync::Arc;
use std::time::Duration;

use athena_core::{Athena, ErrorKind, PageRequest, QueryState};
use durable_core::ManualClock;
use table_core::MemoryMetastore;
use tokio::sync::Semaphore;

use crate::counting_store::CountingStore;
use crate::lake::{Lake, in_lake};

#[tokio::test]
async fn a_new_process_finds_records_and_results_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Athena::at(dir.path()).metastore(Arc::new(MemoryMetastore::new())).build().unwrap();
    let first = open();
    let good = first.query("select 41 + 1 as answer").await.unwrap().execution;
    let bad = first.start("select nothing").await.unwrap();
    let bad = first.wait(bad).await.unwrap();
    drop(first);
    let second = open();
    assert_eq!(second.query_execution(good.id).await.unwrap(), good);
    assert_eq!(second.query_execution(bad.id).await.unwrap(), bad);
    assert_eq!((bad.state, bad.statistics.rows), (QueryState::Failed, 0));
    let page = second.results(good.id, PageRequest::first()).await.unwrap();
    assert_eq!(page.rows, [vec![Some("42".to_owned())]]);
    let all: Vec<_> = second.query_executions(10).await.unwrap().into_iter().map(|execution| execution.id).collect();
    assert_eq!(all.len(), 2);
    assert!(all.contains(&good.id) && all.contains(&bad.id));
    let unknown = "00000000-0000-4000-8000-000000000000".parse().unwrap();
    assert_eq!(second.query_execution(unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
    "../../etc/passwd".parse::<athena_core::QueryExecutionId>().unwrap_err();
}

#[tokio::test]
async fn a_query_that_a_crash_left_running_has_failed() {
    let lake = Lake::with_events().await;
    let clock = Arc::new(ManualClock::default());
    let gate = Arc::new(Semaphore::new(0));
    let store = Arc::new(CountingStore::gated(Arc::clone(&lake.store), "lake/events", gate));
    let first = lake.builder().data_store(store).clock(Arc::clone(&clock) as _).build().unwrap();
    let id = first.start(in_lake("select * from events")).await.unwrap();
    // Dropping the instance is what a crash does: the record is left as it was.
    drop(first);
    let second = lake.builder().clock(Arc::clone(&clock) as _).build().unwrap();
    assert_eq!(second.query_execution(id).await.unwrap().state, QueryState::Running);
    clock.advance(Duration::from_secs(61));
    let execution = second.query_execution(id).await.unwrap();
    assert_eq!(execution.state, QueryState::Failed);
    assert!(execution.error.unwrap().retryable);
    assert_eq!(second.wait(id).await.unwrap().state, QueryState::Failed);
    let third = lake.athena();
    assert_eq!(third.query_execution(id).await.unwrap().state, QueryState::Failed, "it stays so");
}
