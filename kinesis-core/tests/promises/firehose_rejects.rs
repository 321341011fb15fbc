//! What cannot be delivered is put aside whole, with its reason, and stops nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kinesis_core::firehose::arrow_schema::{DataType, Field, Schema};
use kinesis_core::firehose::{
    Compression, DeliverySettings, DeliveryStream, ErrorOutputType, OutputFormat, RecordsFormat, SchemaSource,
    Separator, Transform, TransformOutcome, TransformRecord, TransformResult, transform_fn,
};
use kinesis_core::{Error, ErrorKind, Kinesis, PutRecord};
use object_store::memory::InMemory;

use super::firehose_rig::{Heard, by_day, clock, compare, delivered, flight, objects, put_flights, rejected};
use super::stage::while_time_passes;

#[tokio::test]
async fn malformed_records_are_put_aside_and_the_rest_proceeds() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 3).await.unwrap();
    let bad = [
        ("{\"id\":", "processing-failed", "no JSON object"),
        ("not json", "processing-failed", "no JSON object"),
        (r#"{"id":1}"#, "processing-failed", "'day' is missing"),
        (r#"{"id":1,"day":null}"#, "processing-failed", "'day' is missing"),
        (r#"{"id":"one","day":1}"#, "format-conversion-failed", "column \"id\""),
        (r#"{"id":1.5,"day":1}"#, "format-conversion-failed", "column \"id\""),
    ];
    // The first buffer decides on the schema, so good records go first.
    put_flights(&source, 0..300).await;
    let store = Arc::new(InMemory::new());
    let heard = Heard::default();
    let builder = DeliveryStream::builder("d", source.clone(), store.clone()).with_listener(heard.listener());
    let settings = by_day();
    let delivery = builder.with_settings(settings).open().await.unwrap();
    delivery.flush().await.unwrap();
    let integer = r#"{"id":1.5,"day":1}"#;
    for (raw, _, _) in bad.iter().filter(|(raw, _, _)| *raw != integer) {
        source.put_record(PutRecord::new(raw.to_string(), "k")).await.unwrap();
    }
    put_flights(&source, 300..400).await;
    delivery.flush().await.unwrap();
    compare(&delivered(&*store).await, 0..400).unwrap();
    let rejected = rejected(&*store).await;
    for (raw, kind, reason) in bad.iter().filter(|(raw, _, _)| *raw != integer) {
        let (_, line) = rejected[*kind].iter().find(|(found, _)| found == raw).unwrap();
        let told = line.get("errorMessage").or(line.get("lastErrorMessage")).unwrap().as_str().unwrap();
        assert!(told.contains(reason), "{raw}: {told}");
        assert_eq!(line["attemptsMade"], 1);
        assert!(line["arrivalTimestamp"].is_i64() && line["attemptEndingTimestamp"].is_i64());
        assert_eq!(line["sequenceNumber"].as_str().unwrap().len(), 56);
    }
    assert_eq!(rejected.values().map(Vec::len).sum::<usize>(), 5);
    assert_eq!((delivery.metrics().rejected_records, delivery.metrics().delivered_rows), (5, 400));
    let told: u64 = heard
        .all()
        .iter()
        .map(|event| match event {
            kinesis_core::firehose::DeliveryEvent::Rejected(rejected) => {
                assert_ne!(rejected.output, ErrorOutputType::ActivePartitionExceeded);
                rejected.records
            }
            _ => 0,
        })
        .sum();
    assert_eq!(told, 5);
}

#[tokio::test]
async fn the_transform_changes_drops_and_fails_records() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 2).await.unwrap();
    put_flights(&source, 0..90).await;
    let transform = transform_fn(|record| {
        let mut value: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
        let id = value["id"].as_u64().unwrap();
        value["id"] = (id + 12_000).into();
        match id % 3 {
            0 => TransformResult::ok(value.to_string()),
            1 => TransformResult::Dropped,
            _ => TransformResult::failed(format!("flight {id} is not wanted")),
        }
    });
    let store = Arc::new(InMemory::new());
    let builder = DeliveryStream::builder("d", source, store.clone());
    let delivery = builder.with_settings(by_day()).with_transform(transform).open().await.unwrap();
    delivery.flush().await.unwrap();
    compare(&delivered(&*store).await, (0..90).filter(|id| id % 3 == 0).map(|id| id + 12_000)).unwrap();
    let failed = &rejected(&*store).await["processing-failed"];
    assert_eq!(failed.len(), 30);
    for (raw, line) in failed {
        let id = serde_json::from_str::<serde_json::Value>(raw).unwrap()["id"].as_u64().unwrap();
        assert_eq!(id % 3, 2, "what is put aside is the record as it came");
        assert_eq!(line["errorCode"], "Lambda.ProcessingFailedStatus");
        assert_eq!(line["errorMessage"], format!("flight {id} is not wanted"));
    }
    assert_eq!(delivery.metrics().dropped_records, 30);
    // What was dropped is done: a restart finds nothing left.
    delivery.close().await.unwrap();
}

/// Fails as a whole a few times, then forgets some ids, then answers.
struct Unreliable {
    calls: AtomicU32,
}

impl Transform for Unreliable {
    fn apply(
        &self,
        records: Vec<TransformRecord>,
    ) -> futures::future::BoxFuture<'static, kinesis_core::Result<Vec<TransformOutcome>>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let answer =
                |record: TransformRecord| TransformOutcome::new(record.record_id, TransformResult::ok(record.data));
            match call {
                0..3 => Err(Error::new(ErrorKind::Unavailable, "no answer")),
                3 => Ok(records.into_iter().skip(1).rev().map(answer).collect()),
                4..8 => Err(Error::new(ErrorKind::Unavailable, "no answer")),
                _ => Ok(records.into_iter().map(answer).collect()),
            }
        })
    }
}

#[tokio::test]
async fn a_transform_that_fails_is_called_again_and_then_its_records_are_put_aside() {
    let (time, shared) = clock();
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let store = Arc::new(InMemory::new());
    let builder =
        DeliveryStream::builder("d", source.clone(), store.clone()).with_settings(by_day()).with_clock(shared);
    let delivery = builder.with_transform(Unreliable { calls: AtomicU32::new(0) }).open().await.unwrap();
    for call in 0..3 {
        source.put_records((call * 10..call * 10 + 10).map(flight).collect()).await.unwrap();
        while_time_passes(&time, delivery.flush()).await.unwrap();
    }
    // The fourth answer of the first call lacks one record; the second call fails four times.
    compare(&delivered(&*store).await, (1..10).chain(20..30)).unwrap();
    let failed = &rejected(&*store).await["processing-failed"];
    assert_eq!(failed.len(), 11);
    assert!(failed.iter().all(|(_, line)| line["errorCode"] == "Lambda.FunctionError"));
}

#[tokio::test]
async fn records_can_be_delivered_as_they_came() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    for text in ["one", "two\n", "\u{1F600}"] {
        source.put_record(PutRecord::new(text, "k")).await.unwrap();
    }
    let lines = RecordsFormat::new().with_separator(Separator::Newline);
    let formats = [
        (RecordsFormat::new(), "", "onetwo\n\u{1F600}"),
        (lines, "", "one\ntwo\n\u{1F600}\n"),
        (lines.with_compression(Compression::Gzip), ".gz", "one\ntwo\n\u{1F600}\n"),
    ];
    for (number, (format, extension, expected)) in formats.into_iter().enumerate() {
        let store = Arc::new(InMemory::new());
        let settings = DeliverySettings::new().with_format(OutputFormat::Records(format));
        let builder = DeliveryStream::builder(format!("d{number}"), source.clone(), store.clone());
        let delivery = builder.with_settings(settings).open().await.unwrap();
        delivery.flush().await.unwrap();
        let (path, bytes) = objects(&*store).await.into_iter().next().unwrap();
        assert!(path.ends_with(extension), "{path}");
        let text = if extension == ".gz" {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes.as_ref()), &mut text).unwrap();
            text
        } else {
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(text, expected);
    }
}

/// No file system has folders of such names, so an object that was promised to one would be tried for ever.
#[tokio::test]
async fn a_partition_key_too_long_for_a_folder_stops_nothing() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 2).await.unwrap();
    let long = format!(r#"{{"id":7,"day":"{}"}}"#, "7".repeat(300));
    source.put_record(PutRecord::new(long.clone(), "k")).await.unwrap();
    put_flights(&source, 20..60).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(durable_core::DurableLocal::new(dir.path()).unwrap());
    let settings = by_day().with_retry_duration(std::time::Duration::ZERO);
    let delivery = DeliveryStream::builder("d", source, store.clone()).with_settings(settings).open().await.unwrap();
    delivery.flush().await.unwrap();
    compare(&delivered(&*store).await, 20..60).unwrap();
    let rejected = rejected(&*store).await;
    let (raw, line) = &rejected["processing-failed"][0];
    assert_eq!(*raw, long);
    assert!(line["errorMessage"].as_str().unwrap().contains("304 bytes"), "{line}");
}

/// Every kind of broken record, in numbers: each has its number in it.
fn malformed(number: u64) -> (String, &'static str) {
    match number % 6 {
        0 => (format!("{number}: no JSON"), "processing-failed"),
        1 => (format!("{{\"id\":{number},\"day\":"), "processing-failed"),
        2 => (format!("{{\"id\":{number}}}"), "processing-failed"),
        3 => (format!("{{\"id\":\"n{number}\",\"day\":1}}"), "format-conversion-failed"),
        4 => (format!("{{\"id\":{number},\"day\":[1]}}"), "processing-failed"),
        _ => (format!("{{\"id\":{number}.5,\"day\":2}}"), "format-conversion-failed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_records_in_numbers_are_all_put_aside_within_the_memory() {
    const RECORDS: u64 = if cfg!(slow) { 1_000_000 } else { 60_000 };
    const MEMORY: usize = 4 * 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let kinesis = Kinesis::at(dir.path().join("kinesis")).open().await.unwrap();
    let source = kinesis.create_stream("s", 2).await.unwrap();
    let store = Arc::new(durable_core::DurableLocal::new(dir.path().join("store")).unwrap());
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("day", DataType::Int64, true)]);
    let settings = by_day().with_memory_bytes(MEMORY).with_buffer_bytes(1024 * 1024);
    let delivery = DeliveryStream::builder("d", source.clone(), store.clone())
        .with_schema(SchemaSource::fixed(Arc::new(schema)))
        .with_settings(settings.with_buffer_interval(std::time::Duration::from_secs(1)))
        .open()
        .await
        .unwrap();
    let putting = tokio::spawn(async move {
        for first in (0..RECORDS).step_by(500) {
            let records =
                (first..RECORDS.min(first + 500)).map(|number| PutRecord::new(malformed(number).0, number.to_string()));
            source.put_records(records.collect()).await.unwrap();
        }
    });
    let mut most = 0;
    while !putting.is_finished() {
        let metrics = delivery.metrics();
        most = most.max(metrics.buffered_bytes + metrics.undelivered_bytes);
        kinesis.clock().sleep(std::time::Duration::from_millis(5)).await;
    }
    putting.await.unwrap();
    delivery.flush().await.unwrap();
    // What one read brings, and the reasons, may go past it.
    assert!(most > 0 && most < 2 * MEMORY, "{most} bytes in memory, {MEMORY} were set");
    let metrics = delivery.metrics();
    assert_eq!((metrics.rejected_records, metrics.delivered_rows), (RECORDS, 0));
    let mut seen = vec![false; usize::try_from(RECORDS).unwrap()];
    for (kind, lines) in rejected(&*store).await {
        for (raw, line) in lines {
            let digits: String =
                raw.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            let number: u64 = digits.parse().unwrap();
            assert_eq!((raw.as_str(), kind.as_str()), (malformed(number).0.as_str(), malformed(number).1));
            let reason = line.get("errorMessage").or(line.get("lastErrorMessage")).unwrap().as_str().unwrap();
            assert!(!reason.is_empty());
            assert!(!std::mem::replace(&mut seen[usize::try_from(number).unwrap()], true), "{number} twice");
        }
    }
    assert!(seen.iter().all(|seen| *seen));
}
