//! Answers about the catalog, in the service's text forms: lines, the columns of DESCRIBE padded to 20.
//!
//! Invariant: partitions come as `key=value/key=value`, as their folders are named by Hive.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use table_core::{Column, Domains, Metastore, TableDef};

use super::pattern::fits;
use super::statement::CatalogStatement;
use crate::error::{Error, ErrorKind, Result, Stage};

/// The most partitions that one statement lists.
const PARTITIONS_LISTED_MAX: usize = 1_000_000;

pub(crate) async fn run(metastore: &dyn Metastore, statement: &CatalogStatement) -> Result<RecordBatch> {
    match statement {
        CatalogStatement::Databases { pattern } => {
            lines("database_name", matching(metastore.databases().await?, pattern.as_deref()))
        }
        CatalogStatement::Tables { database, pattern } => {
            lines("tab_name", matching(metastore.tables(database).await?, pattern.as_deref()))
        }
        CatalogStatement::Columns { database, table } => {
            let def = table_def(metastore, database, table).await?;
            lines("field", columns(&def).map(|column| column.name.clone()).collect())
        }
        CatalogStatement::Partitions { database, table } => {
            let def = table_def(metastore, database, table).await?;
            if def.partition_keys.is_empty() {
                return Err(Error::invalid(format!("table \"{database}.{table}\" has no partition keys")));
            }
            let selection = metastore.select(&def, &Domains::all()).await?;
            if selection.total > PARTITIONS_LISTED_MAX {
                let message = format!(
                    "table \"{database}.{table}\" has {} partitions: at most {PARTITIONS_LISTED_MAX} are listed",
                    selection.total
                );
                return Err(Error::new(ErrorKind::LimitExceeded, Stage::Request, message));
            }
            lines("partition", selection.partitions.iter().map(|partition| partition.name(&def)).collect())
        }
        CatalogStatement::Describe { database, table } => {
            describe(table_def(metastore, database, table).await?.as_ref())
        }
    }
}

async fn table_def(metastore: &dyn Metastore, database: &str, table: &str) -> Result<Arc<TableDef>> {
    metastore.table(database, table).await?.ok_or_else(|| {
        let message =
            format!("table \"{database}.{table}\" does not exist: SHOW TABLES IN {database} lists those that do");
        Error::new(ErrorKind::NotFound, Stage::Metastore, message)
    })
}

fn columns(def: &TableDef) -> impl Iterator<Item = &Column> {
    def.columns.iter().chain(&def.partition_keys)
}

fn matching(names: Vec<String>, pattern: Option<&str>) -> Vec<String> {
    names.into_iter().filter(|name| pattern.is_none_or(|pattern| fits(pattern, name))).collect()
}

fn lines(label: &str, lines: Vec<String>) -> Result<RecordBatch> {
    let column: ArrayRef = Arc::new(StringArray::from(lines));
    Ok(RecordBatch::try_from_iter([(label, column)])?)
}

fn describe(def: &TableDef) -> Result<RecordBatch> {
    let mut rows: Vec<[String; 3]> = columns(def).map(described).collect();
    if !def.partition_keys.is_empty() {
        let blank = || [String::new(), " ".to_owned(), " ".to_owned()];
        rows.push(blank());
        rows.push(["# Partition Information".to_owned(), " ".to_owned(), " ".to_owned()]);
        rows.push([pad("# col_name"), pad("data_type"), pad("comment")]);
        rows.push(blank());
        rows.extend(def.partition_keys.iter().map(described));
    }
    let column = |at: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.get(at).map_or("", String::as_str))))
    };
    Ok(RecordBatch::try_from_iter([("col_name", column(0)), ("data_type", column(1)), ("comment", column(2))])?)
}

fn described(column: &Column) -> [String; 3] {
    [pad(&column.name), pad(&column.hive_type.to_string()), pad(column.comment.as_deref().unwrap_or_default())]
}

fn pad(text: &str) -> String {
    format!("{text:<20}")
}

/// A plan as the lines of one column, as the service shows it.
pub(crate) fn explain_lines(batches: &[RecordBatch]) -> Result<RecordBatch> {
    let mut plan = Vec::new();
    for batch in batches {
        let text = |at: usize| cast(batch.column(at), &DataType::Utf8);
        let (kinds, plans) = (text(0)?, text(1)?);
        for (kind, body) in kinds.as_string::<i32>().iter().zip(plans.as_string::<i32>()) {
            plan.push(kind.unwrap_or_default().to_owned());
            plan.extend(body.unwrap_or_default().lines().map(|line| format!("  {line}")));
        }
    }
    lines("Query Plan", plan)
}
