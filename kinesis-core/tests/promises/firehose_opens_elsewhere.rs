//! What is delivered, other tools open, and find all of it.

use std::path::Path;
use std::sync::Arc;

use durable_core::DurableLocal;
use kinesis_core::Kinesis;
use kinesis_core::firehose::{
    Compression, DeliverySettings, DeliveryStream, OutputFormat, ParquetCompression, ParquetFormat, PartitionColumns,
    RecordsFormat, Separator,
};

use super::firehose_rig::{by_day, put_flights};
use super::wire_stage::{client, has, script, succeed};

const FLIGHTS: u64 = 3_000;

async fn deliver(folder: &Path, settings: DeliverySettings) {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 2).await.unwrap();
    put_flights(&source, 0..FLIGHTS).await;
    let store = Arc::new(DurableLocal::new(folder).unwrap());
    let delivery = DeliveryStream::builder("d", source, store).with_settings(settings).open().await.unwrap();
    delivery.flush().await.unwrap();
    delivery.close().await.unwrap();
    kinesis.close().await.unwrap();
}

/// What `tests/wire/delivered.py` finds in the folder.
async fn found(kind: &str, folder: &Path) -> Vec<String> {
    let mut python = client("python3");
    python.arg(script("delivered.py")).arg(kind).arg(folder);
    succeed(python).await.lines().map(str::to_owned).collect()
}

fn all(reader: &str) -> String {
    format!("{reader} {FLIGHTS} {}", FLIGHTS * (FLIGHTS - 1) / 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn pyarrow_and_duckdb_find_every_row_of_delivered_parquet() {
    let test = "pyarrow_and_duckdb_find_every_row_of_delivered_parquet";
    if !has(test, &["pyarrow", "duckdb"], &[]).await {
        return;
    }
    use ParquetCompression::{Gzip, Snappy, Uncompressed, Zstd};
    for compression in [Snappy, Gzip, Zstd, Uncompressed] {
        let dir = tempfile::tempdir().unwrap();
        let format = ParquetFormat::new().with_compression(compression).with_partition_columns(PartitionColumns::Omit);
        deliver(dir.path(), by_day().with_format(OutputFormat::Parquet(format))).await;
        let found = found("parquet", &dir.path().join("flights")).await;
        assert_eq!(found, [all("pyarrow"), all("duckdb")], "{compression:?}");
    }
}

#[cfg(feature = "orc")]
#[tokio::test(flavor = "multi_thread")]
async fn pyarrow_finds_every_row_of_delivered_orc() {
    use kinesis_core::firehose::{OrcCompression, OrcFormat};

    if !has("pyarrow_finds_every_row_of_delivered_orc", &["pyarrow"], &[]).await {
        return;
    }
    use OrcCompression::{Snappy, Uncompressed, Zlib, Zstd};
    for compression in [Snappy, Zlib, Zstd, Uncompressed] {
        let dir = tempfile::tempdir().unwrap();
        let format = OrcFormat::new().with_compression(compression).with_partition_columns(PartitionColumns::Omit);
        deliver(dir.path(), by_day().with_format(OutputFormat::Orc(format))).await;
        let found = found("orc", &dir.path().join("flights")).await;
        let types = "types carrier:string delay:double id:int64";
        assert_eq!(found, [all("pyarrow").as_str(), types, "carriers C0 C1 C2"], "{compression:?}");
    }
}

#[cfg(feature = "orc")]
#[tokio::test]
async fn orc_has_nested_values_as_text_and_refuses_nested_columns() {
    use std::sync::Arc;

    use kinesis_core::ErrorKind;
    use kinesis_core::firehose::arrow_schema::{DataType, Field, Schema};
    use kinesis_core::firehose::{OrcFormat, SchemaSource};
    use object_store::memory::InMemory;

    let kinesis = Kinesis::memory().open().await.unwrap();
    let settings = DeliverySettings::new().with_format(OutputFormat::Orc(OrcFormat::new()));
    let store = Arc::new(InMemory::new());
    let nested = Field::new("at", DataType::List(Arc::new(Field::new("item", DataType::Int64, true))), true);
    let builder = DeliveryStream::direct("d", kinesis.clone(), store.clone()).with_settings(settings.clone());
    let refused =
        builder.with_schema(SchemaSource::fixed(Arc::new(Schema::new(vec![nested])))).open().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.message().contains("\"at\""), "{refused:?}");
    let delivery = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings).open().await.unwrap();
    delivery.put_record(r#"{"id":1,"at":[1,2],"more":{"a":1}}"#).await.unwrap();
    delivery.flush().await.unwrap();
    assert_eq!((delivery.metrics().delivered_rows, delivery.metrics().rejected_records), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn python_decompresses_every_delivered_object() {
    if !has("python_decompresses_every_delivered_object", &["cramjam"], &[]).await {
        return;
    }
    use Compression::{Gzip, HadoopSnappy, None, Snappy, Zip};
    for compression in [None, Gzip, Zip, Snappy, HadoopSnappy] {
        let dir = tempfile::tempdir().unwrap();
        let format = RecordsFormat::new().with_separator(Separator::Newline).with_compression(compression);
        deliver(dir.path(), by_day().with_format(OutputFormat::Records(format))).await;
        assert_eq!(found("lines", &dir.path().join("flights")).await, [all("python")], "{compression:?}");
    }
}
