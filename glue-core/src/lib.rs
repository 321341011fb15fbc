//! A data catalog in your process, shared through any object store, and crawlers that fill it from folders of files.
//!
//! # What it does
//!
//! - [`Catalog`]: databases, tables with their former versions, partitions with statistics, kept as numbered commits on an
//!   object store. Several processes may use one store at once. It is a [`Metastore`], so whatever takes one takes it.
//! - [`Crawler`]: finds Parquet, JSON-lines and CSV files below a prefix, infers their schemas, groups folders into tables
//!   with typed partitions, and commits once. It explains every decision, and reads an unchanged file only once.
//!
//! # What it does not
//!
//! It does not read compressed text, ORC, Avro or XML files yet, nor Delta, Hudi or Iceberg tables: it names them and leaves
//! them alone. It moves and deletes no data: dropping a table leaves its files.
//!
//! # In ten lines
//!
//! ```
//! use std::sync::Arc;
//! use glue_core::object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
//! use glue_core::{Glue, Metastore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> glue_core::Result<()> {
//! let lake: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
//! lake.put(&Path::from("sales/month=1/a.csv"), "item,price\npen,1.5\n".into()).await?;
//! lake.put(&Path::from("sales/month=2/a.csv"), "price,item\n2,ink\n".into()).await?;
//!
//! let glue = Glue::memory().open().await?;
//! let report = glue.crawler("nightly", lake, Path::from("sales")).with_database("shop").run().await?;
//! assert_eq!(report.plan.tables[0].reasons[0], "2 folders named month=...: partitions by month");
//!
//! let table = glue.catalog().table("shop", "sales").await?.expect("the crawler found it");
//! assert_eq!(table.schema().to_string().matches("Float64").count(), 1);
//! assert!(glue.crawler("nightly", glue.store().clone(), Path::from("none")).run().await?.committed.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! - A commit is acknowledged once the store has it; on a directory, once it is synced to disk. A crash leaves a commit whole
//!   or absent.
//! - Commit n is one change applied to commit n-1, with no gaps; two processes that saw commit n agree on it. A change is
//!   refused as a `Conflict` only if what it relied on was touched; otherwise it is replayed on top of the winner's.
//! - Every read of the catalog sees the newest commit of any process. A table in hand keeps selecting the partitions that it
//!   had when it was read, for [`SNAPSHOTS_KEPT`] changes of that table.
//! - A crawl is one commit, and no commit if nothing changed. Its result depends on the files only.
//!
//! # Limits
//!
//! A change is at most 64 MiB as JSON; a crawl at most [`OBJECTS_MAX`] objects; of a text file at most [`TEXT_BYTES_MAX`]
//! bytes are looked at. A name has up to 255 characters and is lower-case.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | (default) | catalog and crawler |

mod catalog;
mod crawler;
mod error;
mod glue;

pub use object_store;
pub use table_core;

pub use catalog::{CHECKPOINT_EVERY, COMMIT_ATTEMPTS_MAX, Catalog};
pub use crawler::{
    CrawlEvent, CrawlPlan, CrawlReport, Crawler, FILES_AT_ONCE, OBJECTS_MAX, Outcome, PlannedTable, Problem,
    TEXT_BYTES_MAX,
};
pub use error::{Error, Result};
pub use glue::{Glue, GlueBuilder};
pub use table_core::{
    Change, Column, Database, Domain, Domains, ErrorKind, Expect, Format, HiveType, Metastore, PartitionDef,
    PartitionLocation, SNAPSHOTS_KEPT, Selection, Statistics, TableDef,
};
