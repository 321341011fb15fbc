//! What a table on files is: types, partitions, a catalog's contract, and reading and writing the files.
//!
//! # What it does
//!
//! - [`HiveType`]: Hive's types as text and as Arrow, both ways, nested;
//! - [`TableDef`], [`PartitionDef`], [`partition_path`]: what a catalog says about a table, and where its partitions lie;
//! - [`PartitionIndex`] and [`Domains`]: which of very many partitions a filter leaves;
//! - [`Metastore`]: the contract of a catalog, [`MemoryMetastore`] as its reference, [`conformance`] as its test;
//! - [`RowDecoder`], [`json`], [`csv`]: text to record batches, with rejects and counts instead of silent loss;
//! - [`infer`]: the narrowest schema that holds every value seen, whatever the order; [`parquet_file`]: writing, footers.
//!
//! # What it does not
//!
//! It runs no query and lists no store (the feature `datafusion` adds what does), and it keeps nothing: [`MemoryMetastore`]
//! lives as long as its handles.
//!
//! # In ten lines
//!
//! ```
//! use table_core::{Change, Column, Database, Domain, Domains, Format, HiveType, MemoryMetastore, Metastore, PartitionDef, TableDef};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> table_core::Result<()> {
//! let store = MemoryMetastore::new();
//! let table = TableDef::new("lake", "flights", "data/flights", Format::Parquet)
//!     .with_columns([Column::new("carrier", HiveType::String)])
//!     .with_partition_keys([Column::new("month", HiveType::Int)]);
//! let months = (1..=12).map(|month| PartitionDef::of([month.to_string()])).collect();
//! let create = Change::new().create_database(Database::new("lake")).create_table(table);
//! store.commit(create.add_partitions("lake", "flights", months)).await?;
//!
//! let table = store.table("lake", "flights").await?.expect("created above");
//! let march = store.select(&table, &Domains::all().with("month", Domain::equal(3_i64))).await?;
//! assert_eq!((march.partitions[0].path(&table).as_str(), march.total), ("data/flights/month=3", 12));
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! A [`Change`] is applied whole or not at all. A [`TableDef`] in hand selects the partitions that the table had when it was
//! read. Rows in are rows out plus rejects, and a value that became NULL by type is counted under its column.
//!
//! # Limits
//!
//! Rows up to [`ROW_BYTES_MAX`], columns up to [`COLUMNS_MAX`], partitions up to [`PARTITIONS_MAX`], types nested up to
//! [`TYPE_DEPTH_MAX`]; of a table, [`VERSIONS_KEPT`] former definitions and [`SNAPSHOTS_KEPT`] former sets of partitions.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | (default) | everything above |
//! | `datafusion` | a `TableProvider` over any table |

pub mod conformance;
pub mod csv;
mod error;
mod hive_arrow;
mod hive_type;
pub mod infer;
pub mod json;
mod metastore;
pub mod name;
pub mod parquet_file;
mod partition;
#[cfg(feature = "datafusion")]
pub mod provider;
mod reject;
mod rows;
mod table;
pub mod temporal;

pub use arrow;
pub use durable_core::ErrorKind;
pub use object_store;

pub use error::{Error, Result};
pub use hive_type::{DECIMAL_PRECISION_MAX, HiveType, TYPE_DEPTH_MAX};
pub use metastore::{
    Action, CatalogState, Change, Database, Expect, MemoryMetastore, Metastore, SNAPSHOTS_KEPT, Selection, TableState,
    VERSIONS_KEPT,
};
pub use partition::path as partition_path;
pub use partition::{
    Domain, Domains, PARTITIONS_MAX, PartitionDef, PartitionIndex, PartitionLocation, PartitionValues, Real, Rows,
    Scalar, Statistics,
};
pub use reject::{RAW_BYTES_MAX, Reject};
pub use rows::{BATCH_BYTES, BATCH_ROWS, Decoded, Misfit, Origin, ROW_BYTES_MAX, RowDecoder};
pub use table::{COLUMNS_MAX, Column, Format, TableDef};
