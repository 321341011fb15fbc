//! object_store's own conformance suite, as one call: it proves that a store or a wrapper of ours still is one.

use object_store::ObjectStore;
use object_store::integration;

/// Runs the suite on an empty store. `conditional_update` says whether it supports `PutMode::Update`.
///
/// # Panics
/// At the first deviation.
pub async fn run(store: &dyn ObjectStore, conditional_update: bool) {
    integration::put_get_delete_list(store).await;
    integration::list_with_offset_exclusivity(store).await;
    integration::get_opts(store).await;
    integration::list_uses_directories_correctly(store).await;
    integration::list_with_delimiter(store).await;
    integration::rename_and_copy(store).await;
    integration::copy_if_not_exists(store).await;
    integration::copy_rename_nonexistent_object(store).await;
    integration::stream_get(store).await;
    integration::put_opts(store, conditional_update).await;
    integration::multipart_out_of_order(store).await;
    integration::multipart_race_condition(store, true).await;
}
