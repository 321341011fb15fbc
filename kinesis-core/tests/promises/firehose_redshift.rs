//! Redshift has the rows of each object; an object that it does not load stays, with a manifest of it. Against PostgreSQL with a
//! stand-in for what COPY reads: see `postgres`.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::Kinesis;
use kinesis_core::firehose::{
    Compression, DeliveryEvent, DeliverySettings, DeliveryStream, OutputFormat, RecordsFormat, Separator,
};
use object_store::memory::InMemory;

use super::firehose_rig::{Heard, objects, until};
use super::postgres::{PASSWORD, Postgres, Redshift};

fn settings(retry: Duration) -> DeliverySettings {
    let format = RecordsFormat::new().with_separator(Separator::Newline).with_compression(Compression::Gzip);
    DeliverySettings::new()
        .with_prefix("load/")
        .with_buffer_bytes(2 * 1024)
        .with_destination_retry_duration(retry)
        .with_format(OutputFormat::Records(format))
}

fn table(redshift: &Redshift, store: &Arc<InMemory>, options: &str) -> kinesis_core::firehose::Redshift {
    let url = format!("jdbc:redshift://127.0.0.1:{}/postgres", redshift.port);
    kinesis_core::firehose::Redshift::new(&url, "public.events", store.clone(), "lake")
        .unwrap()
        .with_user("loader", PASSWORD)
        .with_columns("id,name")
        .with_credentials("aws_iam_role=arn:aws:iam::0:role/r")
        .with_copy_options(options)
}

async fn rows(postgres: &Postgres) -> Vec<(i64, String)> {
    let client = postgres.connect().await.unwrap();
    let rows = client.query("SELECT id, name FROM events ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_is_loaded_or_put_aside() {
    let Some(postgres) = Postgres::start("each_object_is_loaded_or_put_aside").await else { return };
    let store = Arc::new(InMemory::new());
    let redshift = Redshift::serve(&postgres, store.clone()).await;
    let kinesis = Kinesis::memory().open().await.unwrap();

    // The table is not there yet.
    let heard = Heard::default();
    let delivery = DeliveryStream::direct("d", kinesis.clone(), store.clone())
        .with_settings(settings(Duration::from_secs(600)))
        .with_destination(table(&redshift, &store, "JSON 'auto' GZIP"))
        .with_listener(heard.listener())
        .open()
        .await
        .unwrap();
    let record = |id: u64| format!(r#"{{"id":{id},"name":"it's \"{id}\"","more":[1]}}"#);
    delivery.put_record_batch((0..200).map(|id| record(id).into()).collect()).await.unwrap();
    until(|| heard.count(|event| matches!(event, DeliveryEvent::Retrying(_))) > 2).await;
    let reasons = heard.all().into_iter().filter_map(|event| match event {
        DeliveryEvent::Retrying(retrying) => Some(retrying.reason),
        _ => None,
    });
    assert!(reasons.take(1).all(|reason| reason.starts_with("42P01: relation")), "{:?}", heard.all());
    let client = postgres.connect().await.unwrap();
    client.batch_execute("CREATE TABLE events (id bigint NOT NULL, name varchar(40))").await.unwrap();
    delivery.flush().await.unwrap();
    delivery.put_record_batch((200..300).map(|id| record(id).into()).collect()).await.unwrap();
    delivery.flush().await.unwrap();
    let expected: Vec<_> = (0..300).map(|id| (id, format!("it's \"{id}\""))).collect();
    assert_eq!(rows(&postgres).await, expected);
    let copies = redshift.copies.lock().unwrap().clone();
    assert_eq!(copies.len(), 2);
    assert!(copies[0].starts_with("COPY public.events (id,name) FROM 's3://lake/manifests/load/"), "{copies:?}");
    let metrics = delivery.metrics();
    assert_eq!((metrics.delivered_rows, metrics.rejected_records), (300, 0));
    delivery.close().await.unwrap();

    // An answer that is lost is asked for again: twice the rows, as documented, and none lost.
    *redshift.answers_lost.lock().unwrap() = 1;
    let delivery = DeliveryStream::direct("e", kinesis.clone(), store.clone())
        .with_settings(settings(Duration::from_secs(600)))
        .with_destination(table(&redshift, &store, "JSON 'auto' GZIP"))
        .open()
        .await
        .unwrap();
    delivery.put_record(record(1_000)).await.unwrap();
    delivery.flush().await.unwrap();
    assert_eq!(rows(&postgres).await.iter().filter(|(id, _)| *id == 1_000).count(), 2);
    delivery.close().await.unwrap();

    // What the table does not take stays in the store.
    let delivery = DeliveryStream::direct("f", kinesis, store.clone())
        .with_settings(settings(Duration::from_millis(300)))
        .with_destination(table(&redshift, &store, "JSON 'auto' GZIP"))
        .open()
        .await
        .unwrap();
    delivery.put_record(r#"{"id":"many","name":"x"}"#).await.unwrap();
    delivery.flush().await.unwrap();
    assert_eq!((delivery.metrics().delivered_rows, delivery.metrics().rejected_records), (0, 1));
    let objects = objects(&*store).await;
    let (_, manifest) = objects.iter().find(|(path, _)| path.starts_with("load/errors/manifests/")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    let url = manifest["entries"][0]["url"].as_str().unwrap();
    assert!(objects.contains_key(url.strip_prefix("s3://lake/").unwrap()), "{url}");
    assert_eq!(rows(&postgres).await.len(), 302);
}
