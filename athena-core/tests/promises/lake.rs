//! A small lake in memory: Parquet files in Hive folders, and the same rows in one flat file.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use athena_core::{Athena, AthenaBuilder, QueryExecution, StartQuery, arrow};
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use table_core::{
    Change, Column, Database, Format, HiveType, MemoryMetastore, Metastore, PartitionDef, Statistics, TableDef,
};

pub(crate) const MONTHS: i64 = 6;
pub(crate) const CITIES: [Option<&str>; 4] = [Some("oslo"), Some("São Paulo"), Some("a/b=c"), None];
pub(crate) const ROWS_PER_FILE: i64 = 100;

/// Store and catalog together.
#[derive(Clone, Debug)]
pub(crate) struct Lake {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) catalog: Arc<MemoryMetastore>,
}

impl Lake {
    pub(crate) async fn empty() -> Self {
        let catalog = Arc::new(MemoryMetastore::new());
        catalog.commit(Change::new().create_database(Database::new("lake"))).await.unwrap();
        Self { store: Arc::new(InMemory::new()), catalog }
    }

    /// `events`, partitioned by month and city, two files a partition; `flat`, the same rows in one file.
    pub(crate) async fn with_events() -> Self {
        let lake = Self::empty().await;
        let columns = [
            Column::new("id", HiveType::BigInt),
            Column::new("kind", HiveType::String),
            Column::new("price", HiveType::Double),
            Column::new("day", HiveType::Date),
            Column::new("qty", HiveType::Int),
        ];
        let keys = [Column::new("month", HiveType::Int), Column::new("city", HiveType::String)];
        let events = TableDef::new("lake", "events", "lake/events", Format::Parquet).with_columns(columns.clone());
        let events = events.with_partition_keys(keys.clone());
        let flat =
            TableDef::new("lake", "flat", "lake/flat", Format::Parquet).with_columns(columns.into_iter().chain(keys));
        let (mut partitions, mut all) = (Vec::new(), Vec::new());
        for month in 1..=MONTHS {
            for city in CITIES {
                let mut bytes = 0;
                let plain = PartitionDef::new([Some(month.to_string()), city.map(str::to_owned)]);
                for file in 0..2 {
                    let rows = rows(month, city, file);
                    let body = parquet_file(std::slice::from_ref(&rows), 40);
                    bytes += body.len() as u64;
                    let path = format!("{}/part-{file}.parquet", plain.path(&events));
                    lake.put(&path, body).await;
                    all.push(with_keys(&rows, month, city));
                }
                partitions.push(plain.with_statistics(Statistics::new(Some(200), Some(bytes), Some(2))));
            }
        }
        lake.put("lake/flat/all.parquet", parquet_file(&all, 1000)).await;
        let change = Change::new().create_table(events).create_table(flat).add_partitions("lake", "events", partitions);
        lake.catalog.commit(change).await.unwrap();
        lake
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Bytes>) {
        self.store.put(&Path::parse(path).unwrap(), body.into().into()).await.unwrap();
    }

    pub(crate) async fn create(&self, table: TableDef) {
        self.catalog.commit(Change::new().create_table(table)).await.unwrap();
    }

    pub(crate) fn builder(&self) -> AthenaBuilder {
        Athena::on(Arc::clone(&self.store), "results").metastore(Arc::clone(&self.catalog) as _).with_threads(2)
    }

    pub(crate) fn athena(&self) -> Athena {
        self.builder().build().unwrap()
    }
}

pub(crate) fn in_lake(sql: &str) -> StartQuery {
    StartQuery::new(sql).with_database("lake")
}

/// Runs a query to its end and returns its texts and its record.
pub(crate) async fn texts(athena: &Athena, sql: &str) -> (Vec<athena_core::Row>, QueryExecution) {
    let result = athena.query(in_lake(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    (result.text_rows().unwrap(), result.execution)
}

/// The one text of a one-value answer.
pub(crate) async fn one(athena: &Athena, sql: &str) -> Option<String> {
    let (rows, _) = texts(athena, sql).await;
    assert_eq!((rows.len(), rows.first().map(Vec::len)), (1, Some(1)), "{sql}");
    rows[0][0].clone()
}

fn rows(month: i64, city: Option<&str>, file: i64) -> RecordBatch {
    let at = CITIES.iter().position(|one| *one == city).unwrap() as i64;
    let first = ((month * 4 + at) * 2 + file) * ROWS_PER_FILE;
    let ids: Vec<i64> = (first..first + ROWS_PER_FILE).collect();
    let kind = ids.iter().map(|id| (id % 5 != 0).then(|| ["view", "buy", "", "return"][(*id % 4) as usize]));
    let price = ids.iter().map(|id| (id % 7 != 0).then_some(*id as f64 / 8.0));
    let day = ids.iter().map(|id| (id % 11 != 0).then_some(20_000 + (*id % 365) as i32));
    let qty = ids.iter().map(|id| (*id % 13) as i32 - 6);
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from(ids.clone()))),
        ("kind", Arc::new(kind.collect::<StringArray>())),
        ("price", Arc::new(price.collect::<Float64Array>())),
        ("day", Arc::new(day.collect::<Date32Array>())),
        ("qty", Arc::new(Int32Array::from_iter_values(qty))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn with_keys(rows: &RecordBatch, month: i64, city: Option<&str>) -> RecordBatch {
    let names = rows.schema();
    let columns = names.fields().iter().map(|field| field.name().as_str()).zip(rows.columns().iter().cloned());
    let month: ArrayRef = Arc::new(Int32Array::from(vec![month as i32; rows.num_rows()]));
    let city: ArrayRef = Arc::new(StringArray::from(vec![city; rows.num_rows()]));
    let columns = columns.chain([("month", month), ("city", city)]);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

pub(crate) fn parquet_file(batches: &[RecordBatch], rows_per_group: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.into_inner().unwrap()
}
