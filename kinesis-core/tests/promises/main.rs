//! What kinesis-core promises, one module per promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::missing_docs_in_private_items,
    reason = "a test reports by panicking"
)]

mod aggregation;
mod any_arguments;
#[cfg(feature = "datafusion")]
mod as_a_table;
mod atomic_batch;
mod auditor;
mod bounded_memory;
mod consumer_state;
mod corrupt_segment;
mod dropped_futures;
mod failing_disk;
mod failing_store;
mod fenced;
#[cfg(feature = "firehose")]
mod firehose_backup;
#[cfg(feature = "firehose")]
mod firehose_destination;
#[cfg(feature = "firehose")]
mod firehose_direct_put;
#[cfg(feature = "firehose")]
mod firehose_exactly_once;
#[cfg(feature = "firehose")]
mod firehose_failing_store;
#[cfg(feature = "firehose")]
mod firehose_flush;
#[cfg(feature = "firehose-http")]
mod firehose_http_endpoint;
#[cfg(feature = "firehose-http")]
mod firehose_http_transform;
#[cfg(all(feature = "firehose", feature = "server"))]
mod firehose_opens_elsewhere;
#[cfg(feature = "firehose-http")]
mod firehose_opensearch;
#[cfg(feature = "firehose")]
mod firehose_partitions;
#[cfg(feature = "firehose")]
mod firehose_prefix;
#[cfg(feature = "redshift")]
mod firehose_redshift;
#[cfg(feature = "firehose")]
mod firehose_rejects;
#[cfg(feature = "firehose")]
mod firehose_reshard;
#[cfg(feature = "firehose")]
mod firehose_rig;
#[cfg(feature = "firehose-http")]
mod firehose_splunk;
#[cfg(feature = "firehose")]
mod firehose_unpacking;
mod format_stays;
mod handles;
#[cfg(feature = "firehose-http")]
mod http_peers;
mod idempotent_producer;
mod limits;
mod linearizable;
mod mapping;
mod metrics;
mod nothing_left_behind;
mod on_demand;
#[cfg(feature = "redshift")]
mod postgres;
mod replay;
mod reshard;
mod retention;
mod routing;
mod same_calls_same_answers;
mod segments_in_blocks;
mod sequence_numbers_rise;
mod settings_of_a_stream;
mod stage;
mod survives_kill;
mod survives_power_loss;
mod transactions;
#[cfg(feature = "server")]
mod wire_any_request;
#[cfg(feature = "server")]
mod wire_clients;
#[cfg(all(feature = "firehose", feature = "server"))]
mod wire_firehose;
#[cfg(feature = "server")]
mod wire_kcl;
#[cfg(feature = "server")]
mod wire_sdk;
#[cfg(feature = "server")]
mod wire_stage;
mod worker;
