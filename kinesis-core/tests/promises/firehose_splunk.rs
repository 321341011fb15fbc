//! Splunk gets every record, and a record counts once Splunk has acknowledged it. Against a stand-in: see `http_peers`.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::Kinesis;
use kinesis_core::firehose::{DeliverySettings, DeliveryStream, HecEndpoint, Splunk};
use object_store::memory::InMemory;

use super::firehose_rig::{ERRORS, rejected};
use super::http_peers::{Fault, Hec};

fn settings() -> DeliverySettings {
    DeliverySettings::new().with_error_output_prefix(ERRORS).with_destination_retry_duration(Duration::from_secs(1))
}

async fn deliver(splunk: Splunk, records: &[&str]) -> (DeliveryStream, Arc<InMemory>) {
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings());
    let delivery = builder.with_destination(splunk).open().await.unwrap();
    delivery.put_record_batch(records.iter().map(|record| record.to_string().into()).collect()).await.unwrap();
    delivery.flush().await.unwrap();
    (delivery, store)
}

#[tokio::test]
async fn lines_are_delivered_once_they_are_acknowledged() {
    let hec = Hec { polls_needed: 3, ..Hec::default() };
    let peer = hec.serve().await;
    peer.fail([Fault::Answer(503, r#"{"text":"Server is busy","code":9}"#.to_owned()), Fault::HangUp]);
    let splunk = Splunk::new(&peer.url, Hec::TOKEN).unwrap();
    assert!(!format!("{splunk:?}").contains(Hec::TOKEN));
    let (delivery, store) = deliver(splunk, &["a", "b\n", "c"]).await;
    assert_eq!(*hec.events.lock().unwrap(), ["a", "b", "c"]);
    assert_eq!(*hec.polls.lock().unwrap(), [(0, 4)].into());
    assert!(rejected(&*store).await.is_empty());
    assert_eq!((delivery.metrics().delivered_rows, delivery.metrics().retries), (3, 2));
}

#[tokio::test]
async fn records_that_are_no_events_are_put_aside_and_the_others_taken() {
    let hec = Hec::default();
    let peer = hec.serve().await;
    let splunk = Splunk::new(&peer.url, Hec::TOKEN).unwrap().with_endpoint(HecEndpoint::Event);
    let (_, store) =
        deliver(splunk, &[r#"{"event":"a"}"#, "b", r#"{"event":"c"}{"event":"d"}"#, r#"{"evnt":1}"#]).await;
    assert_eq!(*hec.events.lock().unwrap(), ["a", "c", "d"]);
    let rejected = rejected(&*store).await;
    let aside: Vec<_> = rejected["splunk-failed"].iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(aside, ["b", r#"{"evnt":1}"#]);
    let (_, line) = &rejected["splunk-failed"][0];
    assert_eq!(line["errorCode"], "Splunk.InvalidDataFormat");
    assert!(line["EventId"].as_str().unwrap().ends_with(".0"));
}

#[tokio::test]
async fn what_is_never_acknowledged_is_put_aside() {
    let hec = Hec { polls_needed: u32::MAX, ..Hec::default() };
    let peer = hec.serve().await;
    let splunk = Splunk::new(&peer.url, Hec::TOKEN).unwrap().with_ack_timeout(Duration::from_millis(200));
    let (delivery, store) = deliver(splunk, &["a"]).await;
    let rejected = rejected(&*store).await;
    assert_eq!(rejected["splunk-failed"][0].1["errorCode"], "Splunk.AckTimeout");
    assert!(*hec.sent.lock().unwrap() > 1, "it is sent again");
    assert_eq!(delivery.metrics().delivered_rows, 0);
}

#[tokio::test]
async fn a_refused_token_is_told() {
    let hec = Hec::default();
    let peer = hec.serve().await;
    let (_, store) = deliver(Splunk::new(&peer.url, "another").unwrap(), &["a"]).await;
    let rejected = rejected(&*store).await;
    let (_, line) = &rejected["splunk-failed"][0];
    assert_eq!(line["errorCode"], "Splunk.InvalidToken");
    assert!(line["errorMessage"].as_str().unwrap().contains("Invalid token"));
}
