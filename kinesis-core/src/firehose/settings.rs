//! The plain settings of a delivery stream, each with its bounds.
//!
//! Invariant: settings that `validate` accepts need no further checks; changing them raises the version in object names.

use std::sync::Arc;
use std::time::Duration;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::format::{Compression, OutputFormat, Separator, SourceBackup};
use super::prefix::Prefixes;
use super::query::Query;
use super::transform::{Calls, TRANSFORM_BYTES_DEFAULT, TRANSFORM_RETRIES_DEFAULT, TRANSFORM_RETRIES_MAX, Transform};
use super::unpack::{CloudWatchLogs, Deaggregation, Decompression, Unpacking};
use crate::{Error, Result};

/// Bytes of records that seal a buffer, unless set. Firehose's default.
pub const BUFFER_BYTES_DEFAULT: usize = 5 * 1024 * 1024;
/// The smallest buffer. Firehose's is 1 MiB; a store in the same process or a test may want less.
pub const BUFFER_BYTES_MIN: usize = 1024;
/// The largest buffer. Firehose's bound.
pub const BUFFER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The age that seals a buffer, unless set. Firehose's default.
pub const BUFFER_INTERVAL_DEFAULT: Duration = Duration::from_secs(300);
/// The longest age. Firehose's bound.
pub const BUFFER_INTERVAL_MAX: Duration = Duration::from_secs(900);
/// Bytes of records in memory, buffered or waiting for the store, unless set.
pub const MEMORY_BYTES_DEFAULT: usize = 256 * 1024 * 1024;
/// The least memory that can be set.
pub const MEMORY_BYTES_MIN: usize = 64 * 1024;
/// Partitions that may be buffered or under way at once, unless set. Firehose's default.
pub const ACTIVE_PARTITIONS_DEFAULT: usize = 500;
/// The most active partitions that can be set. Firehose's bound.
pub const ACTIVE_PARTITIONS_MAX: usize = 5_000;
/// Fields that can partition records.
pub const PARTITION_KEYS_MAX: usize = 50;
/// How long a failing put is repeated, unless set. Firehose's bound for S3.
pub const RETRY_DURATION_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// How long a destination that is no object store is asked again, unless set. Firehose's default for most.
pub const DESTINATION_RETRY_DURATION_DEFAULT: Duration = Duration::from_secs(300);
/// The longest time that can be set for that. Firehose's bound.
pub const DESTINATION_RETRY_DURATION_MAX: Duration = Duration::from_secs(7_200);
/// How long one put may take, unless set.
pub const PUT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// Objects put at once, unless set.
pub const DELIVERIES_DEFAULT: usize = 16;
/// The most objects put at once.
pub const DELIVERIES_MAX: usize = 256;
/// Bytes that were put directly and are not delivered, unless set.
pub const BACKLOG_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;
/// Characters of a file extension, with its dot. Firehose's bound.
pub const FILE_EXTENSION_CHARS_MAX: usize = 128;
/// Characters of a delivery stream's name.
pub const NAME_CHARS_MAX: usize = 64;

/// How a delivery stream buffers, partitions, converts and retries.
///
/// ```
/// use std::time::Duration;
/// use kinesis_core::firehose::{DeliverySettings, OutputFormat, ParquetFormat};
///
/// let settings = DeliverySettings::new()
///     .with_buffer_bytes(64 * 1024 * 1024)
///     .with_buffer_interval(Duration::from_secs(60))
///     .with_partition_by(["month", "day"])
///     .with_prefix("flights/month=!{partitionKeyFromQuery:month}/day=!{partitionKeyFromQuery:day}/")
///     .with_error_output_prefix("errors/!{firehose:error-output-type}/")
///     .with_format(OutputFormat::Parquet(ParquetFormat::new()));
/// assert!(settings.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliverySettings {
    buffer_bytes: usize,
    buffer_interval: Duration,
    memory_bytes: usize,
    active_partitions_max: usize,
    partition_by: Vec<String>,
    partition_query: Option<String>,
    prefix: String,
    error_output_prefix: Option<String>,
    time_zone: String,
    file_extension: Option<String>,
    format: OutputFormat,
    retry_duration: Duration,
    put_timeout: Duration,
    deliveries: usize,
    conversions: usize,
    start: StartAt,
    unpacking: Unpacking,
    backlog_bytes: u64,
    source_backup: Option<SourceBackup>,
    destination_retry_duration: Duration,
    transform_bytes: usize,
    transform_retries: u32,
}

/// Where a delivery stream begins in a stream that it has not read before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StartAt {
    /// At the oldest record that retention has left.
    #[default]
    TrimHorizon,
    /// Behind the newest record, as Firehose does.
    Latest,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            buffer_bytes: BUFFER_BYTES_DEFAULT,
            buffer_interval: BUFFER_INTERVAL_DEFAULT,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            active_partitions_max: ACTIVE_PARTITIONS_DEFAULT,
            partition_by: Vec::new(),
            partition_query: None,
            prefix: String::new(),
            error_output_prefix: None,
            time_zone: "UTC".to_owned(),
            file_extension: None,
            format: OutputFormat::default(),
            retry_duration: RETRY_DURATION_DEFAULT,
            put_timeout: PUT_TIMEOUT_DEFAULT,
            deliveries: DELIVERIES_DEFAULT,
            conversions: 2,
            start: StartAt::default(),
            unpacking: Unpacking::default(),
            backlog_bytes: BACKLOG_BYTES_DEFAULT,
            source_backup: None,
            destination_retry_duration: DESTINATION_RETRY_DURATION_DEFAULT,
            transform_bytes: TRANSFORM_BYTES_DEFAULT,
            transform_retries: TRANSFORM_RETRIES_DEFAULT,
        }
    }
}

impl DeliverySettings {
    /// Firehose's defaults: 5 MiB or 300 s, records as they came, `yyyy/MM/dd/HH/`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of records that seal a buffer; each dynamic partition has its own. [`BUFFER_BYTES_MIN`] to
    /// [`BUFFER_BYTES_MAX`]. A hint: the record that reaches it is still in.
    #[must_use]
    pub fn with_buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// The age at which a buffer is sealed, counted from its first record; 0 to [`BUFFER_INTERVAL_MAX`]. With 0, what
    /// one read brings is sealed at once.
    #[must_use]
    pub fn with_buffer_interval(mut self, interval: Duration) -> Self {
        self.buffer_interval = interval;
        self
    }

    /// Bytes of records in memory, [`MEMORY_BYTES_MIN`] or more; beyond it the source is not read, and the largest
    /// buffers are sealed early. A single record, what a transform adds and the reasons of failures can go past it. Objects that are being encoded
    /// come on top: [`with_conversions`](Self::with_conversions) of them at once.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Partitions that may be buffered or under way at once, 1 to [`ACTIVE_PARTITIONS_MAX`]. Records of one more go to
    /// the error output prefix as `activePartitionExceeded`, as with Firehose.
    #[must_use]
    pub fn with_active_partitions_max(mut self, partitions: usize) -> Self {
        self.active_partitions_max = partitions;
        self
    }

    /// Dynamic partitioning by these top-level fields of the JSON record; the prefix must name each as
    /// `!{partitionKeyFromQuery:field}`. A record where one is missing, null, empty or no scalar goes to the error
    /// output prefix.
    #[must_use]
    pub fn with_partition_by<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.partition_by = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Dynamic partitioning by a JQ expression, as Firehose's metadata extraction: of each record's JSON it makes one object,
    /// whose keys the prefix names as `!{partitionKeyFromQuery:key}`. A record for which it fails, or where a key that the
    /// prefix names is missing, null, empty or no scalar, goes to the error output prefix. Up to
    /// [`PARTITION_QUERY_CHARS_MAX`](super::PARTITION_QUERY_CHARS_MAX) characters; definitions, and functions that may go on
    /// for ever (`repeat`, `while`, `until`, `range`, `limit`, `combinations`, `recurse` with arguments) or look outside the
    /// record (`env`, `input`), are refused.
    ///
    /// [`with_partition_by`](Self::with_partition_by) is faster where top-level fields are enough.
    ///
    /// ```
    /// use kinesis_core::firehose::DeliverySettings;
    ///
    /// let settings = DeliverySettings::new()
    ///     .with_partition_query(r#"{customer: .customer.id, year: (.at | strftime("%Y"))}"#)
    ///     .with_prefix("orders/customer=!{partitionKeyFromQuery:customer}/year=!{partitionKeyFromQuery:year}/")
    ///     .with_error_output_prefix("errors/!{firehose:error-output-type}/");
    /// assert!(settings.validate().is_ok());
    /// ```
    #[must_use]
    pub fn with_partition_query(mut self, query: impl Into<String>) -> Self {
        self.partition_query = Some(query.into());
        self
    }

    /// Where objects go; see the [module's documentation](super#prefixes) for expressions and defaults.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Where failed records go.
    #[must_use]
    pub fn with_error_output_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.error_output_prefix = Some(prefix.into());
        self
    }

    /// The time zone of timestamps in prefixes and in names of objects, by its name in the IANA database (`Asia/Tokyo`). UTC
    /// unless set.
    #[must_use]
    pub fn with_time_zone(mut self, name: impl Into<String>) -> Self {
        self.time_zone = name.into();
        self
    }

    /// The end of the names of data objects, in place of what the format and its compression give. Nothing, or a dot and up to
    /// 127 of `0-9 a-z ! - _ . * ' ( )`.
    #[must_use]
    pub fn with_file_extension(mut self, extension: impl Into<String>) -> Self {
        self.file_extension = Some(extension.into());
        self
    }

    /// What objects hold.
    #[must_use]
    pub fn with_format(mut self, format: OutputFormat) -> Self {
        self.format = format;
        self
    }

    /// How long a failing put is repeated. Then the delivery stream stops with an error; nothing is lost, and opening it
    /// again goes on.
    #[must_use]
    pub fn with_retry_duration(mut self, duration: Duration) -> Self {
        self.retry_duration = duration;
        self
    }

    /// How long one put may take before it counts as failed; more than zero.
    #[must_use]
    pub fn with_put_timeout(mut self, timeout: Duration) -> Self {
        self.put_timeout = timeout;
        self
    }

    /// Objects put at once, 1 to [`DELIVERIES_MAX`].
    #[must_use]
    pub fn with_deliveries(mut self, deliveries: usize) -> Self {
        self.deliveries = deliveries;
        self
    }

    /// Objects encoded at once, each on a thread of its own, 1 to [`DELIVERIES_MAX`].
    #[must_use]
    pub fn with_conversions(mut self, conversions: usize) -> Self {
        self.conversions = conversions;
        self
    }

    /// Where to begin in a stream that this delivery stream has not read before.
    #[must_use]
    pub fn with_start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Decompresses the payload of each record before anything else. One that does not decompress goes to the error output
    /// prefix as `decompression-failed`; so does one of more than [`DECOMPRESSED_BYTES_MAX`](super::DECOMPRESSED_BYTES_MAX).
    #[must_use]
    pub fn with_decompression(mut self, decompression: Decompression) -> Self {
        self.unpacking.decompression = Some(decompression);
        self
    }

    /// Takes log events out of the payloads that a subscription of CloudWatch Logs sends, which are gzip: set
    /// [`with_decompression`](Self::with_decompression) too. A record that is none goes to the error output prefix.
    #[must_use]
    pub fn with_cloudwatch_logs(mut self, logs: CloudWatchLogs) -> Self {
        self.unpacking.cloudwatch_logs = Some(logs);
        self
    }

    /// Takes records apart that hold several; each then is transformed, partitioned and converted by itself. A record of
    /// which a part is none goes to the error output prefix whole.
    #[must_use]
    pub fn with_deaggregation(mut self, deaggregation: Deaggregation) -> Self {
        self.unpacking.deaggregation = Some(deaggregation);
        self
    }

    /// Bytes that were put to the delivery stream itself and may wait to be delivered, on disk: beyond about these it takes no
    /// more records. A call on its own is taken however small this is. Not for a delivery stream that reads a stream.
    #[must_use]
    pub fn with_backlog_bytes(mut self, bytes: u64) -> Self {
        self.backlog_bytes = bytes;
        self
    }

    /// Bytes of records in one call of the transform, 1 to 1 GiB. A larger record is handed over alone.
    #[must_use]
    pub fn with_transform_bytes(mut self, bytes: usize) -> Self {
        self.transform_bytes = bytes;
        self
    }

    /// How often a call of the transform that fails as a whole is made again, 0 to [`TRANSFORM_RETRIES_MAX`].
    #[must_use]
    pub fn with_transform_retries(mut self, retries: u32) -> Self {
        self.transform_retries = retries;
        self
    }

    /// Puts every record into the store a second time, as it came.
    #[must_use]
    pub fn with_source_backup(mut self, backup: SourceBackup) -> Self {
        self.source_backup = Some(backup);
        self
    }

    /// How long a [destination](super::Destination) is asked again for what another attempt may make it take, counted from the
    /// first; 0 to [`DESTINATION_RETRY_DURATION_MAX`]. An attempt that has begun is awaited. What is not accepted then goes to the
    /// error output prefix.
    #[must_use]
    pub fn with_destination_retry_duration(mut self, duration: Duration) -> Self {
        self.destination_retry_duration = duration;
        self
    }

    /// Bytes that seal a buffer.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// The age that seals a buffer.
    #[must_use]
    pub fn buffer_interval(&self) -> Duration {
        self.buffer_interval
    }

    /// Bytes of records in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Partitions that may be active at once.
    #[must_use]
    pub fn active_partitions_max(&self) -> usize {
        self.active_partitions_max
    }

    /// The fields that partition records.
    #[must_use]
    pub fn partition_by(&self) -> &[String] {
        &self.partition_by
    }

    /// What objects hold.
    #[must_use]
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    pub(super) fn retry_duration(&self) -> Duration {
        self.retry_duration
    }

    pub(super) fn destination_retry_duration(&self) -> Duration {
        self.destination_retry_duration
    }

    pub(super) fn calls(&self, transform: Arc<dyn Transform>) -> Calls {
        Calls { transform, bytes_max: self.transform_bytes, retries: self.transform_retries }
    }

    pub(super) fn source_backup(&self) -> Option<&SourceBackup> {
        self.source_backup.as_ref()
    }

    pub(super) fn put_timeout(&self) -> Duration {
        self.put_timeout
    }

    pub(super) fn deliveries(&self) -> usize {
        self.deliveries
    }

    pub(super) fn conversions(&self) -> usize {
        self.conversions
    }

    /// The query that partitions records, if one does.
    pub(super) fn compiled_query(&self) -> Result<Option<Query>> {
        self.partition_query.as_deref().map(Query::compile).transpose()
    }

    pub(super) fn unpacking(&self) -> &Unpacking {
        &self.unpacking
    }

    /// The end of the name of a data object.
    pub(super) fn file_extension(&self) -> &str {
        self.file_extension.as_deref().unwrap_or_else(|| self.format.extension())
    }

    pub(super) fn zone(&self) -> Result<Tz> {
        let name = &self.time_zone;
        let unknown = |error: chrono_tz::ParseError| {
            Error::invalid(format!("time zone '{name:.100}' is not in the IANA database: give a name like Asia/Tokyo"))
                .with_source(error)
        };
        name.parse().map_err(unknown)
    }

    pub(super) fn backlog_bytes(&self) -> u64 {
        self.backlog_bytes
    }

    pub(super) fn start(&self) -> StartAt {
        self.start
    }

    /// Checks every bound and both prefixes, as opening a delivery stream does.
    ///
    /// # Errors
    ///
    /// `InvalidInput` that names the setting, its value and its bounds.
    pub fn validate(&self) -> Result<()> {
        self.prefixes().map(drop)
    }

    pub(super) fn prefixes(&self) -> Result<Prefixes> {
        within("buffer bytes", self.buffer_bytes, BUFFER_BYTES_MIN, BUFFER_BYTES_MAX)?;
        within("memory bytes", self.memory_bytes, MEMORY_BYTES_MIN, usize::MAX)?;
        within("active partitions", self.active_partitions_max, 1, ACTIVE_PARTITIONS_MAX)?;
        within("deliveries", self.deliveries, 1, DELIVERIES_MAX)?;
        within("conversions", self.conversions, 1, DELIVERIES_MAX)?;
        within("transform bytes", self.transform_bytes, 1, 1 << 30)?;
        within("transform retries", self.transform_retries as usize, 0, TRANSFORM_RETRIES_MAX as usize)?;
        within("partition keys", self.partition_by.len(), 0, PARTITION_KEYS_MAX)?;
        if self.buffer_interval > BUFFER_INTERVAL_MAX {
            let (given, most) = (self.buffer_interval, BUFFER_INTERVAL_MAX);
            return Err(Error::invalid(format!("a buffer interval of {given:?}: 0 to {most:?} are possible")));
        }
        if self.put_timeout.is_zero() {
            return Err(Error::invalid("a put timeout of zero: no put could succeed"));
        }
        self.unpacking.check()?;
        self.zone()?;
        self.check_file_extension()?;
        if self.destination_retry_duration > DESTINATION_RETRY_DURATION_MAX {
            let (given, most) = (self.destination_retry_duration, DESTINATION_RETRY_DURATION_MAX);
            return Err(Error::invalid(format!(
                "a retry duration of {given:?} for a destination: 0 to {most:?} are possible"
            )));
        }
        let prefixes = Prefixes::parse(&self.prefix, self.error_output_prefix.as_deref())?;
        self.check_partition_keys(&prefixes)?;
        match &self.source_backup {
            Some(backup) => prefixes.with_backup(backup.prefix()),
            None => Ok(prefixes),
        }
    }

    /// Checks what a destination that is no object store cannot have.
    ///
    /// # Errors
    ///
    /// `InvalidInput` that names the setting.
    pub(super) fn check_for_destination(&self) -> Result<()> {
        let wrong = match self.format {
            _ if !self.prefixes()?.data.query_keys().is_empty() => "partition keys",
            OutputFormat::Parquet(_) => "Parquet",
            OutputFormat::Orc(_) => "ORC",
            OutputFormat::Records(format) if format.compression() != Compression::None => "compressed objects",
            OutputFormat::Records(format) if format.separator() != Separator::None => "a separator",
            OutputFormat::Records(_) => return Ok(()),
        };
        Err(Error::invalid(format!(
            "{wrong}: that is for an object store, but this destination takes records one by one"
        )))
    }

    fn check_partition_keys(&self, prefixes: &Prefixes) -> Result<()> {
        let named = prefixes.data.query_keys();
        if self.compiled_query()?.is_some() {
            return self.check_query_keys(prefixes);
        }
        for (number, field) in self.partition_by.iter().enumerate() {
            if field.is_empty() || self.partition_by.iter().take(number).any(|earlier| earlier == field) {
                return Err(Error::invalid(format!("partition field '{field}' is empty or named twice")));
            }
            if !named.contains(field.as_str()) {
                return Err(Error::invalid(format!(
                    "partition field '{field}' is not in prefix '{}': add !{{partitionKeyFromQuery:{field}}}",
                    self.prefix
                )));
            }
            if prefixes.data.lambda_keys().contains(field.as_str()) {
                return Err(Error::invalid(format!("partition key '{field}' is both a field and from the transform")));
            }
        }
        match named.iter().find(|key| !self.partition_by.iter().any(|field| field == *key)) {
            Some(key) => Err(Error::invalid(format!(
                "prefix '{}' names partition key '{key}', which is no field to partition by: add it there",
                self.prefix
            ))),
            None => Ok(()),
        }
    }

    fn check_file_extension(&self) -> Result<()> {
        let extension = self.file_extension.as_deref().unwrap_or_default();
        let plain = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || "!-_.*'()".contains(c);
        if extension.is_empty()
            || (extension.starts_with('.')
                && extension.len() <= FILE_EXTENSION_CHARS_MAX
                && extension.chars().all(plain))
        {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "file extension '{extension:.200}' is not a dot and up to {} of 0-9 a-z ! - _ . * ' ( )",
            FILE_EXTENSION_CHARS_MAX - 1
        )))
    }

    /// Which keys a query has is known once it is run, record by record.
    fn check_query_keys(&self, prefixes: &Prefixes) -> Result<()> {
        if !self.partition_by.is_empty() {
            return Err(Error::invalid("both fields and a query to partition by: take one of them"));
        }
        let (named, given) = (prefixes.data.query_keys(), prefixes.data.lambda_keys());
        if named.is_empty() {
            return Err(Error::invalid(format!(
                "there is a partition query, but prefix '{}' names none of its keys: add !{{partitionKeyFromQuery:key}}",
                self.prefix
            )));
        }
        match named.intersection(&given).next() {
            Some(key) => {
                Err(Error::invalid(format!("partition key '{key}' is both of the query and from the transform")))
            }
            None => Ok(()),
        }
    }
}

fn within(what: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("{what}: {value} is not within {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn bounds_are_firehoses() {
        assert!(DeliverySettings::new().validate().is_ok());
        let wrong = [
            DeliverySettings::new().with_buffer_bytes(BUFFER_BYTES_MAX + 1),
            DeliverySettings::new().with_buffer_bytes(0),
            DeliverySettings::new().with_buffer_interval(Duration::from_secs(901)),
            DeliverySettings::new().with_active_partitions_max(5_001),
            DeliverySettings::new().with_memory_bytes(1),
            DeliverySettings::new().with_put_timeout(Duration::ZERO),
            DeliverySettings::new().with_partition_by(["day"]),
            DeliverySettings::new().with_prefix("!{partitionKeyFromQuery:day}/").with_error_output_prefix("e/"),
            DeliverySettings::new().with_time_zone("Mars/Olympus"),
            DeliverySettings::new().with_file_extension("json"),
            DeliverySettings::new().with_file_extension(".a/b"),
            DeliverySettings::new().with_partition_query("{day: .day}"),
            DeliverySettings::new().with_partition_query("{day: .day}").with_partition_by(["day"]),
            DeliverySettings::new().with_source_backup(SourceBackup::new("!{firehose:error-output-type}/")),
            DeliverySettings::new().with_destination_retry_duration(Duration::from_secs(7_201)),
            DeliverySettings::new().with_deaggregation(Deaggregation::Delimited(Vec::new())),
        ];
        for settings in wrong {
            assert_eq!(settings.validate().unwrap_err().kind(), ErrorKind::InvalidInput, "{settings:?}");
        }
    }
}
