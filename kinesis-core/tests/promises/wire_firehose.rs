//! Delivery streams that clients of AWS make work as those clients said, over restarts too.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::server::{Firehose, firehose_service, service};
use kinesis_core::{ErrorKind, Kinesis, PutRecord};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
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

#[cfg(all(feature = "firehose-http", feature = "redshift"))]
#[tokio::test(flavor = "multi_thread")]
async fn what_boto3_sends_to_endpoints_arrives_there_or_in_s3() {
    use kinesis_core::firehose::{TransformRecord, TransformResult, transform_fn};
    use table_core::{Change, Column, Database, Format, HiveType, MemoryMetastore, Metastore, TableDef};

    use super::firehose_http_transform::function;
    use super::http_peers::{Collector, Hec, Peer, Search};
    use super::postgres::{Postgres, Redshift};

    let name = "what_boto3_sends_to_endpoints_arrives_there_or_in_s3";
    if !has(name, &["boto3"], &[]).await {
        return;
    }
    let Some(postgres) = Postgres::start(name).await else { return };
    let (collector, hec, search) = (Collector::default(), Hec::default(), Search::default());
    let peers = [
        collector.serve().await,
        hec.serve().await,
        search.serve().await,
        Peer::serve(|request| function(&request)).await,
    ];
    let columns = [Column::new("id", HiveType::BigInt), Column::new("name", HiveType::String)];
    let table = TableDef::new("lake", "events", "events", Format::Parquet).with_columns(columns);
    let catalog = Arc::new(MemoryMetastore::default());
    catalog.commit(Change::new().create_database(Database::new("lake")).create_table(table)).await.unwrap();
    let upper = |record: &TransformRecord| TransformResult::ok(String::from_utf8_lossy(&record.data).replace('a', "A"));
    let (kinesis, store) = (Kinesis::memory().open().await.unwrap(), Arc::new(InMemory::new()));
    let redshift = Redshift::serve(&postgres, Arc::new(PrefixStore::new(store.clone(), "lake"))).await;
    let database = postgres.connect().await.unwrap();
    database.batch_execute("CREATE TABLE events (id bigint, name varchar(40))").await.unwrap();
    let firehose = Firehose::builder(kinesis.clone(), store.clone())
        .with_function("arn:aws:lambda:us-east-1:0:function:upper", transform_fn(upper))
        .with_catalog(catalog)
        .open()
        .await
        .unwrap();
    let server = serve(&kinesis, &firehose).await;
    let mut python = client("python3");
    python.arg(script("boto3_firehose_endpoints.py")).arg(server.url()).args(peers.iter().map(|peer| &peer.url));
    python.arg(format!("jdbc:redshift://127.0.0.1:{}/postgres", redshift.port));
    succeed(python).await;
    for name in firehose.names() {
        firehose.delivery_stream(&name).unwrap().flush().await.unwrap();
    }
    assert_eq!(collector.records(), ["BY HTTP"]);
    assert_eq!(*collector.access_key.lock().unwrap(), "a secret");
    assert!(collector.source_arn.lock().unwrap().ends_with(":deliverystream/http"));
    assert_eq!(*hec.events.lock().unwrap(), ["by splunk"]);
    let documents: Vec<_> = search.documents.lock().unwrap().keys().map(|(index, _)| index.clone()).collect();
    assert_eq!((documents[0].as_str(), documents[1].len()), ("logs", "logs-2016-02".len()));
    let loaded = database.query_one("SELECT id, name FROM events", &[]).await.unwrap();
    assert_eq!((loaded.get::<_, i64>(0), loaded.get::<_, String>(1)), (7, "loaded".to_owned()));
    let objects = objects(&*store).await;
    assert_eq!(below(&objects, "lake/moved/"), ["moved"]);
    assert_eq!(below(&objects, "raw/loaded/"), [r#"{"id": 7, "name": "loaded"}"#]);
    let mut backup = String::new();
    let (_, gzip) = objects.iter().find(|(path, _)| path.starts_with("backup/http/")).unwrap();
    flate2::read::GzDecoder::new(gzip.as_ref()).read_to_string(&mut backup).unwrap();
    assert_eq!(backup, "by http");
    assert_eq!(below(&objects, "backup/splunk-failed/splunk-failed/").len(), 1, "{:?}", objects.keys());
    assert_eq!(below(&objects, "lake/events/format-conversion-failed/").len(), 1);
    let (_, file) = objects.iter().find(|(path, _)| path.ends_with(".parquet")).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().unwrap();
    let batch = reader.next().unwrap().unwrap();
    assert_eq!((batch.num_rows(), batch.schema().fields().len()), (1, 2));
    let raw: Vec<_> = objects.iter().filter(|(path, _)| path.starts_with("raw/as-they-came/")).collect();
    assert!(raw.iter().any(|(_, bytes)| bytes.windows(10).any(|part| part == br#""name": "a"#)), "{raw:?}");
    server.close().await;
}
