//! A query past its bytes-scanned cutoff fails before the read that would pass it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use athena_core::{ErrorKind, QueryState};

use crate::counting_store::CountingStore;
use crate::lake::{Lake, in_lake, texts};

#[tokio::test]
async fn no_byte_past_the_cutoff_is_read() {
    let lake = Lake::with_events().await;
    let whole = texts(&lake.athena(), "select * from events").await.1.statistics.transferred_bytes;
    for cutoff in [0, 1, 5_000, whole / 2, whole - 1, whole] {
        let counting = Arc::new(CountingStore::new(Arc::clone(&lake.store)));
        let athena = lake.builder().data_store(Arc::clone(&counting) as _).build().unwrap();
        let id = athena.start(in_lake("select * from events").with_bytes_scanned_cutoff(cutoff)).await.unwrap();
        let execution = athena.wait(id).await.unwrap();
        assert!(counting.bytes.load(Ordering::SeqCst) <= cutoff);
        if cutoff == whole {
            assert_eq!(execution.state, QueryState::Succeeded);
            continue;
        }
        assert_eq!(execution.state, QueryState::Failed);
        let error = execution.error.unwrap();
        assert!(error.message.contains("bytes-scanned cutoff") && !error.retryable, "{error:?}");
        assert_eq!(execution.statistics.transferred_bytes, counting.bytes.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn the_instances_cutoff_holds_for_every_query() {
    let lake = Lake::with_events().await;
    let athena = lake.builder().with_bytes_scanned_cutoff(1_000).build().unwrap();
    let error = athena.query(in_lake("select * from events").with_bytes_scanned_cutoff(u64::MAX)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    athena.query(in_lake("select 1")).await.unwrap();
}
