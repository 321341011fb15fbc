//! One partition of the example's flights, by athena-core and by DataFusion's own listing table over the same files.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::partition;
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format as CsvFormat;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use athena_core::{Athena, StartQuery};
use benches::Ratio;
use criterion::{Criterion, criterion_group};
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::ListingOptions;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use durable_core::DurableLocal;
use flate2::read::GzDecoder;
use regex::Regex;
use table_core::{Change, Column, Database, Format, HiveType, MemoryMetastore, Metastore, PartitionDef, TableDef};

const QUESTION: &str = "select carrier, count(*) as flights, avg(dep_delay) as delay from flights where month = 7 and day = 4 group by carrier";

/// The bundled flights, one batch a day.
fn days() -> (SchemaRef, Vec<(i64, i64, RecordBatch)>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/flights.csv.gz");
    let mut text = Vec::new();
    GzDecoder::new(File::open(file).unwrap()).read_to_end(&mut text).unwrap();
    let format = CsvFormat::default().with_header(true).with_null_regex(Regex::new("^(NA)?$").unwrap());
    let (schema, _) = format.infer_schema(text.as_slice(), None).unwrap();
    let reader = ReaderBuilder::new(Arc::new(schema)).with_format(format).with_batch_size(100_000);
    let flights = reader.build(text.as_slice()).unwrap().next().unwrap().unwrap();
    let key = |name: &str| flights.column_by_name(name).unwrap().clone();
    let ranges = partition(&[key("month"), key("day")]).unwrap().ranges();
    let (month, day) = (key("month"), key("day"));
    let value = |column: &arrow::array::ArrayRef, row: usize| column.as_primitive::<Int64Type>().value(row);
    let days = ranges.into_iter().map(|range| {
        let rows = flights.slice(range.start, range.len());
        let (month_at, day_at) = (rows.schema().index_of("month").unwrap(), rows.schema().index_of("day").unwrap());
        let kept: Vec<usize> = (0..rows.num_columns()).filter(|column| ![month_at, day_at].contains(column)).collect();
        (value(&month, range.start), value(&day, range.start), rows.project(&kept).unwrap())
    });
    let days: Vec<_> = days.collect();
    (days[0].2.schema(), days)
}

fn write(root: &Path) -> (SchemaRef, Vec<PartitionDef>) {
    let (schema, days) = days();
    let mut partitions = Vec::new();
    for (month, day, batch) in days {
        let folder = root.join(format!("flights/month={month}/day={day}"));
        fs::create_dir_all(&folder).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(folder.join("a.parquet")).unwrap(), schema.clone(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        partitions.push(PartitionDef::of([month.to_string(), day.to_string()]));
    }
    (schema, partitions)
}

fn one_partition(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (schema, partitions) = write(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let athena = runtime.block_on(athena(dir.path(), &schema, partitions));
    let stock = runtime.block_on(stock(dir.path()));
    let mut group = criterion.benchmark_group("query");
    group.sample_size(30);
    group.bench_function("one day of 365 by athena-core", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let query = StartQuery::new(QUESTION).with_database("lake");
            let mut rows = athena.stream(query).await.unwrap().into_arrow().1;
            let mut count = 0;
            while let Some(batch) = futures::StreamExt::next(&mut rows).await {
                count += batch.unwrap().num_rows();
            }
            assert!(count > 5);
        });
    });
    group.bench_function("one day of 365 by a listing table", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let batches = stock.sql(QUESTION).await.unwrap().collect().await.unwrap();
            assert!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() > 5);
        });
    });
    group.finish();
}

async fn athena(dir: &Path, schema: &SchemaRef, partitions: Vec<PartitionDef>) -> Athena {
    let columns =
        schema.fields().iter().map(|field| Column::new(field.name(), HiveType::from_arrow(field.data_type()).unwrap()));
    let keys = ["month", "day"].map(|key| Column::new(key, HiveType::BigInt));
    let table =
        TableDef::new("lake", "flights", "flights", Format::Parquet).with_columns(columns).with_partition_keys(keys);
    let catalog = Arc::new(MemoryMetastore::new());
    let change = Change::new().create_database(Database::new("lake")).create_table(table);
    catalog.commit(change.add_partitions("lake", "flights", partitions)).await.unwrap();
    let store = Arc::new(DurableLocal::new(dir).unwrap());
    Athena::on(store, "results").metastore(catalog).build().unwrap()
}

async fn stock(dir: &Path) -> SessionContext {
    let context = SessionContext::new();
    let keys = vec![("month".to_owned(), DataType::Int64), ("day".to_owned(), DataType::Int64)];
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_table_partition_cols(keys);
    let folder = format!("{}/", dir.join("flights").display());
    context.register_listing_table("flights", folder, options, None, None).await.unwrap();
    context
}

criterion_group!(benches, one_partition);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    for line in benches::ratios(&[Ratio {
        ours: "query/one day of 365 by athena-core",
        theirs: "query/one day of 365 by a listing table",
        what: "DataFusion's listing table",
    }]) {
        println!("{line}");
    }
}
