//! What delivered objects hold: records as they came, or typed Parquet.
//!
//! Invariant: a format is plain data; it is committed with each sealed object, so that a restart writes what was promised.

use serde::{Deserialize, Serialize};

/// The form of delivered objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputFormat {
    /// The records' bytes, one after another.
    Records(RecordsFormat),
    /// Each record is a JSON object and becomes a row of a Parquet file.
    Parquet(ParquetFormat),
    /// Each record is a JSON object and becomes a row of an ORC file. Needs the feature `orc`.
    Orc(OrcFormat),
}

impl OutputFormat {
    /// The end of an object's name.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        match self {
            Self::Parquet(_) => ".parquet",
            Self::Orc(_) => ".orc",
            Self::Records(records) => records.compression.extension(),
        }
    }

    /// Whether an inferred schema has the fields that partition the records; none if records stay as they are.
    pub(super) fn partition_columns(&self) -> Option<PartitionColumns> {
        match self {
            Self::Records(_) => None,
            Self::Parquet(parquet) => Some(parquet.partition_columns),
            Self::Orc(orc) => Some(orc.partition_columns),
        }
    }
}

impl Default for OutputFormat {
    fn default() -> Self {
        Self::Records(RecordsFormat::default())
    }
}

/// Records as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsFormat {
    separator: Separator,
    compression: Compression,
}

impl RecordsFormat {
    /// Nothing between records, no compression: Firehose's default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What stands behind each record.
    #[must_use]
    pub fn with_separator(mut self, separator: Separator) -> Self {
        self.separator = separator;
        self
    }

    /// How the object is compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// What stands behind each record.
    #[must_use]
    pub fn separator(&self) -> Separator {
        self.separator
    }

    /// How the object is compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

/// A second copy of every record, as it came: before the transform, but behind what takes records apart. Records that fail or
/// that the transform drops are in it too.
///
/// Each record is in exactly one of its objects, which are made along with those of data and have names of the same form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBackup {
    prefix: String,
    compression: Compression,
}

impl SourceBackup {
    /// A backup under this prefix, which names no partition keys; `yyyy/MM/dd/HH/` follows if it has no expressions.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), compression: Compression::None }
    }

    /// How the objects are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The prefix of its objects.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How its objects are compressed.
    #[must_use]
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

/// What stands behind each record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Separator {
    /// Nothing.
    #[default]
    None,
    /// A line feed, unless the record ends with one.
    Newline,
}

/// How an object of records is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Gzip; the name ends in `.gz`.
    Gzip,
    /// A ZIP archive of one file; the name ends in `.zip`.
    Zip,
    /// Snappy in its framing format; the name ends in `.snappy`.
    Snappy,
    /// Snappy in blocks, as Hadoop's codec writes and reads it; the name ends in `.hsnappy`.
    HadoopSnappy,
}

impl Compression {
    /// The end of an object's name.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zip => ".zip",
            Self::Snappy => ".snappy",
            Self::HadoopSnappy => ".hsnappy",
        }
    }
}

/// Typed Parquet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParquetFormat {
    compression: ParquetCompression,
    partition_columns: PartitionColumns,
}

impl ParquetFormat {
    /// Snappy, with the partition columns in the file: Firehose's default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How column chunks are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: ParquetCompression) -> Self {
        self.compression = compression;
        self
    }

    /// Whether an inferred schema has the fields that partition the records.
    #[must_use]
    pub fn with_partition_columns(mut self, columns: PartitionColumns) -> Self {
        self.partition_columns = columns;
        self
    }

    /// How column chunks are compressed.
    #[must_use]
    pub fn compression(&self) -> ParquetCompression {
        self.compression
    }

    /// Whether an inferred schema has the fields that partition the records.
    #[must_use]
    pub fn partition_columns(&self) -> PartitionColumns {
        self.partition_columns
    }
}

/// ORC. Its writer has flat columns only, and neither decimals nor statistics: a schema with structs, lists, maps or decimals is
/// refused, and in an inferred one objects and arrays are columns of their JSON as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrcFormat {
    compression: OrcCompression,
    partition_columns: PartitionColumns,
}

impl OrcFormat {
    /// Snappy, with the partition columns in the file: Firehose's default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How streams are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: OrcCompression) -> Self {
        self.compression = compression;
        self
    }

    /// Whether an inferred schema has the fields that partition the records.
    #[must_use]
    pub fn with_partition_columns(mut self, columns: PartitionColumns) -> Self {
        self.partition_columns = columns;
        self
    }

    /// How streams are compressed.
    #[must_use]
    pub fn compression(&self) -> OrcCompression {
        self.compression
    }
}

/// How streams of an ORC file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OrcCompression {
    /// Snappy.
    #[default]
    Snappy,
    /// Zlib.
    Zlib,
    /// Zstandard.
    Zstd,
    /// Not at all.
    Uncompressed,
}

/// How column chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParquetCompression {
    /// Snappy.
    #[default]
    Snappy,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Not at all.
    Uncompressed,
}

/// Whether files hold the fields that `partition_by` names, which their path holds too. Applies to an inferred schema;
/// a given one decides itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartitionColumns {
    /// They do, as with Firehose.
    #[default]
    Keep,
    /// They do not, as Hive wants it: a table has a column either in its files or in its folders.
    Omit,
}
