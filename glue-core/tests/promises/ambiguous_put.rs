//! A put that was applied and then failed is neither lost nor made twice.

use std::sync::Arc;

use durable_core::SystemClock;
use glue_core::object_store::memory::InMemory;
use glue_core::object_store::path::Path;
use glue_core::{Change, Domains, Glue, Metastore, PartitionDef};
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

use crate::lake::{table, with_table};

#[tokio::test]
async fn half_of_all_puts_fail_after_they_were_applied() {
    let rules = vec![Rule::on(&[Operation::Put], Effect::ApplyThenFail(Failure::Reset)).with_probability(0.5)];
    let store = Arc::new(FaultStore::with_rules(Arc::new(InMemory::new()), 7, Arc::new(SystemClock::new()), rules));
    let glue = Glue::on(store.clone(), Path::default()).with_checkpoint_every(1000).open().await.unwrap();
    with_table(&glue).await;
    let mut commits = 0_u32;
    while store.fired()[0] < 10_000 {
        let partition = PartitionDef::of(["w".to_owned(), commits.to_string()]);
        // Doubled, the second would be refused: the partition already exists.
        let number = glue.catalog().commit(Change::new().add_partitions("db", "t", vec![partition])).await.unwrap();
        commits += 1;
        assert_eq!(number, u64::from(commits) + 1);
    }
    let reopened = Glue::on(store.inner(), Path::default()).open().await.unwrap();
    let selection = reopened.catalog().select(table(&reopened, "t").await.as_ref(), &Domains::all()).await.unwrap();
    assert_eq!(u32::try_from(selection.total).unwrap(), commits);
}
