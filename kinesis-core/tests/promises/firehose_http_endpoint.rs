//! An HTTP endpoint gets every record, under ids that stay, however it fails; what it does not take is put aside.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::firehose::{
    DeliveryEvent, DeliverySettings, DeliveryStream, HttpEndpoint, OutputFormat, ParquetFormat, SourceBackup,
};
use kinesis_core::{ErrorKind, Kinesis};
use object_store::memory::InMemory;

use super::firehose_rig::{ERRORS, Heard, objects, rejected, until};
use super::http_peers::{Collector, Fault, Peer};
use super::stage::reopen;

fn settings() -> DeliverySettings {
    DeliverySettings::new().with_error_output_prefix(ERRORS).with_buffer_bytes(1024)
}

fn line(id: u64) -> String {
    format!("line {id} ä")
}

async fn put(delivery: &DeliveryStream, ids: std::ops::Range<u64>) {
    let ids: Vec<u64> = ids.collect();
    for chunk in ids.chunks(50) {
        delivery.put_record_batch(chunk.iter().map(|id| line(*id).into()).collect()).await.unwrap();
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn lines(ids: std::ops::Range<u64>) -> Vec<String> {
    sorted(ids.map(line).collect())
}

fn endpoint(peer: &Peer) -> HttpEndpoint {
    HttpEndpoint::new(&format!("{}/ingest?a=b", peer.url)).unwrap()
}

#[tokio::test]
async fn every_record_arrives_under_the_id_of_its_request() {
    let collector = Collector::default();
    let peer = collector.serve().await;
    let right_status_wrong_body = |body: &str| Fault::AppliedBut(200, body.to_owned());
    peer.fail([
        Fault::Answer(500, "{}".to_owned()),
        Fault::HangUp,
        Fault::AppliedAndHangUp,
        right_status_wrong_body(r#"{"requestId":"another","timestamp":1}"#),
        right_status_wrong_body("thanks"),
        Fault::AppliedBut(202, "{}".to_owned()),
        Fault::Answer(302, String::new()),
        Fault::Answer(429, String::new()),
    ]);
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let endpoint = endpoint(&peer)
        .with_access_key("a key")
        .unwrap()
        .with_common_attributes([("team", "data")])
        .unwrap()
        .with_source_arn("arn:aws:firehose:eu-north-1:1:deliverystream/d")
        .unwrap()
        .with_gzip();
    assert!(!format!("{endpoint:?}").contains("a key"));
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings());
    let heard = Heard::default();
    let delivery = builder.with_destination(endpoint).with_listener(heard.listener()).open().await.unwrap();
    put(&delivery, 0..500).await;
    delivery.flush().await.unwrap();
    assert_eq!(sorted(collector.records()), lines(0..500));
    assert!(objects(&*store).await.is_empty());
    assert_eq!(*collector.access_key.lock().unwrap(), "a key");
    assert_eq!(*collector.source_arn.lock().unwrap(), "arn:aws:firehose:eu-north-1:1:deliverystream/d");
    assert_eq!(*collector.attributes.lock().unwrap(), r#"{"commonAttributes":{"team":"data"}}"#);
    let metrics = delivery.metrics();
    assert_eq!((metrics.delivered_rows, metrics.rejected_records, metrics.retries), (500, 0, 8));
    let accepted = heard.all().into_iter().filter_map(|event| match event {
        DeliveryEvent::Accepted(accepted) => Some(accepted.records),
        _ => None,
    });
    assert_eq!(accepted.sum::<u64>(), 500);
    delivery.close().await.unwrap();
}

#[tokio::test]
async fn what_is_not_taken_is_put_aside_with_the_reason() {
    let collector = Collector::default();
    let peer = collector.serve().await;
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let settings = settings().with_destination_retry_duration(Duration::from_millis(300)).with_buffer_bytes(1 << 20);
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings);
    let delivery = builder.with_destination(endpoint(&peer)).open().await.unwrap();
    let too_large = r#"{"errorMessage":"Payload too large"}"#;
    peer.fail([Fault::Answer(413, too_large.to_owned())]);
    put(&delivery, 0..3).await;
    delivery.flush().await.unwrap();
    peer.fail(vec![Fault::Answer(503, "later".to_owned()); 20]);
    put(&delivery, 3..5).await;
    delivery.flush().await.unwrap();
    let rejected = rejected(&*store).await;
    let aside = &rejected["http-endpoint-failed"];
    assert_eq!((rejected.len(), aside.len(), delivery.metrics().rejected_records), (1, 5, 5));
    let (_, line) = aside.iter().find(|(text, _)| *text == self::line(0)).unwrap();
    assert_eq!(line["errorCode"], "HttpEndpoint.DestinationException");
    let message = format!("The following response was received from the endpoint destination. 413: {too_large}");
    assert_eq!((&line["errorMessage"], &line["attemptsMade"]), (&message.into(), &1.into()));
    assert_eq!(line["subsequenceNumber"], 0);
    assert!(line["dataId"].as_str().unwrap().ends_with(".0"));
    let (_, line) = aside.iter().find(|(text, _)| *text == self::line(4)).unwrap();
    assert!(line["attemptsMade"].as_u64().unwrap() > 1, "{line}");
    assert!(collector.records().is_empty());
}

#[tokio::test]
async fn what_is_read_again_after_a_restart_has_the_id_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::default();
    let peer = collector.serve().await;
    let store = Arc::new(InMemory::new());
    {
        let kinesis = reopen(dir.path()).await;
        let builder = DeliveryStream::direct("d", kinesis.clone(), store.clone()).with_settings(settings());
        let heard = Heard::default();
        peer.fail(vec![Fault::AppliedBut(500, String::new()); 1_000]);
        let delivery = builder.with_destination(endpoint(&peer)).with_listener(heard.listener()).open().await.unwrap();
        put(&delivery, 0..200).await;
        until(|| heard.count(|event| matches!(event, DeliveryEvent::Retrying(_))) > 5).await;
        drop(delivery);
        kinesis.close().await.unwrap();
    }
    let before: Vec<_> = collector.requests.lock().unwrap().drain(..).collect();
    assert!(!before.is_empty());
    drop(peer);
    let peer = collector.serve().await;
    let kinesis = reopen(dir.path()).await;
    let builder = DeliveryStream::direct("d", kinesis, store).with_settings(settings());
    let delivery = builder.with_destination(endpoint(&peer)).open().await.unwrap();
    delivery.flush().await.unwrap();
    assert_eq!(sorted(collector.records()), lines(0..200));
    let after = collector.requests.lock().unwrap().clone();
    for (id, records) in before {
        let again = after.iter().filter(|(other, _)| *other == id);
        assert_eq!(again.map(|(_, again)| sorted(again.clone())).collect::<Vec<_>>(), [sorted(records)], "{id}");
    }
}

#[tokio::test]
async fn all_records_are_backed_up_too() {
    let collector = Collector::default();
    let peer = collector.serve().await;
    peer.fail([Fault::Answer(413, String::new())]);
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let settings = settings().with_source_backup(SourceBackup::new("all/")).with_buffer_bytes(1 << 20);
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings);
    let delivery = builder.with_destination(endpoint(&peer)).open().await.unwrap();
    for ids in [0..2, 2..4] {
        put(&delivery, ids).await;
        delivery.flush().await.unwrap();
    }
    let objects = objects(&*store).await;
    let backup = objects.iter().filter(|(path, _)| path.starts_with("all/"));
    let backup: Vec<u8> = backup.flat_map(|(_, bytes)| bytes.to_vec()).collect();
    assert_eq!(String::from_utf8(backup).unwrap().matches("line").count(), 4);
    assert_eq!((collector.records(), delivery.metrics().backup_objects), (vec![line(2), line(3)], 2));
}

#[tokio::test]
async fn what_is_for_an_object_store_is_refused() {
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let parquet = OutputFormat::Parquet(ParquetFormat::new());
    let by_day = settings().with_partition_by(["day"]).with_prefix("!{partitionKeyFromQuery:day}/");
    for settings in [settings().with_format(parquet), by_day] {
        let endpoint = HttpEndpoint::new("https://localhost/").unwrap();
        let builder = DeliveryStream::direct("d", kinesis.clone(), store.clone()).with_settings(settings);
        let error = builder.with_destination(endpoint).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(HttpEndpoint::new("localhost:8080").unwrap_err().kind(), ErrorKind::InvalidInput);
}
