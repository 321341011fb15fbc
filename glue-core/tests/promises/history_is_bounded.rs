//! An opening replays the commits since the last checkpoint, not all history; who fell behind finds the newest state.

use std::sync::Arc;

use glue_core::Glue;
use glue_core::catalog::CHECKPOINT_EVERY;
use glue_core::table_core::{Domains, Metastore, PartitionDef};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use testkit::fault_store::{FaultStore, Operation};

#[tokio::test]
async fn an_opening_reads_few_objects() {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let glue = Glue::on(memory.clone(), "glue").open().await.unwrap();
    let early = Glue::on(memory.clone(), "glue").open().await.unwrap();
    super::with_table(glue.catalog(), "flights").await;
    let days = 5 * CHECKPOINT_EVERY + 7;
    for day in 0..days {
        let partition = PartitionDef::of([day.to_string()]);
        glue.catalog().put_partitions("lake", "flights", vec![partition]).await.unwrap();
    }
    let counted = FaultStore::new(memory);
    let reader = Glue::on(Arc::new(counted.clone()), "glue").open().await.unwrap();
    assert!(counted.calls(Operation::Get) <= 20, "{} gets", counted.calls(Operation::Get));
    for glue in [&reader, &early] {
        assert_eq!(glue.catalog().state().await.unwrap().number(), days + 1);
        let table = glue.catalog().table("lake", "flights").await.unwrap().unwrap();
        let selected = glue.catalog().select(&table, &Domains::all()).await.unwrap();
        assert_eq!(selected.partitions.len() as u64, days);
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_is_named_and_not_served() {
    use object_store::{ObjectStoreExt, path::Path};
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let glue = Glue::on(memory.clone(), "glue").open().await.unwrap();
    super::with_table(glue.catalog(), "flights").await;
    for day in 0..CHECKPOINT_EVERY {
        glue.catalog().put_partitions("lake", "flights", vec![PartitionDef::of([day.to_string()])]).await.unwrap();
    }
    let path = Path::from(format!("glue/checkpoint/{CHECKPOINT_EVERY:020}"));
    let mut bytes = memory.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    memory.put(&path, bytes.into()).await.unwrap();
    let error = Glue::on(memory, "glue").open().await.unwrap_err();
    assert_eq!(error.kind(), glue_core::ErrorKind::Corrupt);
    assert!(error.message().contains("checkpoint"), "{error}");
}
