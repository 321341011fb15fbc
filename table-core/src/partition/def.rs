//! One partition: its values, where it lies, what is known about its size. Never the table's schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::path;
use crate::table::check_location;
use crate::{Error, Result, Scalar, TableDef};

/// The values of a partition in the order of the table's keys, as the text of their folders; `None` is NULL.
pub type PartitionValues = Vec<Option<String>>;

/// Where a partition's files lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartitionLocation {
    /// Where Hive would put it: `key=value` folders below the table's location.
    #[default]
    ByKeys,
    /// Folders named by the values alone, such as `2024/01`: how crawled tables without `key=` lie.
    ByValues,
    /// Another folder below the table's location, such as `2024/01`.
    Under(String),
    /// A path within the store, anywhere.
    At(String),
}

/// What is known about a set of files without opening them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Rows, where every file's count is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes as stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

impl Statistics {
    /// Statistics of which some may be unknown.
    #[must_use]
    pub fn new(rows: Option<u64>, bytes: Option<u64>, files: Option<u64>) -> Self {
        Self { rows, bytes, files }
    }

    pub(crate) fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// One partition of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartitionDef {
    /// One value for each partition key: the partition's identity. `01` and `1` are two partitions, even of an `int` key.
    pub values: PartitionValues,
    /// Where its files lie.
    #[serde(default, skip_serializing_if = "is_by_keys")]
    pub location: PartitionLocation,
    /// What is known of its size.
    #[serde(default, skip_serializing_if = "Statistics::is_unknown")]
    pub statistics: Statistics,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

fn is_by_keys(location: &PartitionLocation) -> bool {
    *location == PartitionLocation::ByKeys
}

impl PartitionDef {
    /// A partition where Hive would put it.
    pub fn new<V: Into<String>>(values: impl IntoIterator<Item = Option<V>>) -> Self {
        Self { values: values.into_iter().map(|value| value.map(Into::into)).collect(), ..Self::default() }
    }

    /// A partition without NULLs, where Hive would put it.
    pub fn of<V: Into<String>>(values: impl IntoIterator<Item = V>) -> Self {
        Self::new(values.into_iter().map(Some))
    }

    /// The same at another place.
    #[must_use]
    pub fn with_location(mut self, location: PartitionLocation) -> Self {
        self.location = location;
        self
    }

    /// The same with statistics.
    #[must_use]
    pub fn with_statistics(mut self, statistics: Statistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// The same with one more property.
    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// `month=1/day=2`, whatever the location.
    #[must_use]
    pub fn name(&self, table: &TableDef) -> String {
        let keys = table.partition_keys.iter().map(|key| key.name.as_str());
        path::encode(keys.zip(self.values.iter().map(Option::as_deref)))
    }

    /// The prefix of its objects within the table's store, without a slash at either end.
    #[must_use]
    pub fn path(&self, table: &TableDef) -> String {
        match &self.location {
            PartitionLocation::ByKeys => join(&table.location, &self.name(table)),
            PartitionLocation::ByValues => join(&table.location, &self.value_folders()),
            PartitionLocation::Under(folder) => join(&table.location, folder),
            PartitionLocation::At(path) => path.clone(),
        }
    }

    fn value_folders(&self) -> String {
        self.values.iter().map(|value| value.as_deref().unwrap_or(path::NULL_PARTITION)).collect::<Vec<_>>().join("/")
    }

    /// Its values by type, `None` for NULL.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a value is none of its key's type.
    pub fn scalars(&self, table: &TableDef) -> Result<Vec<Option<Scalar>>> {
        let pairs = table.partition_keys.iter().zip(&self.values);
        pairs.map(|(key, value)| value.as_deref().map(|text| Scalar::parse(text, &key.hive_type)).transpose()).collect()
    }

    /// The partition as a catalog keeps it: locations trimmed, values checked against the table's keys.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a wrong number of values, a value that is none of its key's type, or a bad location.
    pub fn normalized(&self, table: &TableDef) -> Result<Self> {
        let (keys, values) = (table.partition_keys.len(), self.values.len());
        if keys != values || keys == 0 {
            let name = format!("{}.{}", table.database, table.name);
            return Err(Error::invalid(format!(
                "table \"{name}\" has {keys} partition keys, not {values}: give one value for each"
            )));
        }
        self.scalars(table)?;
        let mut partition = self.clone();
        partition.location = match partition.location {
            PartitionLocation::ByKeys => PartitionLocation::ByKeys,
            PartitionLocation::ByValues => PartitionLocation::Under(check_location(&partition.value_folders())?),
            PartitionLocation::Under(folder) => PartitionLocation::Under(check_location(&folder)?),
            PartitionLocation::At(path) => PartitionLocation::At(check_location(&path)?),
        };
        partition.shorten(table);
        Ok(partition)
    }

    /// The same partition, at the same place, under another definition of its table.
    pub(crate) fn rehomed(mut self, from: &TableDef, to: &TableDef) -> Self {
        let path = self.path(from);
        if self.path(to) == path {
            return self;
        }
        self.location = match below(&to.location, &path) {
            Some(folder) => PartitionLocation::Under(folder.to_owned()),
            None => PartitionLocation::At(path),
        };
        self.shorten(to);
        self
    }

    /// Says by one of the two forms that cost nothing to keep what can be said so.
    fn shorten(&mut self, table: &TableDef) {
        if let PartitionLocation::Under(folder) = &self.location {
            if *folder == self.name(table) {
                self.location = PartitionLocation::ByKeys;
            } else if *folder == self.value_folders() {
                self.location = PartitionLocation::ByValues;
            }
        }
    }
}

/// The folder of a path below a location, if it lies there.
fn below<'a>(location: &str, path: &'a str) -> Option<&'a str> {
    if location.is_empty() { Some(path) } else { path.strip_prefix(location)?.strip_prefix('/') }
}

fn join(prefix: &str, folder: &str) -> String {
    match (prefix.is_empty(), folder.is_empty()) {
        (true, _) => folder.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}/{folder}"),
    }
}
