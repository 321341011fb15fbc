//! The bytes, reads and listings that a query reports are those that its tables' store saw.

use std::sync::Arc;

use athena_core::QueryState;

use crate::counting_store::CountingStore;
use crate::lake::{Lake, texts};

#[tokio::test]
async fn metered_equals_counted() {
    let lake = Lake::with_events().await;
    let counting = Arc::new(CountingStore::new(Arc::clone(&lake.store)));
    let athena = lake.builder().data_store(Arc::clone(&counting) as _).build().unwrap();
    let mut data_bytes = 0;
    for sql in [
        "select * from events",
        "select id from events where month = 3",
        "select sum(price) from events where city = 'oslo' and id > 700",
        "select kind, count(*) from events where month in (1, 2) or city is null group by kind",
        "select count(*) from events",
        "select e.id from events e join flat f on e.id = f.id where e.month = 2 and f.month = 2 limit 3",
        "select id from events where id = 1234",
    ] {
        let (_, execution) = texts(&athena, sql).await;
        let (bytes, gets, lists) = counting.take();
        let statistics = execution.statistics;
        assert_eq!(execution.state, QueryState::Succeeded);
        assert_eq!(
            (statistics.transferred_bytes, statistics.reads.gets, statistics.reads.lists),
            (bytes, gets, lists),
            "{sql}"
        );
        assert!(statistics.data_scanned_bytes <= statistics.transferred_bytes, "{sql}");
        assert!(statistics.transferred_bytes <= statistics.total_bytes.unwrap(), "{sql}");
        data_bytes += statistics.reads.data_bytes;
    }
    assert!(data_bytes > 0);
}

#[tokio::test]
async fn only_surviving_partitions_are_listed_and_columns_not_named_are_not_read() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    let (rows, one) = texts(&athena, "select id from events where month = 3 and city = 'oslo'").await;
    assert_eq!(rows.len(), 200);
    let statistics = one.statistics;
    assert_eq!((statistics.partitions_read, statistics.partitions_total, statistics.reads.lists), (1, 24, 1));
    assert_eq!((statistics.files_read, statistics.files_total), (2, Some(48)));
    let (_, all) = texts(&athena, "select * from events where month = 3 and city = 'oslo'").await;
    let scanned = |execution: &athena_core::QueryExecution| {
        execution.statistics.data_scanned_bytes - execution.statistics.reads.footer_bytes
    };
    assert!(scanned(&one) * 2 < scanned(&all), "{} of {}", scanned(&one), scanned(&all));
}

#[tokio::test]
async fn row_groups_that_cannot_match_are_not_read() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    texts(&athena, "select * from flat").await;
    let (_, all) = texts(&athena, "select * from flat").await;
    let (rows, few) = texts(&athena, "select * from flat where id between 1000 and 1010").await;
    assert_eq!(rows.len(), 11);
    assert!(few.statistics.data_scanned_bytes * 2 < all.statistics.data_scanned_bytes, "{few:?} of {all:?}");
}

#[tokio::test]
async fn a_table_that_is_scanned_twice_counts_each_partition_and_file_once() {
    let athena = Lake::with_events().await.athena();
    let count = |months: &str| format!("select count(*) from events where month in ({months})");
    let (_, execution) = texts(&athena, &format!("{} union all {}", count("1, 2, 4"), count("3, 4"))).await;
    let statistics = execution.statistics;
    assert_eq!((statistics.partitions_read, statistics.files_read, statistics.partitions_total), (16, 32, 24));
}
