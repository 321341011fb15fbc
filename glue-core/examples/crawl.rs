//! Crawls a folder and says what it found and why: `cargo run -p glue-core --example crawl -- FOLDER [CATALOG_DIR]`.
//!
//! Without a folder it makes one with traps in it. With a catalog directory the catalog stays there, and a second run reads
//! only what changed.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;

use glue_core::object_store::local::LocalFileSystem;
use glue_core::object_store::memory::InMemory;
use glue_core::object_store::path::Path;
use glue_core::object_store::{ObjectStore, ObjectStoreExt};
use glue_core::{Glue, PlannedTable, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let data: Arc<dyn ObjectStore> = match arguments.next() {
        Some(folder) => Arc::new(LocalFileSystem::new_with_prefix(folder)?),
        None => traps().await?,
    };
    let builder = match arguments.next() {
        Some(dir) => Glue::at(dir),
        None => Glue::memory(),
    };
    let glue = builder.open().await?;
    let report = glue.crawler("example", data, Path::default()).with_database("found").run().await?;

    for table in &report.plan.tables {
        print_table(table);
    }
    for problem in &report.plan.problems {
        println!("! {}: {}", problem.path, problem.reason);
    }
    println!(
        "{} files, {} of them read; {} objects are no data",
        report.plan.files, report.plan.files_read, report.plan.ignored
    );
    match report.committed {
        Some(number) => println!("committed as version {number} of the catalog"),
        None => println!("nothing new: nothing committed"),
    }
    Ok(())
}

fn print_table(table: &PlannedTable) {
    let rows = table.rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
    println!(
        "{}.{}  {:?}: {} at \"{}\", {} files, {rows} rows",
        table.database, table.name, table.outcome, table.format, table.location, table.files
    );
    for column in table.columns.iter().chain(&table.partition_keys) {
        println!("    {:<20} {}", column.name, column.hive_type);
    }
    for reason in &table.reasons {
        println!("    because {reason}");
    }
}

/// Folders as they are found in the wild.
async fn traps() -> Result<Arc<dyn ObjectStore>> {
    let files = [
        ("sales/year=2024/month=01/a.csv", "shop,zip,total\nannex,00501,12.5\n"),
        ("sales/year=2024/month=02/a.csv", "zip,shop,total,coupon\n10001,annex,NA,X7\n"),
        ("sales/year=2024/_SUCCESS", "done"),
        ("people/a.csv", "name,city\nann,rome\nbob,oslo\n"),
        ("people/b.csv", "name,city\ncid,lima\n"),
        (
            "events/2024/01/02/e.json",
            "{\"at\":\"2024-01-02T10:00:00Z\",\"tags\":[\"a\"],\"n\":1}\n{\"at\":\"2024-01-02\",\"n\":1.5}\n",
        ),
        ("events/2024/01/03/e.json", "{\"at\":\"2024-01-03T10:00:00Z\",\"user\":{\"id\":7}}\nnot json\n"),
        ("orders/_delta_log/0.json", "{}"),
        ("orders/part-0.parquet", "PAR1"),
    ];
    let store = InMemory::new();
    for (path, text) in files {
        store.put(&Path::from(path), text.into()).await?;
    }
    Ok(Arc::new(store))
}
