//! What deliveries are tried on: records with an id, a clock that runs by itself, and all that a store holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use durable_core::{Clock, ManualClock};
use futures::TryStreamExt;
use kinesis_core::firehose::{DeliveryEvent, DeliverySettings, OutputFormat, ParquetFormat};
use kinesis_core::{DataStream, PutRecord};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

pub(crate) const ERRORS: &str = "errors/!{firehose:error-output-type}/";

/// A flight on one of 12 days.
pub(crate) fn flight(id: u64) -> PutRecord {
    let data = format!(r#"{{"id":{id},"day":{},"carrier":"C{}","delay":{}.5}}"#, id % 12 + 1, id % 3, id % 50);
    PutRecord::new(data, format!("key-{}", id % 31))
}

pub(crate) async fn put_flights(stream: &DataStream, ids: std::ops::Range<u64>) {
    let ids: Vec<u64> = ids.collect();
    for chunk in ids.chunks(100) {
        stream.put_records(chunk.iter().copied().map(flight).collect()).await.unwrap();
    }
}

/// Parquet by day, in small objects.
pub(crate) fn by_day() -> DeliverySettings {
    DeliverySettings::new()
        .with_partition_by(["day"])
        .with_prefix("flights/day=!{partitionKeyFromQuery:day}/")
        .with_error_output_prefix(ERRORS)
        .with_buffer_bytes(2 * 1024)
        .with_buffer_interval(Duration::from_secs(60))
        .with_memory_bytes(64 * 1024)
        .with_format(OutputFormat::Parquet(ParquetFormat::new()))
}

/// Lets other tasks run until `met`.
pub(crate) async fn until(met: impl Fn() -> bool) {
    while !met() {
        tokio::task::yield_now().await;
    }
}

/// Events in their order.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<DeliveryEvent>>>);

impl Heard {
    pub(crate) fn listener(&self) -> impl Fn(DeliveryEvent) -> futures::future::Ready<()> + Send + Sync + 'static {
        let heard = self.clone();
        move |event| {
            heard.0.lock().unwrap().push(event);
            futures::future::ready(())
        }
    }

    pub(crate) fn all(&self) -> Vec<DeliveryEvent> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&DeliveryEvent) -> bool) -> usize {
        self.all().iter().filter(|event| wanted(event)).count()
    }
}

/// Every object of the store, by path.
pub(crate) async fn objects(store: &dyn ObjectStore) -> BTreeMap<String, bytes::Bytes> {
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut objects = BTreeMap::new();
    for object in listed {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        objects.insert(object.location.to_string(), bytes);
    }
    objects
}

/// The ids in a Parquet file.
pub(crate) fn ids(file: bytes::Bytes) -> Vec<u64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let column = |batch: arrow_array::RecordBatch| {
        let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
        ids.into_iter().map(|id| u64::try_from(id).unwrap())
    };
    reader.flat_map(|batch| column(batch.unwrap())).collect()
}

/// The ids of all delivered rows, sorted; each must lie in its day's folder.
pub(crate) async fn delivered(store: &dyn ObjectStore) -> Vec<u64> {
    let mut all = Vec::new();
    for (path, file) in objects(store).await {
        let Some(rest) = path.strip_prefix("flights/day=") else { continue };
        let day: u64 = rest.split('/').next().unwrap().parse().unwrap();
        let ids = ids(file);
        assert!(ids.iter().all(|id| id % 12 + 1 == day), "{path} holds rows of another day");
        all.extend(ids);
    }
    all.sort_unstable();
    all
}

/// The records under the error prefix, with the lines they stand in, by the type of failure.
pub(crate) async fn rejected(store: &dyn ObjectStore) -> BTreeMap<String, Vec<(String, serde_json::Value)>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (path, lines) in objects(store).await {
        let Some(rest) = path.strip_prefix("errors/") else { continue };
        let kind = rest.split('/').next().unwrap().to_owned();
        for line in String::from_utf8(lines.to_vec()).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let raw = STANDARD.decode(line["rawData"].as_str().unwrap()).unwrap();
            all.entry(kind.clone()).or_default().push((String::from_utf8_lossy(&raw).into_owned(), line));
        }
    }
    all
}

/// What is missing and what is doubled.
pub(crate) fn compare(found: &[u64], expected: impl IntoIterator<Item = u64>) -> Result<(), String> {
    let expected: BTreeSet<u64> = expected.into_iter().collect();
    let distinct: BTreeSet<u64> = found.iter().copied().collect();
    let missing: Vec<_> = expected.difference(&distinct).take(5).collect();
    let doubled = found.len() - distinct.len();
    let strange = distinct.difference(&expected).count();
    if missing.is_empty() && doubled == 0 && strange == 0 {
        return Ok(());
    }
    Err(format!("missing {missing:?}, {doubled} doubled, {strange} never put; {} of {}", found.len(), expected.len()))
}

pub(crate) fn clock() -> (ManualClock, Arc<dyn Clock>) {
    let clock = ManualClock::default();
    let shared = Arc::new(clock.clone());
    (clock, shared)
}
