//! Folders become the partitions that a careful engineer would have made, and no others.

use std::sync::Arc;

use glue_core::object_store::path::Path;
use glue_core::object_store::{ObjectStore, ObjectStoreExt};
use glue_core::{Domain, Domains, Glue, Metastore};

use crate::lake::{crawl, lake, parquet, shape, table};

async fn shapes(files: &[(&str, &str)], target: &str) -> Vec<String> {
    let (data, glue) = (lake(files).await, Glue::memory().open().await.unwrap());
    let report = crawl(&glue, &data, target).await;
    let mut shapes = Vec::new();
    for planned in &report.plan.tables {
        let table = table(&glue, &planned.name).await;
        shapes.push(format!("{} at {}: {}", table.name, table.location, shape(&table)));
    }
    shapes
}

#[tokio::test]
async fn parquet_is_known_by_its_footers_and_pruned_by_typed_keys() {
    let data = lake(&[]).await;
    for month in 1..=12 {
        let name = (month > 6).then_some("late");
        let path = format!("lake/flights/month={month}/day=3/part.parquet");
        data.put(&Path::from(path), parquet(&[1, 2, 3], name).into()).await.unwrap();
    }
    let glue = Glue::memory().open().await.unwrap();
    crawl(&glue, &data, "lake/flights").await;
    let def = table(&glue, "flights").await;
    assert_eq!(shape(&def), "id:bigint name:string | month:int day:int");
    let two = Domains::all().with("month", Domain::one_of([2_i64, 11]));
    let selection = glue.catalog().select(&def, &two).await.unwrap();
    let paths: Vec<_> = selection.partitions.iter().map(|partition| partition.path(&def)).collect();
    assert_eq!(paths, ["lake/flights/month=2/day=3", "lake/flights/month=11/day=3"]);
    assert_eq!((selection.total, selection.partitions[0].statistics.rows), (12, Some(3)));
}

#[tokio::test]
async fn dated_folders_without_keys_are_partitions_by_place() {
    let files = [("logs/2024/01/31/a.json", "{\"a\":1}\n"), ("logs/2024/02/01/a.json", "{\"a\":2}\n")];
    assert_eq!(
        shapes(&files, "logs").await,
        ["logs at logs: a:bigint | partition_0:int partition_1:string partition_2:string"]
    );
    let drifting =
        [("logs/2024/01/31/a.json", "{\"a\":1,\"b\":1}\n"), ("logs/2024/02/01/a.json", "{\"a\":2,\"c\":1}\n")];
    let expected = "logs at logs: a:bigint b:bigint c:bigint | partition_0:int partition_1:string partition_2:string";
    assert_eq!(shapes(&drifting, "logs").await, [expected]);
    let (data, glue) = (lake(&files).await, Glue::memory().open().await.unwrap());
    crawl(&glue, &data, "").await;
    let def = table(&glue, "logs").await;
    let all = glue.catalog().select(&def, &Domains::all()).await.unwrap();
    assert_eq!(all.partitions[1].path(&def), "logs/2024/02/01");
}

#[tokio::test]
async fn unlike_folders_and_files_are_tables_of_their_own() {
    let files = [
        ("shop/orders/a.csv", "order_id,total\n1,2.5\n"),
        ("shop/people/a.csv", "name,born\nann,2001-02-03\n"),
        ("shop/people/b.csv", "name,born\nbob,1999-12-31\n"),
    ];
    let expected =
        ["orders at shop/orders: order_id:bigint total:double", "people at shop/people: name:string born:date"];
    assert_eq!(shapes(&files, "shop").await, expected);
    let loose = [("d/airlines.csv", "carrier,name\nUA,United\n"), ("d/planes.csv", "tailnum,seats\nN1,100\n")];
    let expected = [
        "airlines at d/airlines.csv: carrier:string name:string",
        "planes at d/planes.csv: tailnum:string seats:bigint",
    ];
    assert_eq!(shapes(&loose, "d").await, expected);
}

#[tokio::test]
async fn foreign_table_formats_are_refused_by_name() {
    let files = [
        ("x/delta/_delta_log/0.json", "{}"),
        ("x/delta/part.parquet", "PAR1"),
        ("x/ice/metadata/v1.metadata.json", "{}"),
        ("x/ice/data/a.parquet", "PAR1"),
        ("x/hudi/.hoodie/hoodie.properties", "a=b"),
        ("x/hudi/a.parquet", "PAR1"),
        ("x/plain/a.json", "{\"a\":1}\n"),
    ];
    let (data, glue) = (lake(&files).await, Glue::memory().open().await.unwrap());
    let report = crawl(&glue, &data, "x").await;
    assert_eq!(report.plan.tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["plain"]);
    let named: Vec<_> =
        report.plan.problems.iter().map(|p| (p.path.as_str(), p.reason.split(" table").next().unwrap())).collect();
    assert_eq!(named, [("x/delta", "a Delta Lake"), ("x/hudi", "a Hudi"), ("x/ice", "an Iceberg")]);
}

#[tokio::test]
async fn excluded_files_do_not_count() {
    let data = lake(&[("t/a.json", "{\"a\":1}\n"), ("t/tmp/b.csv", "x\n1\n")]).await;
    let glue = Glue::memory().open().await.unwrap();
    let crawler = glue.crawler("test", Arc::clone(&data), Path::from("t")).with_database("db").with_exclude(["tmp/**"]);
    let report = crawler.run().await.unwrap();
    assert_eq!((report.plan.tables.len(), report.plan.ignored), (1, 1));
}

#[tokio::test]
async fn a_column_that_is_also_a_key_is_the_keys_and_is_told() {
    let data: Arc<dyn ObjectStore> = lake(&[("t/month=1/a.json", "{\"month\":1,\"a\":2}\n")]).await;
    let glue = Glue::memory().open().await.unwrap();
    let report = crawl(&glue, &data, "t").await;
    assert_eq!(shape(&*table(&glue, "t").await), "a:bigint | month:int");
    assert!(report.plan.tables[0].reasons.iter().any(|reason| reason.contains("column month also stands")));
}

#[tokio::test]
async fn names_taken_by_other_places_get_a_suffix() {
    let data = lake(&[("a/t/x.json", "{\"a\":1}\n"), ("b/t/x.json", "{\"z\":1}\n")]).await;
    let glue = Glue::memory().open().await.unwrap();
    let report = crawl(&glue, &data, "").await;
    assert_eq!(report.plan.tables.len(), 2);
    assert_eq!(report.plan.tables[0].name, "t");
    assert!(report.plan.tables[1].name.starts_with("t_"), "{}", report.plan.tables[1].name);
    let again = glue.crawler("other", data, Path::from("b")).with_database("db").run().await.unwrap();
    assert_eq!(again.plan.tables[0].location, "b/t");
}
