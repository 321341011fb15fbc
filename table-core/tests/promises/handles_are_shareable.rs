//! Handles cross threads.

use table_core::{MemoryMetastore, Metastore, PartitionIndex, RowDecoder, TableDef};

#[test]
fn handles_are_send_and_sync() {
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<MemoryMetastore>();
    shareable::<Box<dyn Metastore>>();
    shareable::<PartitionIndex>();
    shareable::<TableDef>();
    fn sendable<T: Send + 'static>() {}
    sendable::<RowDecoder>();
}
