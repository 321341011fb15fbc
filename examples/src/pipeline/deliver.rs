//! Step 3: the stream's events as Parquet files in folders by partition, malformed rows under the error prefix.
//!
//! Invariant: the queue hears of an object before the stream forgets it, so that no delivered partition stays undiscovered, also
//! when a run is killed between the two.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::DataStream;
use kinesis_core::firehose::arrow_schema::{DataType, Field, Schema};
use kinesis_core::firehose::{
    Delivered, DeliveryEvent, DeliveryMetrics, DeliverySettings, DeliveryStream, OutputFormat, ParquetFormat,
    SchemaSource, TransformRecord, TransformResult, transform_fn,
};
use object_store::ObjectStore;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::messages::{CRAWL, Messages, ObjectDelivered};
use super::plan::Plan;
use super::progress::Stage;
use super::record::{Decoded, decode};
use crate::failure::{Doing, Failure, Result};
use crate::input::{Kind, PARTITIONS_MAX};

/// The prefix of delivered files; the table's name follows.
pub const DELIVERED: &str = "delivered";
/// The prefix of what was set aside; the table's name follows.
pub const ERRORS: &str = "errors";

/// Bytes of events that make a file.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;
/// The age that makes a file of fewer.
const BUFFER_INTERVAL: Duration = Duration::from_secs(60);
/// Files put at once.
const DELIVERIES: usize = 8;
/// How long a failing store is tried again before the run gives up.
const RETRY: Duration = Duration::from_secs(120);

/// Delivers what the stream has and what was not delivered yet, tells the queue of each object, and ends its messages. Dropping
/// the future leaves whole objects only; the next run delivers the rest.
///
/// # Errors
/// The stream, the store or the broker failed.
pub async fn deliver(
    stream: &DataStream,
    store: &Arc<dyn ObjectStore>,
    table: &str,
    plan: &Plan,
    messages: &Messages,
    stage: &Stage,
) -> Result<DeliveryMetrics> {
    let doing = || format!("cannot deliver {table}");
    let (failed, mut failure) = mpsc::channel(1);
    let (heard, shown) = (messages.clone(), stage.clone());
    let listener = move |event| hear(event, heard.clone(), shown.clone(), failed.clone());
    let keys = plan.partition_by.clone();
    let delivery = DeliveryStream::builder(table, stream.clone(), Arc::clone(store))
        .with_settings(settings(table, plan))
        .with_schema(SchemaSource::fixed(Arc::new(schema(plan))))
        .with_transform(transform_fn(move |record| sort(record, &keys)))
        .with_listener(listener)
        .open()
        .await
        .doing(doing)?;
    tokio::select! {
        flushed = delivery.flush() => flushed.doing(doing)?,
        Some(failure) = failure.recv() => return Err(failure),
    }
    let metrics = delivery.metrics();
    delivery.close().await.doing(doing)?;
    messages.end(CRAWL).await?;
    Ok(metrics)
}

fn settings(table: &str, plan: &Plan) -> DeliverySettings {
    let folders: String =
        plan.partition_by.iter().map(|key| format!("{key}=!{{partitionKeyFromLambda:{key}}}/")).collect();
    // A prefix without an expression would get folders of the arrival's time behind it: here the files' names begin with its day.
    let folders = if folders.is_empty() { "!{timestamp:yyyyMMdd}-".to_owned() } else { folders };
    DeliverySettings::new()
        .with_buffer_bytes(BUFFER_BYTES)
        .with_buffer_interval(BUFFER_INTERVAL)
        .with_active_partitions_max(PARTITIONS_MAX)
        .with_deliveries(DELIVERIES)
        .with_retry_duration(RETRY)
        .with_prefix(format!("{DELIVERED}/{table}/{folders}"))
        .with_error_output_prefix(format!("{ERRORS}/{table}/!{{firehose:error-output-type}}/"))
        .with_format(OutputFormat::Parquet(ParquetFormat::new()))
}

/// The columns of the files; those of the partitions stand in the folders' names.
fn schema(plan: &Plan) -> Schema {
    let field = |kind, name: &str| {
        let data_type = match kind {
            Kind::Boolean => DataType::Boolean,
            Kind::Integer | Kind::LongInteger => DataType::Int64,
            Kind::Double => DataType::Float64,
            Kind::Text => DataType::Utf8,
        };
        Field::new(name, data_type, true)
    };
    Schema::new(plan.file_columns().map(|column| field(column.kind, &column.name)).collect::<Vec<_>>())
}

/// An event goes on with its partition, a malformed row is set aside with where it came from.
fn sort(record: &TransformRecord, keys: &[String]) -> TransformResult {
    match decode(&record.data) {
        Ok(Decoded::Event(event)) => TransformResult::keyed(
            record.data.clone(),
            keys.iter().map(|key| (key.clone(), partition_value(&event, key))),
        ),
        Ok(Decoded::Malformed(row)) => {
            TransformResult::failed(format!("{}, line {}: {}", row.file, row.line, row.reason))
        }
        Err(failure) => TransformResult::failed(format!("{failure:?}")),
    }
}

/// The value of a partition column as its folder has it; Hive's name for null and for the empty text.
fn partition_value(event: &Map<String, Value>, key: &str) -> String {
    let text = match event.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    if text.is_empty() { table_core::partition_path::NULL_PARTITION.to_owned() } else { text }
}

/// Passes an event on. When the broker fails, it never resolves: the object must not be forgotten.
async fn hear(event: DeliveryEvent, messages: Messages, stage: Stage, failed: mpsc::Sender<Failure>) {
    match event {
        DeliveryEvent::Delivered(Delivered { path, rows, bytes, .. }) => {
            let object = ObjectDelivered { path: path.to_string(), rows, bytes };
            if let Err(failure) = messages.object_delivered(&object).await {
                let _ = failed.send(failure).await;
                std::future::pending::<()>().await;
            }
            stage.add(rows);
        }
        DeliveryEvent::Rejected(rejected) => stage.add(rejected.records),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_valid_with_and_without_partitions() {
        let mut plan =
            Plan { columns: Vec::new(), key: None, partition_by: Vec::new(), noted: std::collections::BTreeMap::new() };
        settings("t", &plan).validate().unwrap();
        plan.partition_by = vec!["month".into(), "day".into()];
        settings("t", &plan).validate().unwrap();
    }

    #[test]
    fn null_and_the_empty_text_have_hives_name() {
        let event = |json: Value| json.as_object().unwrap().clone();
        assert_eq!(partition_value(&event(serde_json::json!({"day": 3})), "day"), "3");
        assert_eq!(partition_value(&event(serde_json::json!({"day": "a/b"})), "day"), "a/b");
        for missing in [serde_json::json!({"day": null}), serde_json::json!({"day": ""}), serde_json::json!({})] {
            assert_eq!(partition_value(&event(missing), "day"), "__HIVE_DEFAULT_PARTITION__");
        }
    }
}
