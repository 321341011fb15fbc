//! OpenSearch has each record as one document, however often it is sent. Against a stand-in: see `http_peers`.

use std::sync::Arc;

use kinesis_core::Kinesis;
use kinesis_core::firehose::{DeliverySettings, DeliveryStream, DocumentIds, IndexRotation, OpenSearch};
use object_store::memory::InMemory;

use super::firehose_rig::{ERRORS, rejected};
use super::http_peers::{Fault, Search};

async fn deliver(index: OpenSearch, records: Vec<String>) -> (DeliveryStream, Arc<InMemory>) {
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let settings = DeliverySettings::new().with_error_output_prefix(ERRORS);
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings);
    let delivery = builder.with_destination(index).open().await.unwrap();
    for records in records.chunks(400) {
        delivery.put_record_batch(records.iter().cloned().map(Into::into).collect()).await.unwrap();
    }
    delivery.flush().await.unwrap();
    (delivery, store)
}

fn document(id: u64) -> String {
    format!("{{\"id\":{id},\n\r \"text\":\"a\\nb\"}}")
}

#[tokio::test]
async fn each_record_is_one_document_although_it_is_sent_twice() {
    let search = Search::default();
    let peer = search.serve().await;
    peer.fail([Fault::AppliedAndHangUp, Fault::Answer(503, "{}".to_owned()), Fault::AppliedBut(200, "{}".to_owned())]);
    let index = OpenSearch::new(&peer.url, "logs").unwrap().with_user("u", "p").with_rotation(IndexRotation::OneDay);
    let (delivery, store) = deliver(index, (0..1_000).map(document).collect()).await;
    let documents = search.documents.lock().unwrap().clone();
    let mut ids: Vec<_> = documents.values().map(|document| document["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
    assert!(documents.keys().all(|(index, _)| index.len() == "logs-2016-02-25".len()), "{:?}", documents.keys().next());
    assert!(documents.values().all(|document| document["text"] == "a\nb"));
    assert_eq!(*search.authorization.lock().unwrap(), "Basic dTpw");
    assert!(rejected(&*store).await.is_empty());
    assert_eq!(delivery.metrics().delivered_rows, 1_000);
}

#[tokio::test]
async fn only_what_is_refused_for_now_is_sent_again() {
    let search = Search::default();
    let peer = search.serve().await;
    let records = vec![
        r#"{"id":1}"#.to_owned(),
        r#"{"id":2,"busy":2}"#.to_owned(),
        r#"{"id":3,"number":"many"}"#.to_owned(),
        "no document".to_owned(),
        "[1]".to_owned(),
    ];
    let (_, store) = deliver(OpenSearch::new(&peer.url, "logs").unwrap(), records).await;
    let sent = |id: &str| search.sent.lock().unwrap()[id];
    assert_eq!((sent("1"), sent("2"), sent("3")), (1, 3, 1));
    assert_eq!(search.documents.lock().unwrap().len(), 2);
    let rejected = rejected(&*store).await;
    let aside = &rejected["AmazonOpenSearchService-failed"];
    assert_eq!(
        aside.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(),
        [r#"{"id":3,"number":"many"}"#, "no document", "[1]"]
    );
    let (_, line) = &aside[0];
    assert_eq!(line["errorCode"], "400");
    assert_eq!(line["errorMessage"], "mapper_parsing_exception: failed to parse field [number] of type [long]");
    assert_eq!((&line["esIndexName"], &line["esTypeName"]), (&"logs".into(), &"_doc".into()));
    assert_eq!(line["esDocumentId"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn the_service_may_name_documents() {
    let search = Search::default();
    let peer = search.serve().await;
    let index = OpenSearch::new(&peer.url, "logs").unwrap().with_document_ids(DocumentIds::OfTheService);
    deliver(index, vec![document(1)]).await;
    let documents = search.documents.lock().unwrap();
    assert!(documents.keys().all(|(_, id)| id.starts_with("made-")) && documents.len() == 1);
}
