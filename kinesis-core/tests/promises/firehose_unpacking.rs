//! What producers packed together is delivered apart, and what is not what it should be is put aside as it came.

use std::io::Write;
use std::sync::Arc;

use kinesis_core::firehose::{CloudWatchLogs, Deaggregation, Decompression, DeliverySettings, DeliveryStream};
use kinesis_core::{Aggregator, Kinesis, PutRecord};
use object_store::memory::InMemory;

use super::firehose_rig::{by_day, compare, delivered, flight, objects, rejected};

async fn deliver(settings: DeliverySettings, records: Vec<PutRecord>) -> Arc<InMemory> {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let store = Arc::new(InMemory::new());
    let builder = DeliveryStream::builder("d", source.clone(), store.clone());
    let delivery = builder.with_settings(settings).open().await.unwrap();
    for record in records {
        source.put_record(record).await.unwrap();
    }
    delivery.flush().await.unwrap();
    delivery.close().await.unwrap();
    kinesis.close().await.unwrap();
    store
}

fn gzip(data: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn aggregates_of_the_producer_library_are_taken_apart() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 1).await.unwrap();
    let mut aggregator = Aggregator::new(&source).unwrap();
    let mut records: Vec<_> = (0..500).flat_map(|id| aggregator.add(flight(id)).unwrap()).collect();
    records.extend(aggregator.flush());
    assert!(records.len() < 100);
    let store = deliver(by_day(), records).await;
    compare(&delivered(&*store).await, 0..500).unwrap();
}

#[tokio::test]
async fn log_events_are_delivered_one_by_one() {
    let event = |id: u64| {
        let message = String::from_utf8(flight(id).data.to_vec()).unwrap();
        serde_json::json!({"id": id.to_string(), "timestamp": 1_700_000_000_000_u64, "message": message})
    };
    let payload = |ids: std::ops::Range<u64>| {
        let events: Vec<_> = ids.map(event).collect();
        let payload = serde_json::json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s",
            "subscriptionFilters": ["f"], "logEvents": events});
        PutRecord::new(gzip(&payload.to_string()), "k")
    };
    let control = PutRecord::new(gzip(r#"{"messageType":"CONTROL_MESSAGE","logEvents":[]}"#), "k");
    let settings = by_day().with_decompression(Decompression::Gzip).with_cloudwatch_logs(CloudWatchLogs::Messages);
    let store = deliver(settings, vec![payload(0..20), control, payload(20..30)]).await;
    compare(&delivered(&*store).await, 0..30).unwrap();
}

#[tokio::test]
async fn what_cannot_be_taken_apart_is_put_aside_as_it_came() {
    let settings = by_day().with_decompression(Decompression::Gzip).with_deaggregation(Deaggregation::Json);
    let two = |id| {
        gzip(&[flight(id).data, flight(id + 1).data].map(|data| String::from_utf8(data.to_vec()).unwrap()).concat())
    };
    let records = [two(0), b"not gzip".to_vec(), gzip("{} {"), two(2), gzip(r#"{"id":9}{"day":1}"#)];
    let store = deliver(settings, records.iter().map(|data| PutRecord::new(data.clone(), "k")).collect()).await;
    let failed = rejected(&*store).await;
    assert_eq!(failed["decompression-failed"][0].0, "not gzip");
    let (raw, line) = &failed["processing-failed"][0];
    assert_eq!(raw.as_bytes(), String::from_utf8_lossy(&records[2]).as_bytes());
    assert!(line["errorMessage"].as_str().unwrap().contains("no sequence of JSON documents"), "{line}");
    assert!(line.get("subSequenceNumber").is_none());
    // Of a record that was taken apart only the part that failed, and which one it was.
    let (raw, line) = &failed["processing-failed"][1];
    assert_eq!((raw.as_str(), &line["subSequenceNumber"]), (r#"{"id":9}"#, &0.into()));
    let days = objects(&*store).await.into_keys().filter(|path| path.starts_with("flights/day=1/")).count();
    assert!(days >= 1);
}
