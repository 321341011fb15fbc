//! Past the queries that may run and wait, one more is refused at once, as retryable.

use std::sync::Arc;

use athena_core::{ErrorKind, QueryState};
use tokio::sync::Semaphore;

use crate::counting_store::CountingStore;
use crate::lake::{Lake, in_lake};

#[tokio::test]
async fn one_too_many_is_throttled_and_passes_later() {
    let lake = Lake::with_events().await;
    let gate = Arc::new(Semaphore::new(0));
    let store = Arc::new(CountingStore::gated(Arc::clone(&lake.store), "lake/events", Arc::clone(&gate)));
    let builder = lake.builder().data_store(store).with_queries_running_max(1).with_queries_queued_max(1);
    let athena = builder.build().unwrap();
    let running = athena.start(in_lake("select * from events")).await.unwrap();
    let queued = athena.start(in_lake("select 1")).await.unwrap();
    let error = athena.start(in_lake("select 2")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.is_retryable()),
        (ErrorKind::Throttled, "TooManyRequestsException", true)
    );
    assert_eq!(athena.query_execution(queued).await.unwrap().state, QueryState::Queued);
    gate.add_permits(1000);
    for id in [running, queued] {
        assert_eq!(athena.wait(id).await.unwrap().state, QueryState::Succeeded);
    }
    athena.query(in_lake("select 2")).await.unwrap();
}

#[tokio::test]
async fn a_result_past_the_bytes_held_is_refused_and_can_be_streamed() {
    let lake = Lake::with_events().await;
    let athena = lake.builder().with_result_bytes_max(1_000).build().unwrap();
    let error = athena.query(in_lake("select * from events")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    athena.stream(in_lake("select * from events")).await.unwrap();
}

#[tokio::test]
async fn memory_past_the_pool_is_a_typed_error() {
    let lake = Lake::with_events().await;
    let athena = lake.builder().with_memory_bytes(64 * 1024).build().unwrap();
    let sql = "select * from flat a join flat b on a.qty = b.qty order by a.id, b.id";
    let error = athena.query(in_lake(sql)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
}
