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
