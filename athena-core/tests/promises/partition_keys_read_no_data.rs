//! A query that needs partition keys only reads footers, and no byte of data.

use crate::lake::{Lake, texts};

#[tokio::test]
async fn only_footers_are_read() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    for (sql, rows) in [
        ("select month, count(*) from events group by month", 6),
        ("select distinct city from events where month > 2", 4),
        ("select max(month) from events where city = 'oslo'", 1),
        ("select count(*) from events where city is null", 1),
    ] {
        let (found, execution) = texts(&athena, sql).await;
        assert_eq!(found.len(), rows, "{sql}");
        let reads = execution.statistics.reads;
        assert_eq!((reads.data_bytes, reads.index_bytes), (0, 0), "{sql}: {reads:?}");
    }
}
