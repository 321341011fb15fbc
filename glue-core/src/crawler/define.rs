//! From grouped files to the table that the catalog should hold.
//!
//! Invariant: a function of the files alone, so that crawling twice, or in another order, gives the same table.

use std::collections::BTreeSet;

use table_core::csv::{ColumnsBy, CsvSettings};
use table_core::{Column, Format, PartitionDef, PartitionLocation, Statistics, TableDef};

use super::group::{Candidate, Part, join};
use super::keys::key_type;
use super::plan::Problem;

/// What is known of a file besides its columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileSize {
    pub(super) bytes: u64,
    /// `None` if only a part was read.
    pub(super) rows: Option<u64>,
}

/// A table as the files have it.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) def: TableDef,
    pub(super) partitions: Vec<PartitionDef>,
    pub(super) files: usize,
    pub(super) total: Statistics,
    pub(super) reasons: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

pub(super) fn define(
    candidate: &Candidate,
    name: &str,
    database: &str,
    target: &str,
    sizes: &[FileSize],
) -> Definition {
    let mut reasons = candidate.reasons.clone();
    let keys = partition_keys(candidate, &mut reasons);
    let columns = columns(candidate, &keys, &mut reasons);
    let location = join(target, &candidate.root);
    let mut def =
        TableDef::new(database, name, &location, candidate.kind.format).with_columns(columns).with_partition_keys(keys);
    if candidate.kind.format == Format::Csv {
        def.properties.extend(csv_settings(candidate).to_properties());
    }
    def.properties.insert("classification".to_owned(), candidate.kind.format.to_string());
    def.properties.insert("typeOfData".to_owned(), "file".to_owned());
    let total = statistics(candidate.parts.values().flat_map(|part| &part.files), sizes);
    let files = candidate.parts.values().map(|part| part.files.len()).sum();
    let (mut partitions, mut problems) = (Vec::new(), Vec::new());
    if candidate.keys.is_empty() {
        let counts = [("recordCount", total.rows), ("objectCount", total.files), ("sizeKey", total.bytes)];
        def.properties.extend(counts.into_iter().filter_map(|(key, count)| Some((key.to_owned(), count?.to_string()))));
    } else {
        for (values, part) in &candidate.parts {
            match partition(&def, values.clone(), part, sizes) {
                Ok(partition) => partitions.push(partition),
                Err(error) => problems.push(Problem::new(join(&location, &part.folder), format!("{error}"))),
            }
        }
    }
    Definition { def, partitions, files, total, reasons, problems }
}

fn partition(
    def: &TableDef,
    values: Vec<Option<String>>,
    part: &Part,
    sizes: &[FileSize],
) -> table_core::Result<PartitionDef> {
    PartitionDef::new(values)
        .with_location(PartitionLocation::Under(part.folder.clone()))
        .with_statistics(statistics(part.files.iter(), sizes))
        .normalized(def)
}

fn statistics<'a>(files: impl Iterator<Item = &'a usize>, sizes: &[FileSize]) -> Statistics {
    let (mut rows, mut bytes, mut count) = (Some(0), 0, 0);
    for size in files.filter_map(|index| sizes.get(*index)) {
        rows = rows.zip(size.rows).map(|(sum, rows)| sum + rows);
        bytes += size.bytes;
        count += 1;
    }
    Statistics::new(rows, Some(bytes), Some(count))
}

fn partition_keys(candidate: &Candidate, reasons: &mut Vec<String>) -> Vec<Column> {
    let mut keys = Vec::with_capacity(candidate.keys.len());
    let mut taken = BTreeSet::new();
    for (index, key) in candidate.keys.iter().enumerate() {
        let mut name = key.clone().unwrap_or_else(|| format!("partition_{index}"));
        while !taken.insert(name.clone()) {
            name.push_str("_2");
        }
        let values = candidate.parts.keys().map(|values| values.get(index).and_then(Option::as_deref));
        let (hive_type, why) = key_type(values);
        reasons.push(format!("partition key {name} is {hive_type}: {why}"));
        keys.push(Column::new(name, hive_type));
    }
    keys
}

fn columns(candidate: &Candidate, keys: &[Column], reasons: &mut Vec<String>) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, observed) in candidate.columns.columns() {
        if keys.iter().any(|key| key.name == name) {
            reasons.push(format!("column {name} also stands in the files: the path's value is taken"));
            continue;
        }
        let hive_type = observed.hive_type();
        if observed.is_widened() || observed.count() < candidate.columns.rows() {
            let missing = candidate.columns.rows().saturating_sub(observed.count());
            let late = if missing > 0 { format!(", missing {missing}x") } else { String::new() };
            reasons.push(format!("column {name} is {hive_type}: {}{late}", observed.evidence()));
        }
        columns.push(Column::new(name, hive_type));
    }
    columns
}

fn csv_settings(candidate: &Candidate) -> CsvSettings {
    let mut tokens = candidate.columns.null_tokens();
    tokens.insert(String::new());
    let by = if candidate.kind.header { ColumnsBy::Header } else { ColumnsBy::Position };
    CsvSettings::default()
        .with_delimiter(candidate.kind.delimiter)
        .with_header(candidate.kind.header)
        .with_columns_by(by)
        .with_null_tokens(tokens)
}
