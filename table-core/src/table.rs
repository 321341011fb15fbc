//! What a table is: columns, partition keys, a location, a format. Plain data that serialises.
//!
//! Invariant: a `TableDef` that a `Metastore` hands out has lower-case names, no two columns of one name, and a location
//! without a slash at either end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::name::normalize;
use crate::{Error, HiveType, Result};

/// The most columns of one table, partition keys included.
pub const COLUMNS_MAX: usize = 10_000;

/// A named, typed column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Column {
    /// Lower-case in a catalog.
    pub name: String,
    /// The type as Hive writes it.
    #[serde(rename = "type")]
    pub hive_type: HiveType,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Column {
    /// A column without a comment.
    pub fn new(name: impl Into<String>, hive_type: HiveType) -> Self {
        Self { name: name.into(), hive_type, comment: None }
    }

    /// The same column with a comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The nullable Arrow field that holds it.
    #[must_use]
    pub fn to_field(&self) -> Field {
        Field::new(&self.name, self.hive_type.to_arrow(), true)
    }
}

/// What the files of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Delimited text; dialect and how columns are found are properties, see [`crate::csv::CsvSettings`].
    Csv,
    /// One JSON object per line.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
        })
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            _ => Err(Error::invalid(format!("format \"{text}\" is not one of parquet, csv, json"))),
        }
    }
}

/// A table on files, at one moment of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableDef {
    /// Lower-case.
    pub database: String,
    /// Lower-case.
    pub name: String,
    /// Columns stored in the files, in order.
    pub columns: Vec<Column>,
    /// Columns stored in the paths, in order of the path. They follow [`columns`](Self::columns) in `select *`.
    #[serde(default)]
    pub partition_keys: Vec<Column>,
    /// Prefix of the table's objects within its store, such as `lake/flights`; no slash at either end.
    pub location: String,
    /// What the files are.
    pub format: Format,
    /// Free text, plus what readers honour (dialect, null tokens, projection).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Counts definitions of this table from 1. Set by the catalog; partitions do not move it. It is what
    /// [`Change::replace_table`](crate::Change::replace_table) compares.
    #[serde(default)]
    pub version: u64,
    /// The commit that last touched the table *or its partitions*. Set by the catalog; cache plans by it.
    #[serde(default)]
    pub snapshot: u64,
    /// When it was created; set by the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// When its definition last changed; set by the catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<DateTime<Utc>>,
}

impl TableDef {
    /// A table without columns; add them with [`with_columns`](Self::with_columns).
    pub fn new(
        database: impl Into<String>,
        name: impl Into<String>,
        location: impl AsRef<str>,
        format: Format,
    ) -> Self {
        Self {
            database: database.into(),
            name: name.into(),
            columns: Vec::new(),
            partition_keys: Vec::new(),
            location: location.as_ref().trim_matches('/').to_owned(),
            format,
            properties: BTreeMap::new(),
            comment: None,
            version: 0,
            snapshot: 0,
            created: None,
            updated: None,
        }
    }

    /// The columns in the files.
    #[must_use]
    pub fn with_columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.columns = columns.into_iter().collect();
        self
    }

    /// The columns in the paths.
    #[must_use]
    pub fn with_partition_keys(mut self, keys: impl IntoIterator<Item = Column>) -> Self {
        self.partition_keys = keys.into_iter().collect();
        self
    }

    /// One more property.
    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// A comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Arrow schema of the files: [`columns`](Self::columns) only.
    #[must_use]
    pub fn file_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::to_field).collect::<Vec<_>>()))
    }

    /// Arrow schema of the table: columns, then partition keys.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns.iter().chain(&self.partition_keys).map(Column::to_field);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Whether two definitions say the same, whatever the catalog set: version, snapshot and times are left out.
    #[must_use]
    pub fn same_definition(&self, other: &Self) -> bool {
        let plain = |def: &Self| Self { version: 0, snapshot: 0, created: None, updated: None, ..def.clone() };
        plain(self) == plain(other)
    }

    /// The definition as a catalog keeps it: names lower-case, location trimmed, everything checked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a bad name, a column named twice, no column at all, more than [`COLUMNS_MAX`], a location with
    /// empty or dotted segments, a type that Hive has no words for, or a partition key of a nested or binary type.
    pub fn normalized(&self) -> Result<Self> {
        let mut def = self.clone();
        def.database = normalize("database", &def.database)?;
        def.name = normalize("table", &def.name)?;
        def.location = check_location(&def.location)?;
        for column in def.columns.iter_mut().chain(&mut def.partition_keys) {
            column.name = normalize("column", &column.name)?;
        }
        check_columns(&def)?;
        Ok(def)
    }
}

pub(crate) fn check_location(location: &str) -> Result<String> {
    let trimmed = location.trim_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    // `Path::from` would encode what is not allowed; a location is a path that exists, so it must be one already.
    match object_store::path::Path::parse(trimmed) {
        Ok(path) => Ok(path.to_string()),
        Err(error) => {
            Err(Error::invalid(format!("location \"{location}\" is not a path within a store")).with_source(error))
        }
    }
}

fn check_columns(def: &TableDef) -> Result<()> {
    let count = def.columns.len() + def.partition_keys.len();
    let table = format!("table \"{}.{}\"", def.database, def.name);
    if count == 0 || count > COLUMNS_MAX {
        return Err(Error::invalid(format!("{table} has {count} columns: give 1 to {COLUMNS_MAX}")));
    }
    let mut seen = BTreeSet::new();
    for column in def.columns.iter().chain(&def.partition_keys) {
        if !seen.insert(column.name.as_str()) {
            return Err(Error::invalid(format!("{table} names column \"{}\" twice", column.name)));
        }
        check_type(&table, column)?;
    }
    for key in &def.partition_keys {
        if key.hive_type.is_nested() || key.hive_type == HiveType::Binary {
            let (name, hive_type) = (&key.name, &key.hive_type);
            return Err(Error::invalid(format!("{table}: partition key \"{name}\" cannot be {hive_type}")));
        }
    }
    Ok(())
}

/// A catalog keeps types as text: one that cannot be read back would make the catalog unreadable.
fn check_type(table: &str, column: &Column) -> Result<()> {
    let text = column.hive_type.to_string();
    let refused = || format!("{table}: column \"{}\" cannot be {text}", column.name);
    match text.parse::<HiveType>() {
        Ok(same) if same == column.hive_type => Ok(()),
        Ok(other) => Err(Error::invalid(format!("{}: that reads as {other}", refused()))),
        Err(error) => Err(Error::invalid(format!("{}: {}", refused(), error.message()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_would_not_read_back_is_refused_by_its_column() {
        let deep = (0..100).fold(HiveType::Int, |item, _| HiveType::Array(Box::new(item)));
        let nested_key = HiveType::Map(Box::new(HiveType::Array(Box::new(HiveType::Int))), Box::new(HiveType::Int));
        for hive_type in [
            HiveType::Decimal(0, 0),
            HiveType::Decimal(5, 6),
            HiveType::Decimal(39, 0),
            HiveType::Decimal(5, -1),
            HiveType::Varchar(0),
            HiveType::Char(256),
            HiveType::Array(Box::new(HiveType::Varchar(70_000))),
            nested_key,
            deep,
        ] {
            let table = TableDef::new("db", "t", "t", Format::Parquet).with_columns([Column::new("c", hive_type)]);
            let error = table.normalized().unwrap_err();
            assert!(error.message().contains("\"c\""), "{error}");
        }
        let odd = HiveType::Struct(vec![("a b".to_owned(), HiveType::Int), ("`".to_owned(), HiveType::Char(255))]);
        let table = TableDef::new("db", "t", "t", Format::Parquet).with_columns([Column::new("c", odd)]);
        table.normalized().unwrap();
    }
}
