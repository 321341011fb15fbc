//! Prefixes follow Firehose's expressions and default rules, at the arrival of the object's oldest record.

use std::sync::Arc;

use chrono::{TimeZone, Utc};
use durable_core::ManualClock;
use kinesis_core::firehose::{DeliverySettings, DeliveryStream, TransformResult, transform_fn};
use kinesis_core::{ErrorKind, Kinesis, PutRecord};
use object_store::memory::InMemory;

use super::firehose_rig::objects;

/// Where a record and a failed record go, without the objects' own names.
async fn folders(settings: DeliverySettings) -> Vec<String> {
    let clock = ManualClock::new(Utc.with_ymd_and_hms(2018, 8, 27, 10, 30, 0).unwrap());
    let kinesis = Kinesis::memory().with_clock(Arc::new(clock.clone())).open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    for text in ["good", "bad"] {
        source.put_record(PutRecord::new(text, "k")).await.unwrap();
    }
    let only_good = transform_fn(|record| match record.data.as_ref() {
        b"good" => TransformResult::ok(record.data.clone()),
        _ => TransformResult::failed("bad"),
    });
    let store = Arc::new(InMemory::new());
    let builder = DeliveryStream::builder("d", source, store.clone()).with_settings(settings);
    let delivery = builder.with_transform(only_good).with_seed(1).open().await.unwrap();
    delivery.flush().await.unwrap();
    let end = |path: &String| path.find("d-1-2018-08-27-10-30-00-").unwrap();
    objects(&*store).await.into_keys().map(|path| path[..end(&path)].to_owned()).collect()
}

#[tokio::test]
async fn defaults_and_expressions_are_those_of_firehose() {
    let none = DeliverySettings::new;
    assert_eq!(folders(none()).await, ["2018/08/27/10/", "processing-failed/2018/08/27/10/"]);
    assert_eq!(folders(none().with_prefix("my/")).await, ["my/2018/08/27/10/", "my/processing-failed/2018/08/27/10/"]);
    // Without a slash at its end, a prefix runs into what follows.
    assert_eq!(folders(none().with_prefix("my")).await, ["my2018/08/27/10/", "myprocessing-failed/2018/08/27/10/"]);
    let custom = none()
        .with_prefix("in/year=!{timestamp:yyyy}/m=!{timestamp:MMM}/")
        .with_error_output_prefix("bad/!{timestamp:'year='yyyy'/day='dd}/!{firehose:error-output-type}/");
    assert_eq!(folders(custom).await, ["bad/year=2018/day=27/processing-failed/", "in/year=2018/m=Aug/"]);
    let random = none()
        .with_prefix("!{firehose:random-string}/")
        .with_error_output_prefix("z/!{firehose:random-string}/!{firehose:error-output-type}-");
    let random = folders(random).await;
    assert_eq!(random[0].len(), 12, "{random:?}");
    assert_eq!(random[1].len(), 2 + 12 + "processing-failed-".len(), "{random:?}");
}

#[tokio::test]
async fn what_firehose_refuses_is_refused() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let refused = [
        ("!{timestamp:yyyy}/", None),
        ("!{timestamp:bogus}/", Some("e/!{firehose:error-output-type}/")),
        ("!{firehose:error-output-type}/", Some("e/!{firehose:error-output-type}/")),
        ("a/", Some("e/!{timestamp:yyyy}/")),
        ("!{partitionKeyFromQuery:day}/", Some("e/!{firehose:error-output-type}/")),
        ("../a/", None),
    ];
    for (prefix, errors) in refused {
        let mut settings = DeliverySettings::new().with_prefix(prefix);
        if let Some(errors) = errors {
            settings = settings.with_error_output_prefix(errors);
        }
        let builder = DeliveryStream::builder("d", source.clone(), Arc::new(InMemory::new()));
        let error = builder.with_settings(settings).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{prefix}");
        let named = error.message().contains(prefix) || errors.is_some_and(|errors| error.message().contains(errors));
        assert!(named || error.message().contains("bogus"), "{error:?}");
    }
    for name in ["", "a/b", "x".repeat(65).as_str()] {
        let builder = DeliveryStream::builder(name, source.clone(), Arc::new(InMemory::new()));
        assert_eq!(builder.open().await.unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
    }
}
