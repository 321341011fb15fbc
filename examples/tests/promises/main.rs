//! What the pipeline promises to the stranger who runs it, one module per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod bad_input;
mod own_data;
mod pipeline_figures;
mod pipeline_run;
mod pipeline_survives_kill;
mod query_answers;
#[cfg(unix)]
mod query_prompt;
mod rerun_ingests_nothing;
#[cfg(unix)]
mod server_run;
