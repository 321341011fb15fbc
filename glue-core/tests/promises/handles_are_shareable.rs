//! Handles, and the futures of their calls, cross threads.

use glue_core::object_store::path::Path;
use glue_core::{Catalog, Change, Crawler, Glue, GlueBuilder};

#[tokio::test]
async fn handles_and_futures_are_send() {
    fn shareable<T: Send + Sync + Clone + 'static>() {}
    shareable::<Glue>();
    shareable::<Catalog>();
    shareable::<Crawler>();
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    sendable::<GlueBuilder>(Glue::memory());
    let glue = sendable(Glue::memory().open()).await.unwrap();
    sendable(glue.catalog().commit(Change::new())).await.unwrap();
    sendable(glue.crawler("c", glue.store().clone(), Path::from("x")).run()).await.unwrap();
}
