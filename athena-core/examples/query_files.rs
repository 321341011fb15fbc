//! Files in Hive folders, a catalog, three questions: all in memory.
//!
//! `cargo run -p athena-core --example query_files`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use athena_core::object_store::ObjectStoreExt;
use athena_core::object_store::memory::InMemory;
use athena_core::object_store::path::Path;
use athena_core::{Athena, StartQuery};
use table_core::csv::CsvSettings;
use table_core::{Change, Column, Database, Format, HiveType, MemoryMetastore, Metastore, PartitionDef, TableDef};

/// Sales by year, as files that anything could have written.
const FILES: [(&str, &str); 3] = [
    ("sales/year=2023/a.csv", "city,amount\nOslo,120.50\nBergen,80.00\n"),
    ("sales/year=2024/a.csv", "amount,city\n99.90,Oslo\n"),
    ("sales/year=2024/b.csv", "city,amount\nBergen,45.10\nTromsø,\n"),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(InMemory::new());
    for (path, body) in FILES {
        store.put(&Path::parse(path)?, body.into()).await?;
    }

    let mut sales = TableDef::new("shop", "sales", "sales", Format::Csv)
        .with_columns([Column::new("city", HiveType::String), Column::new("amount", HiveType::Decimal(10, 2))])
        .with_partition_keys([Column::new("year", HiveType::Int)]);
    for (name, value) in CsvSettings::default().to_properties() {
        sales = sales.with_property(name, value);
    }
    let years = ["2023", "2024"].map(|year| PartitionDef::of([year])).to_vec();
    let catalog = Arc::new(MemoryMetastore::new());
    let change = Change::new().create_database(Database::new("shop")).create_table(sales);
    catalog.commit(change.add_partitions("shop", "sales", years)).await?;

    let athena = Athena::on(store, "results").metastore(catalog).build()?;
    for sql in [
        "select city, sum(amount) as total from sales group by city order by total desc",
        "select sum(amount) from sales where year = 2024",
        "select year, count(*) from sales group by year order by year",
    ] {
        let result = athena.query(StartQuery::new(sql).with_database("shop")).await?;
        println!("{sql}");
        for row in result.text_rows()? {
            let row: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
            println!("  {}", row.join(", "));
        }
        let cost = result.execution.statistics;
        let (read, total) = (cost.partitions_read, cost.partitions_total);
        println!("  partitions {read} of {total}, {} bytes, {} ms\n", cost.data_scanned_bytes, cost.total_execution_ms);
    }
    Ok(())
}
