//! CSV and JSON-lines tables read as they were crawled: columns by each file's own header, bad values NULL and counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use object_store::local::LocalFileSystem;
use table_core::csv::CsvSettings;
use table_core::{Change, Column, Format, HiveType, Metastore, PartitionDef, TableDef};
use tokio::sync::Semaphore;

use crate::counting_store::CountingStore;
use crate::lake::{Lake, in_lake, one, texts};

fn columns() -> [Column; 3] {
    [
        Column::new("id", HiveType::BigInt),
        Column::new("name", HiveType::String),
        Column::new("price", HiveType::Decimal(10, 2)),
    ]
}

#[tokio::test]
async fn csv_columns_are_found_by_each_files_header() {
    let lake = Lake::empty().await;
    let mut table = TableDef::new("lake", "prices", "prices", Format::Csv).with_columns(columns());
    table = table.with_partition_keys([Column::new("year", HiveType::Int)]);
    for (name, value) in CsvSettings::default().to_properties() {
        table = table.with_property(name, value);
    }
    let partitions = ["2023", "2024"].map(|year| PartitionDef::of([year])).to_vec();
    let change = Change::new().create_table(table).add_partitions("lake", "prices", partitions);
    lake.catalog.commit(change).await.unwrap();
    lake.put("prices/year=2023/a.csv", "id,name,price\n1,\"a,\nb\",1.50\n2,,\n").await;
    lake.put("prices/year=2023/b.csv", "price,ID\n2.25,3\ncheap,4\n").await;
    lake.put("prices/year=2024/c.csv", "id,name,price\n5,x,5\nbroken\n").await;
    let athena = lake.athena();
    let (rows, execution) = texts(&athena, "select id, name, price, year from prices order by id").await;
    let expected = [
        [Some("1"), Some("a,\nb"), Some("1.50"), Some("2023")],
        [Some("2"), Some(""), None, Some("2023")],
        [Some("3"), None, Some("2.25"), Some("2023")],
        [Some("4"), None, None, Some("2023")],
        [Some("5"), Some("x"), Some("5.00"), Some("2024")],
    ];
    assert_eq!(rows, expected.map(|row| row.map(|text| text.map(str::to_owned)).to_vec()));
    assert_eq!((execution.statistics.rows_rejected, execution.statistics.values_nulled), (1, 1));
    let (rows, execution) = texts(&athena, "select count(*) from prices where year = 2023").await;
    assert_eq!((rows[0][0].as_deref(), execution.statistics.partitions_read), (Some("4"), 1));
    assert_eq!(one(&athena, "select name from prices where price > 4").await.as_deref(), Some("x"));
    assert_eq!(one(&athena, "select max(year) from prices").await.as_deref(), Some("2024"));
}

#[tokio::test]
async fn json_lines_are_read_by_key_and_large_files_in_pieces() {
    let lake = Lake::empty().await;
    lake.create(TableDef::new("lake", "lines", "lines", Format::Json).with_columns(columns())).await;
    let mut body = String::from("{\"ID\": 0, \"name\": null, \"other\": [1]}\n");
    for id in 1..40_000 {
        body.push_str(&format!("{{\"id\": {id}, \"name\": \"name of {id}\", \"price\": \"{}.25\"}}\n", id % 100));
    }
    assert!(body.len() > 2 * 1024 * 1024);
    lake.put("lines/a.json", body).await;
    let athena = lake.athena();
    let (rows, execution) = texts(&athena, "select count(*), sum(id), max(price), count(name) from lines").await;
    let expected = ["40000", "799980000", "99.25", "39999"].map(|text| Some(text.to_owned()));
    assert_eq!(rows, [expected.to_vec()]);
    assert_eq!(Some(execution.statistics.transferred_bytes), execution.statistics.total_bytes);
    assert_eq!(one(&athena, "select name from lines where id = 39999").await.as_deref(), Some("name of 39999"));
}

#[tokio::test]
async fn a_packed_file_is_refused_by_name() {
    let lake = Lake::empty().await;
    lake.create(TableDef::new("lake", "packed", "packed", Format::Json).with_columns(columns())).await;
    lake.put("packed/a.json.gz", "x").await;
    let error = lake.athena().query(in_lake("select * from packed")).await.unwrap_err();
    assert!(error.message().contains("packed/a.json.gz"), "{error:?}");
}

#[tokio::test]
async fn more_files_are_read_at_once_than_the_store_has_threads() {
    const FILES: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let mut lake = Lake::empty().await;
    lake.store = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).unwrap());
    lake.create(TableDef::new("lake", "lines", "lines", Format::Json).with_columns(columns())).await;
    lake.put("lines/a.json", "{\"id\": 1}\n").await;
    let gate = Arc::new(Semaphore::new(0));
    let store = Arc::new(CountingStore::gated(Arc::clone(&lake.store), "lines", Arc::clone(&gate)));
    let athena = lake.builder().data_store(Arc::clone(&store) as _).build().unwrap();
    let scans = vec!["select id from lines"; FILES].join(" union all ");
    let sql = format!("select sum(id) from ({scans})");
    let all_wait = async {
        while store.waited.load(Ordering::SeqCst) < FILES as u64 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(FILES);
    };
    let (sum, ()) = tokio::join!(one(&athena, &sql), all_wait);
    assert_eq!(sum.as_deref(), Some("200"));
}

#[tokio::test]
async fn a_table_may_be_one_file() {
    let lake = Lake::empty().await;
    lake.create(TableDef::new("lake", "lines", "data/lines.json", Format::Json).with_columns(columns())).await;
    let athena = lake.athena();
    assert_eq!(one(&athena, "select count(*) from lines").await.as_deref(), Some("0"));
    lake.put("data/lines.json", "{\"id\": 1}\n{\"id\": 2}\n").await;
    lake.put("data/lines.json.old", "{\"id\": 3}\n").await;
    let (rows, execution) = texts(&athena, "select sum(id) from lines").await;
    assert_eq!((rows[0][0].as_deref(), execution.statistics.files_read), (Some("3"), 1));
}
