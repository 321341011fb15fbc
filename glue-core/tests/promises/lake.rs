//! What the tests share: a lake of small files, and reading a crawled table back.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use glue_core::object_store::memory::InMemory;
use glue_core::object_store::path::Path;
use glue_core::object_store::{ObjectStore, ObjectStoreExt};
use glue_core::table_core::arrow::array::{ArrayRef, Int64Array, StringArray};
use glue_core::table_core::arrow::record_batch::RecordBatch;
use glue_core::table_core::arrow::util::display::{ArrayFormatter, FormatOptions};
use glue_core::table_core::csv::{CsvReader, CsvSettings};
use glue_core::table_core::json::JsonReader;
use glue_core::table_core::parquet_file::{ParquetSettings, write_parquet};
use glue_core::{Change, Column, CrawlReport, Database, Format, Glue, HiveType, Metastore, TableDef};

pub(crate) async fn lake(files: &[(&str, &str)]) -> Arc<dyn ObjectStore> {
    let store = InMemory::new();
    for (path, text) in files {
        store.put(&Path::parse(path).unwrap(), (*text).to_owned().into()).await.unwrap();
    }
    Arc::new(store)
}

pub(crate) fn parquet(ids: &[i64], name: Option<&str>) -> Vec<u8> {
    let mut columns: Vec<(&str, ArrayRef)> = vec![("id", Arc::new(Int64Array::from(ids.to_vec())))];
    if let Some(name) = name {
        columns.push(("name", Arc::new(StringArray::from(vec![name; ids.len()]))));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    write_parquet(batch.schema(), &[batch], &ParquetSettings::default()).unwrap().to_vec()
}

pub(crate) async fn crawl(glue: &Glue, data: &Arc<dyn ObjectStore>, target: &str) -> CrawlReport {
    glue.crawler("test", Arc::clone(data), Path::from(target)).with_database("db").run().await.unwrap()
}

pub(crate) async fn table(glue: &Glue, name: &str) -> Arc<TableDef> {
    let table = glue.catalog().table("db", name).await.unwrap();
    table.unwrap_or_else(|| panic!("no table {name}"))
}

/// `name:type` of each column, keys after a bar.
pub(crate) fn shape(table: &TableDef) -> String {
    let show = |columns: &[Column]| {
        columns.iter().map(|c| format!("{}:{}", c.name, c.hive_type)).collect::<Vec<_>>().join(" ")
    };
    let keys =
        if table.partition_keys.is_empty() { String::new() } else { format!(" | {}", show(&table.partition_keys)) };
    show(&table.columns) + &keys
}

/// All values of a text table as text by column, read as its properties say; panics if anything is rejected or nulled.
pub(crate) async fn values(data: &Arc<dyn ObjectStore>, table: &TableDef) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut objects: Vec<_> = data.list(Some(&Path::from(table.location.as_str()))).try_collect().await.unwrap();
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    for object in objects.into_iter().filter(|object| object.size > 0) {
        let bytes = data.get(&object.location).await.unwrap().bytes().await.unwrap();
        let name = object.location.to_string();
        let decoded: Vec<_> = match table.format {
            Format::Csv => {
                let settings = CsvSettings::from_properties(&table.properties).unwrap();
                CsvReader::new(bytes.as_ref(), name, table.file_schema(), settings)
                    .unwrap()
                    .map(Result::unwrap)
                    .collect()
            }
            _ => JsonReader::new(bytes.as_ref(), name, table.file_schema()).unwrap().map(Result::unwrap).collect(),
        };
        for decoded in decoded {
            assert!(decoded.rejects.is_empty() && decoded.nulled.is_empty(), "{decoded:?}");
            for (field, array) in decoded.batch.schema().fields().iter().zip(decoded.batch.columns()) {
                let format = ArrayFormatter::try_new(array, &FormatOptions::default().with_null("NULL")).unwrap();
                let column = values.entry(field.name().clone()).or_default();
                column.extend((0..array.len()).map(|row| format.value(row).to_string()));
            }
        }
    }
    values
}

/// A table `db.t` partitioned by a text `writer` and a whole `n`.
pub(crate) async fn with_table(glue: &Glue) {
    let table = TableDef::new("db", "t", "t", Format::Parquet)
        .with_columns([Column::new("id", HiveType::BigInt)])
        .with_partition_keys([Column::new("writer", HiveType::String), Column::new("n", HiveType::Int)]);
    glue.catalog().commit(Change::new().create_database(Database::new("db")).create_table(table)).await.unwrap();
}
