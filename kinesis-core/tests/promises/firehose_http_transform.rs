//! A function behind an HTTP endpoint changes records as Firehose's Lambda functions do.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinesis_core::Kinesis;
use kinesis_core::firehose::{DeliverySettings, DeliveryStream, HttpTransform, SourceBackup};
use object_store::memory::InMemory;
use serde_json::{Value, json};

use super::firehose_rig::{ERRORS, objects, rejected};
use super::http_peers::{Answer, Fault, Peer, Request};

/// Capitals; drops what begins with `d`, fails what begins with `f`, forgets what begins with `l`.
pub(crate) fn function(request: &Request) -> Answer {
    let event: Value = serde_json::from_slice(&request.body).unwrap();
    assert!(event["invocationId"].is_string() && event["region"] == "us-east-1");
    assert!(event["deliveryStreamArn"].as_str().unwrap().starts_with("arn:aws:firehose:"));
    let mut records = Vec::new();
    for record in event["records"].as_array().unwrap() {
        assert!(record["approximateArrivalTimestamp"].is_i64());
        let text = String::from_utf8(STANDARD.decode(record["data"].as_str().unwrap()).unwrap()).unwrap();
        let data = STANDARD.encode(text.to_uppercase());
        let id = &record["recordId"];
        match text.chars().next() {
            Some('d') => records.push(json!({"recordId": id, "result": "Dropped", "data": null})),
            Some('f') => records.push(json!({"recordId": id, "result": "ProcessingFailed", "data": data})),
            Some('l') => {}
            Some('n') => records.push(json!({"recordId": id, "result": "Ok"})),
            first => records.push(json!({"recordId": id, "result": "Ok", "data": data,
                "metadata": {"partitionKeys": {"first": first}}})),
        }
    }
    (200, json!({"records": records}).to_string())
}

async fn deliver(peer: &Peer, records: &[&str]) -> (DeliveryStream, Arc<InMemory>) {
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let settings = DeliverySettings::new()
        .with_prefix("data/!{partitionKeyFromLambda:first}/")
        .with_error_output_prefix(ERRORS)
        .with_source_backup(SourceBackup::new("source/"));
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings);
    let delivery = builder.with_transform(HttpTransform::new(&peer.url).unwrap()).open().await.unwrap();
    delivery.put_record_batch(records.iter().map(|record| record.to_string().into()).collect()).await.unwrap();
    delivery.flush().await.unwrap();
    (delivery, store)
}

async fn under(store: &InMemory, prefix: &str) -> Vec<String> {
    let objects = objects(store).await;
    let of = objects.iter().filter(|(path, _)| path.starts_with(prefix));
    of.map(|(_, bytes)| String::from_utf8(bytes.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn each_result_has_its_effect_and_all_is_backed_up_as_it_came() {
    let peer = Peer::serve(|request| function(&request)).await;
    peer.fail([Fault::Answer(500, "{}".to_owned()), Fault::Answer(200, r#"{"errorMessage":"boom"}"#.to_owned())]);
    let (delivery, store) = deliver(&peer, &["a1", "a2", "b", "drop", "fail", "lost", "no data"]).await;
    assert_eq!(under(&store, "data/a/").await, ["A1A2"]);
    assert_eq!(under(&store, "data/b/").await, ["B"]);
    let rejected = rejected(&*store).await;
    let aside: Vec<_> = rejected["processing-failed"]
        .iter()
        .map(|(text, line)| (text.as_str(), line["errorCode"].as_str().unwrap()))
        .collect();
    assert_eq!(
        aside,
        [
            ("fail", "Lambda.ProcessingFailedStatus"),
            ("lost", "Lambda.FunctionError"),
            ("no data", "Lambda.ProcessingFailedStatus")
        ]
    );
    let mut source = under(&store, "source/").await;
    source.sort();
    assert_eq!(source, ["a1a2", "b", "drop", "faillostno data"]);
    assert_eq!(delivery.metrics().dropped_records, 1);
}

#[tokio::test]
async fn records_of_a_function_that_keeps_failing_are_put_aside() {
    let peer = Peer::serve(|request| function(&request)).await;
    peer.fail(vec![Fault::HangUp; 4]);
    let (_, store) = deliver(&peer, &["a", "b"]).await;
    let rejected = rejected(&*store).await;
    let codes: Vec<_> = rejected["processing-failed"].iter().map(|(_, line)| line["errorCode"].clone()).collect();
    assert_eq!(codes, ["Lambda.FunctionError", "Lambda.FunctionError"]);
}
