//! Delivery streams that clients of AWS make work as those clients said, over restarts too.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::server::{Firehose, firehose_service, service};
use kinesis_core::{ErrorKind, Kinesis, PutRecord};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use wire_core::{Credentials, Server, Services, Settings};

use super::firehose_rig::objects;
use super::stage::reopen;
use super::wire_stage::{KEY, client, has, script, succeed};

async fn serve(kinesis: &Kinesis, firehose: &Firehose) -> Server {
    let credentials = Credentials::default().with_key(KEY.0, KEY.1);
    let services = Services::new(Settings::default())
        .with(service(kinesis.clone()))
        .with(firehose_service(firehose.clone()))
        .with_credentials(credentials);
    Server::bind("127.0.0.1:0", services).await.unwrap()
}

/// What is under a prefix of the bucket, unpacked if it is gzip, without the objects' own names.
fn below(objects: &BTreeMap<String, Bytes>, prefix: &str) -> Vec<String> {
    let under = objects.iter().filter(|(path, _)| path.starts_with(prefix));
    let texts = under.map(|(path, bytes)| {
        let mut text = String::new();
        if path.ends_with(".json.gz") {
            flate2::read::MultiGzDecoder::new(bytes.as_ref()).read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(bytes.to_vec()).unwrap();
        }
        text
    });
    let mut lines: Vec<_> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_every_operation_of_firehose_and_what_it_puts_is_delivered() {
    if !has("boto3_finds_every_operation_of_firehose_and_what_it_puts_is_delivered", &["boto3"], &[]).await {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(InMemory::new());
    {
        let kinesis = reopen(dir.path()).await;
        let stream = kinesis.create_stream("s", 1).await.unwrap();
        let firehose = Firehose::open(kinesis.clone(), store.clone()).await.unwrap();
        let server = serve(&kinesis, &firehose).await;
        let mut python = client("python3");
        python.arg(script("boto3_firehose.py")).arg(server.url());
        let told = succeed(python).await;
        assert!(told.contains("not called: []"), "{told}");
        stream.put_record(PutRecord::new("a line\n", "k")).await.unwrap();
        server.close().await;
        firehose.close().await.unwrap();
        kinesis.close().await.unwrap();
    }
    // All that was accepted is delivered by the next one, as it was told before.
    let kinesis = reopen(dir.path()).await;
    let firehose = Firehose::open(kinesis.clone(), store.clone()).await.unwrap();
    assert_eq!(firehose.names(), ["direct", "reading"]);
    assert_eq!(kinesis.list_streams().len(), 1);
    for name in firehose.names() {
        firehose.delivery_stream(&name).unwrap().flush().await.unwrap();
    }
    let objects = objects(&*store).await;
    let oslo = below(&objects, "lake/events/city=Oslo/direct-");
    assert_eq!(oslo.len(), 8, "{objects:?}");
    assert_eq!(below(&objects, "lake/events/city=Rome/"), [r#"{"at": {"city": "Rome"}, "number": 2}"#]);
    assert_eq!(below(&objects, "lake/errors/processing-failed/").len(), 1);
    assert_eq!(below(&objects, "lake/read-again/"), ["a line"]);
    firehose.close().await.unwrap();
}

#[tokio::test]
async fn delivery_streams_of_an_app_are_its_own() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let own =
        kinesis_core::firehose::DeliveryStream::direct("own", kinesis.clone(), store.clone()).open().await.unwrap();
    let firehose = Firehose::open(kinesis.clone(), store).await.unwrap();
    assert!(firehose.names().is_empty());
    assert_eq!(firehose.delivery_stream("own").unwrap_err().kind(), ErrorKind::NotFound);
    own.put_record("x").await.unwrap();
    own.flush().await.unwrap();
}
