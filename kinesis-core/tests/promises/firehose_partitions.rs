//! Objects have Firehose's names, lie in their partition's folder, and partitions beyond the limit are put aside.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeZone, Utc};
use durable_core::ManualClock;
use kinesis_core::firehose::arrow_schema::{DataType, Field, Schema};
use kinesis_core::firehose::{
    DeliveryEvent, DeliverySettings, DeliveryStream, OutputFormat, ParquetFormat, PartitionColumns, SchemaSource,
    StartAt, TransformResult, transform_fn,
};
use kinesis_core::{ErrorKind, Kinesis, PutRecord};
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::firehose_rig::{ERRORS, Heard, by_day, compare, delivered, flight, objects, put_flights, rejected, until};
use super::stage::while_time_passes;

#[tokio::test]
async fn names_are_those_of_firehose() {
    let clock = ManualClock::new(Utc.with_ymd_and_hms(2013, 1, 2, 3, 4, 5).unwrap());
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    source.put_record(flight(1)).await.unwrap();
    clock.advance(Duration::from_secs(3600));
    source.put_record(flight(13)).await.unwrap();
    let store = Arc::new(InMemory::new());
    let heard = Heard::default();
    let delivery = DeliveryStream::builder("flights.2013", source, store.clone())
        .with_settings(by_day())
        .with_listener(heard.listener())
        .open()
        .await
        .unwrap();
    delivery.flush().await.unwrap();
    let objects = objects(&*store).await;
    let (path, file) = objects.iter().next().unwrap();
    // The time is the older record's; both are in one object since both are of day 2.
    let rest = path.strip_prefix("flights/day=2/flights.2013-1-2013-01-02-03-04-05-").unwrap();
    let uuid = rest.strip_suffix(".parquet").unwrap();
    assert_eq!(uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    let DeliveryEvent::Delivered(event) = heard.all().pop().unwrap() else { panic!("{:?}", heard.all()) };
    assert_eq!((event.path.as_ref(), event.rows, event.bytes), (path.as_str(), 2, file.len() as u64));
    assert_eq!(event.partition.iter().collect::<Vec<_>>(), [("day", "2")]);
    assert_eq!((event.attempts, event.existed), (1, false));
}

#[tokio::test]
async fn a_change_of_settings_raises_the_version_in_names() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let store = Arc::new(InMemory::new());
    for (life, bytes) in [(0, 4096), (1, 4096), (2, 8192)] {
        put_flights(&source, life..life + 1).await;
        let builder = DeliveryStream::builder("d", source.clone(), store.clone());
        let delivery = builder.with_settings(by_day().with_buffer_bytes(bytes)).open().await.unwrap();
        delivery.flush().await.unwrap();
        delivery.close().await.unwrap();
    }
    let paths: Vec<_> = objects(&*store).await.into_keys().collect();
    let version = |path: &String| path.split('/').next_back().unwrap().split('-').nth(1).unwrap().to_owned();
    assert_eq!(paths.iter().map(version).collect::<Vec<_>>(), ["1", "1", "2"], "{paths:?}");
}

#[tokio::test]
async fn each_partition_has_its_own_buffer_by_size_and_by_age() {
    let clock = ManualClock::default();
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let store = Arc::new(InMemory::new());
    let settings = by_day().with_buffer_bytes(1024).with_buffer_interval(Duration::from_secs(60));
    let builder = DeliveryStream::builder("d", source.clone(), store.clone());
    let delivery = builder.with_settings(settings).open().await.unwrap();
    // Thirty records of day 1 exceed a buffer, one of day 2 does not.
    source.put_records((0..30).map(|number| flight(number * 12)).collect()).await.unwrap();
    source.put_record(flight(1)).await.unwrap();
    until(|| delivery.metrics().read_records == 31 && delivery.metrics().active_partitions == 1).await;
    assert_eq!(delivery.metrics().delivered_rows, 30);
    clock.advance(Duration::from_secs(59));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(delivery.metrics().delivered_objects, 1);
    clock.advance(Duration::from_secs(1));
    until(|| delivery.metrics().delivered_rows == 31).await;
    compare(&delivered(&*store).await, (0..30).map(|number| number * 12).chain([1])).unwrap();
}

#[tokio::test]
async fn one_partition_too_many_goes_to_the_error_output() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    put_flights(&source, 0..120).await;
    let store = Arc::new(InMemory::new());
    let settings = by_day().with_active_partitions_max(5).with_buffer_bytes(1024 * 1024);
    let builder = DeliveryStream::builder("d", source.clone(), store.clone());
    let delivery = builder.with_settings(settings).open().await.unwrap();
    delivery.flush().await.unwrap();
    let mut rejected = rejected(&*store).await;
    let refused = rejected.remove("activePartitionExceeded").unwrap();
    assert!(rejected.is_empty());
    assert_eq!(refused.len(), 70);
    assert!(refused.iter().all(|(_, line)| line["errorCode"] == "DynamicPartitioning.ActivePartitionsLimitExceeded"));
    let in_five = (0..120).filter(|id| id % 12 < 5);
    compare(&delivered(&*store).await, in_five).unwrap();
    // Delivered partitions are no longer active: others fit now.
    source.put_records((5..10).map(flight).collect()).await.unwrap();
    delivery.flush().await.unwrap();
    compare(&delivered(&*store).await, (0..120).filter(|id| id % 12 < 5).chain(5..10)).unwrap();
}

#[tokio::test]
async fn values_cannot_leave_their_folder() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    for day in ["..", "a/b", "x=y", "50%", "a\\u0000b", "é"] {
        source.put_record(PutRecord::new(format!(r#"{{"id":1,"day":"{day}"}}"#), "k")).await.unwrap();
    }
    let long = "x".repeat(600);
    source.put_record(PutRecord::new(format!(r#"{{"id":1,"day":"{long}"}}"#), "k")).await.unwrap();
    let store = Arc::new(InMemory::new());
    let delivery = DeliveryStream::builder("d", source, store.clone()).with_settings(by_day()).open().await.unwrap();
    delivery.flush().await.unwrap();
    let folders: BTreeSet<String> = objects(&*store)
        .await
        .into_keys()
        .filter_map(|path| Some(path.strip_prefix("flights/")?.rsplit_once('/')?.0.to_owned()))
        .collect();
    let expected = ["day=%2E%2E", "day=50%25", "day=a%00b", "day=a%2Fb", "day=x%3Dy", "day=é"];
    assert_eq!(folders.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(rejected(&*store).await["processing-failed"].len(), 1);
}

#[tokio::test]
async fn keys_of_the_transform_partition_too() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    put_flights(&source, 0..20).await;
    let store = Arc::new(InMemory::new());
    let settings = DeliverySettings::new()
        .with_prefix("half=!{partitionKeyFromLambda:half}/day=!{partitionKeyFromQuery:day}/")
        .with_error_output_prefix(ERRORS)
        .with_partition_by(["day"])
        .with_format(OutputFormat::Parquet(ParquetFormat::new().with_partition_columns(PartitionColumns::Omit)));
    let without = DeliveryStream::builder("d", source.clone(), store.clone()).with_settings(settings.clone());
    assert_eq!(without.open().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let half = transform_fn(|record| {
        let value: serde_json::Value = serde_json::from_slice(&record.data).unwrap();
        match value["id"].as_u64().unwrap() {
            7 => TransformResult::ok(record.data.clone()),
            id if id < 10 => TransformResult::keyed(record.data.clone(), [("half", "first")]),
            _ => TransformResult::keyed(record.data.clone(), [("half", "second")]),
        }
    });
    let builder = DeliveryStream::builder("d", source, store.clone());
    let delivery = builder.with_settings(settings).with_transform(half).open().await.unwrap();
    delivery.flush().await.unwrap();
    let found = objects(&*store).await;
    let (first, second): (Vec<_>, Vec<_>) = found
        .iter()
        .filter(|(path, _)| path.starts_with("half="))
        .partition(|(path, _)| path.starts_with("half=first/"));
    assert_eq!((first.len(), second.len()), (9, 10));
    let file = ParquetRecordBatchReaderBuilder::try_new(second[0].1.clone()).unwrap();
    let names: Vec<_> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "carrier", "delay"], "the folder has the day, so the file has not");
    assert_eq!(rejected(&*store).await["processing-failed"].len(), 1, "record 7 has no half");
}

#[tokio::test]
async fn the_schema_is_inferred_once_widened_when_needed_and_kept_across_restarts() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let store = Arc::new(InMemory::new());
    let heard = Heard::default();
    let settings = DeliverySettings::new().with_format(OutputFormat::Parquet(ParquetFormat::new()));
    for record in [r#"{"a":1,"b":"x"}"#, r#"{"a":2}"#, r#"{"a":2.5,"c":true}"#, r#"{"a":3}"#, r#"{"a":"n/a"}"#] {
        let builder = DeliveryStream::builder("d", source.clone(), store.clone()).with_settings(settings.clone());
        let delivery = builder.with_listener(heard.listener()).open().await.unwrap();
        source.put_record(PutRecord::new(record, "k")).await.unwrap();
        delivery.flush().await.unwrap();
        delivery.close().await.unwrap();
    }
    let schemas: Vec<String> = heard
        .all()
        .into_iter()
        .filter_map(|event| match event {
            DeliveryEvent::SchemaChanged { schema } => {
                Some(schema.fields().iter().map(|field| format!("{} {};", field.name(), field.data_type())).collect())
            }
            _ => None,
        })
        .collect();
    assert_eq!(schemas, ["a Int64;b Utf8;", "a Float64;b Utf8;c Boolean;"]);
    let rejections = heard.count(|event| matches!(event, DeliveryEvent::Rejected(_)));
    assert_eq!(rejections, 1, "text is no number, and one bad record does not change a table");
}

#[tokio::test]
async fn a_schema_can_be_given_or_fetched() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    put_flights(&source, 0..10).await;
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let fetched = schema.clone();
    let sources =
        [SchemaSource::fixed(schema), SchemaSource::function(move || futures::future::ready(Ok(fetched.clone())))];
    for (number, schema) in sources.into_iter().enumerate() {
        let store = Arc::new(InMemory::new());
        let builder = DeliveryStream::builder(format!("d{number}"), source.clone(), store.clone());
        let delivery = builder.with_settings(by_day()).with_schema(schema).open().await.unwrap();
        delivery.flush().await.unwrap();
        compare(&delivered(&*store).await, 0..10).unwrap();
        let file = objects(&*store).await.into_values().next().unwrap();
        assert_eq!(ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().fields().len(), 1);
    }
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for fields in [vec![], vec![Field::new("d", dictionary, true)]] {
        let builder = DeliveryStream::builder("x", source.clone(), Arc::new(InMemory::new()));
        let impossible = SchemaSource::fixed(Arc::new(Schema::new(fields)));
        let error = builder.with_schema(impossible).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn it_can_begin_behind_what_is_there() {
    let (clock, _) = super::firehose_rig::clock();
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let source = kinesis.create_stream("s", 3).await.unwrap();
    put_flights(&source, 0..50).await;
    let store = Arc::new(InMemory::new());
    let builder = || {
        let builder = DeliveryStream::builder("d", source.clone(), store.clone());
        builder.with_settings(by_day().with_start(StartAt::Latest))
    };
    drop(builder().open().await.unwrap());
    // Where it begins was settled when it was opened first, although it has delivered nothing.
    put_flights(&source, 50..100).await;
    let delivery = builder().open().await.unwrap();
    while_time_passes(&clock, delivery.flush()).await.unwrap();
    compare(&delivered(&*store).await, 50..100).unwrap();
}

#[test]
fn handles_go_anywhere() {
    fn anywhere<T: Send + Sync + Clone + 'static>() {}
    fn sends<T: Send + 'static>(_: T) {}
    anywhere::<DeliveryStream>();
    anywhere::<DeliverySettings>();
    anywhere::<DeliveryEvent>();
    let future = async |delivery: DeliveryStream| {
        sends(delivery.events());
        delivery.flush().await
    };
    let _ = future;
}
