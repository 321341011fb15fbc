//! What athena-core promises, one module per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod bytes_are_exact;
mod cancel;
mod columns_by_name;
mod counting_store;
mod crowding_is_refused;
mod cutoff;
mod history_survives_restart;
mod lake;
mod one_statement_only;
mod partition_keys_read_no_data;
mod pruned_equals_unpruned;
mod results_text;
mod text_tables;
mod whole_or_an_error;

#[test]
fn handles_and_streams_can_be_sent_and_shared() {
    fn sent<T: Send + 'static>() {}
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<athena_core::Athena>();
    sent::<athena_core::QueryStream>();
    sent::<athena_core::Error>();
}
