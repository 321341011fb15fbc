//! Destinations in S3 as AWS describes them, and what they mean here.
//!
//! Invariant: what is accepted is done; what is not done here is refused by its name.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire_core::WireError;

use super::super::refusal::invalid;
use super::functions::Functions;
use super::processing::{Processing, ProcessingConfiguration};
use super::target::Plan;
use crate::firehose::{
    Compression, DeliverySettings, OrcCompression, OrcFormat, OutputFormat, ParquetCompression, ParquetFormat,
    RecordsFormat, SchemaSource, Separator, SourceBackup, StartAt,
};

/// Repeated for as long as it takes: what was accepted stays journaled.
const RETRY_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);
const MIB: usize = 1024 * 1024;

/// A destination in S3; of a plain one the members behind the first eight are absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct S3Destination {
    #[serde(rename = "RoleARN", skip_serializing_if = "Option::is_none")]
    pub(super) role_arn: Option<String>,
    #[serde(rename = "BucketARN", skip_serializing_if = "Option::is_none")]
    pub(super) bucket_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_output_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffering_hints: Option<BufferingHints>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression_format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encryption_configuration: Option<Value>,
    /// Kept to be described again: what would be logged there is told to `tracing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_watch_logging_options: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_configuration: Option<ProcessingConfiguration>,
    #[serde(rename = "S3BackupMode", skip_serializing_if = "Option::is_none")]
    s3_backup_mode: Option<String>,
    /// Where the backup goes; it is given under one name, updated under another and described under a third.
    #[serde(rename = "S3BackupConfiguration", alias = "S3BackupUpdate", skip_serializing_if = "Option::is_none")]
    s3_backup: Option<Box<S3Destination>>,
    #[serde(rename = "S3BackupDescription", skip_serializing_if = "Option::is_none")]
    s3_backup_description: Option<Box<S3Destination>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_format_conversion_configuration: Option<DataFormatConversion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dynamic_partitioning_configuration: Option<DynamicPartitioning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_extension: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_time_zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct BufferingHints {
    #[serde(rename = "SizeInMBs", skip_serializing_if = "Option::is_none")]
    size_in_mbs: Option<usize>,
    #[serde(rename = "IntervalInSeconds", skip_serializing_if = "Option::is_none")]
    interval_in_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DataFormatConversion {
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_format_configuration: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_format_configuration: Option<Value>,
    #[serde(default)]
    enabled: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DynamicPartitioning {
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_options: Option<Value>,
    #[serde(default)]
    enabled: bool,
}

impl BufferingHints {
    /// The settings with these, and with AWS's defaults where there is none.
    pub(super) fn apply(self, settings: DeliverySettings) -> DeliverySettings {
        settings
            .with_buffer_bytes(self.size_in_mbs.unwrap_or(5).saturating_mul(MIB))
            .with_buffer_interval(Duration::from_secs(self.interval_in_seconds.unwrap_or(300)))
    }

    /// As they are described.
    pub(super) fn described(self) -> Self {
        Self { size_in_mbs: self.size_in_mbs.or(Some(5)), interval_in_seconds: self.interval_in_seconds.or(Some(300)) }
    }
}

/// What holds for every delivery stream that a client makes.
pub(super) fn shared_settings() -> DeliverySettings {
    DeliverySettings::new().with_start(StartAt::Latest).with_retry_duration(RETRY_DURATION)
}

impl S3Destination {
    /// This destination with what `update` says otherwise.
    pub(super) fn merged(self, update: Self) -> Self {
        let s3_backup = match (self.s3_backup, update.s3_backup) {
            (Some(backup), Some(update)) => Some(Box::new(backup.merged(*update))),
            (backup, update) => update.or(backup),
        };
        Self {
            role_arn: update.role_arn.or(self.role_arn),
            bucket_arn: update.bucket_arn.or(self.bucket_arn),
            prefix: update.prefix.or(self.prefix),
            error_output_prefix: update.error_output_prefix.or(self.error_output_prefix),
            buffering_hints: update.buffering_hints.or(self.buffering_hints),
            compression_format: update.compression_format.or(self.compression_format),
            encryption_configuration: update.encryption_configuration.or(self.encryption_configuration),
            cloud_watch_logging_options: update.cloud_watch_logging_options.or(self.cloud_watch_logging_options),
            processing_configuration: update.processing_configuration.or(self.processing_configuration),
            s3_backup_mode: update.s3_backup_mode.or(self.s3_backup_mode),
            s3_backup,
            s3_backup_description: None,
            data_format_conversion_configuration: update
                .data_format_conversion_configuration
                .or(self.data_format_conversion_configuration),
            dynamic_partitioning_configuration: update
                .dynamic_partitioning_configuration
                .or(self.dynamic_partitioning_configuration),
            file_extension: update.file_extension.or(self.file_extension),
            custom_time_zone: update.custom_time_zone.or(self.custom_time_zone),
        }
    }

    /// As it is described: with what AWS fills in where nothing is given.
    pub(super) fn described(&self) -> Self {
        let none = || serde_json::json!({"NoEncryptionConfig": "NoEncryption"});
        Self {
            buffering_hints: Some(self.hints().described()),
            compression_format: self.compression_format.clone().or_else(|| Some("UNCOMPRESSED".to_owned())),
            encryption_configuration: self.encryption_configuration.clone().or_else(|| Some(none())),
            s3_backup_mode: self.s3_backup_mode.clone().or_else(|| Some("Disabled".to_owned())),
            s3_backup: None,
            s3_backup_description: self.s3_backup.as_ref().map(|backup| Box::new(backup.described().plain())),
            ..self.clone()
        }
    }

    /// The members that a plain destination has too.
    pub(super) fn plain(&self) -> Self {
        Self {
            processing_configuration: None,
            s3_backup_mode: None,
            s3_backup: None,
            s3_backup_description: None,
            data_format_conversion_configuration: None,
            dynamic_partitioning_configuration: None,
            file_extension: None,
            custom_time_zone: None,
            ..self.clone()
        }
    }

    /// What it means, if all of it can be done.
    ///
    /// # Errors
    /// `InvalidArgumentException` that names the member.
    pub(super) fn plan(&self, functions: &Functions) -> Result<Plan, WireError> {
        let bucket = self.bucket()?;
        let backup = self.backup()?;
        let mut settings = self.hints().apply(shared_settings());
        settings = settings.with_prefix(self.prefix.clone().unwrap_or_default());
        if let Some(prefix) = &self.error_output_prefix {
            settings = settings.with_error_output_prefix(prefix);
        }
        if let Some(extension) = self.file_extension.as_ref().filter(|extension| !extension.is_empty()) {
            settings = settings.with_file_extension(extension);
        }
        let mut backup_bucket = None;
        if let Some(backup) = backup {
            settings = settings.with_source_backup(backup.as_backup()?);
            backup_bucket = Some(backup.bucket()?);
        }
        let settings = self.in_time_zone(settings);
        let processing = self.processing_configuration.clone().unwrap_or_default();
        let Processing { settings, separator, transform, has_query } = processing.apply(settings, functions)?;
        let partitions = self.dynamic_partitioning_configuration.as_ref().is_some_and(|dynamic| dynamic.enabled);
        if has_query && !partitions {
            return Err(invalid("MetadataExtraction processor is only present when Dynamic Partitioning is enabled."));
        }
        if partitions && !has_query && transform.is_none() {
            return Err(invalid("Dynamic Partitioning needs a MetadataExtraction or a Lambda processor."));
        }
        let settings = settings.with_format(self.format(separator)?);
        settings.validate()?;
        let conversion = self.data_format_conversion_configuration.as_ref().filter(|conversion| conversion.enabled);
        let schema = conversion.and_then(|conversion| conversion.schema_configuration.as_ref());
        let schema = match schema.filter(|schema| !schema.is_null()) {
            Some(schema) => functions.schema(schema)?,
            None => SchemaSource::inferred(),
        };
        Ok(Plan { bucket, settings, backup_bucket, transform, schema, destination: None })
    }

    /// The bucket, once what every destination in S3 must have was checked.
    ///
    /// # Errors
    /// `InvalidArgumentException` that names the member.
    pub(super) fn bucket(&self) -> Result<String, WireError> {
        let required = |name: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| invalid(format!("{name} of the destination is missing")))
        };
        required("RoleARN", &self.role_arn)?;
        let arn = required("BucketARN", &self.bucket_arn)?;
        let encryption = self.encryption_configuration.as_ref();
        if encryption.is_some_and(|encryption| encryption.get("KMSEncryptionConfig").is_some_and(|kms| !kms.is_null()))
        {
            return Err(invalid("KMSEncryptionConfig is not available here: there is no KMS."));
        }
        let plain = |bucket: &&str| {
            let chars = bucket.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
            chars && (1..=255).contains(&bucket.len()) && bucket.chars().any(|c| c != '.')
        };
        let bucket = arn.split_once(":s3:::").map(|(_, bucket)| bucket).filter(plain);
        bucket.map(str::to_owned).ok_or_else(|| invalid(format!("BucketARN {arn} is not a bucket's")))
    }

    /// What a copy of every record goes to, by this destination.
    ///
    /// # Errors
    /// `InvalidArgumentException` for a compression that there is not.
    pub(super) fn as_backup(&self) -> Result<SourceBackup, WireError> {
        Ok(SourceBackup::new(self.prefix.clone().unwrap_or_default()).with_compression(self.compression()?))
    }

    /// Where a destination that is not in S3 puts what fails.
    pub(super) fn errors_of_another(&self, settings: DeliverySettings) -> DeliverySettings {
        let prefix = self.error_output_prefix.as_ref().or(self.prefix.as_ref());
        self.in_time_zone(settings.with_error_output_prefix(prefix.cloned().unwrap_or_default()))
    }

    fn in_time_zone(&self, settings: DeliverySettings) -> DeliverySettings {
        match self.custom_time_zone.as_ref().filter(|zone| !zone.is_empty()) {
            Some(zone) => settings.with_time_zone(zone),
            None => settings,
        }
    }

    fn hints(&self) -> BufferingHints {
        self.buffering_hints.unwrap_or_default()
    }

    /// Where records are backed up, if they are.
    fn backup(&self) -> Result<Option<&Self>, WireError> {
        match (self.s3_backup_mode.as_deref(), &self.s3_backup) {
            (None | Some("Disabled"), _) => Ok(None),
            (Some("Enabled"), Some(backup)) => Ok(Some(backup)),
            (Some("Enabled"), None) => Err(invalid("S3BackupMode Enabled needs an S3BackupConfiguration.")),
            (Some(other), _) => Err(invalid(format!("S3BackupMode {other} is neither Enabled nor Disabled."))),
        }
    }

    fn compression(&self) -> Result<Compression, WireError> {
        match self.compression_format.as_deref() {
            None | Some("UNCOMPRESSED") => Ok(Compression::None),
            Some("GZIP") => Ok(Compression::Gzip),
            Some("ZIP") => Ok(Compression::Zip),
            Some("Snappy") => Ok(Compression::Snappy),
            Some("HADOOP_SNAPPY") => Ok(Compression::HadoopSnappy),
            Some(other) => Err(invalid(format!("CompressionFormat {other} is none of those that there are."))),
        }
    }

    fn format(&self, separator: Separator) -> Result<OutputFormat, WireError> {
        let compression = self.compression()?;
        let conversion = self.data_format_conversion_configuration.as_ref().filter(|conversion| conversion.enabled);
        let Some(conversion) = conversion else {
            return Ok(OutputFormat::Records(
                RecordsFormat::new().with_separator(separator).with_compression(compression),
            ));
        };
        if compression != Compression::None {
            return Err(invalid("CompressionFormat must be UNCOMPRESSED when data format conversion is enabled."));
        }
        conversion.format()
    }
}

impl DataFormatConversion {
    /// Keys are matched without regard to case, as both deserializers do unless they are told otherwise.
    fn refuse_other_keys(&self) -> Result<(), WireError> {
        let deserializer = self.input_format_configuration.as_ref().and_then(|input| input.get("Deserializer"));
        let option = |kind: &str, name: &str| deserializer?.get(kind)?.get(name).cloned();
        let is_set = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Object(members) => !members.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        if option("OpenXJsonSerDe", "CaseInsensitive") == Some(Value::Bool(false)) {
            return Err(invalid("CaseInsensitive false of OpenXJsonSerDe is not available here."));
        }
        let others = [
            ("OpenXJsonSerDe", "ConvertDotsInJsonKeysToUnderscores"),
            ("OpenXJsonSerDe", "ColumnToJsonKeyMappings"),
            ("HiveJsonSerDe", "TimestampFormats"),
        ];
        match others.into_iter().find(|(kind, name)| option(kind, name).is_some_and(|value| is_set(&value))) {
            Some((kind, name)) => Err(invalid(format!("{name} of {kind} is not available here."))),
            None => Ok(()),
        }
    }

    fn format(&self) -> Result<OutputFormat, WireError> {
        self.refuse_other_keys()?;
        let serializer = self.output_format_configuration.as_ref().and_then(|output| output.get("Serializer"));
        let named =
            |name: &str| serializer.and_then(|serializer| serializer.get(name)).filter(|given| !given.is_null());
        let compression =
            |given: &Value| given.get("Compression").and_then(Value::as_str).unwrap_or("SNAPPY").to_owned();
        match (named("ParquetSerDe"), named("OrcSerDe")) {
            (Some(parquet), None) => {
                let compression = match compression(parquet).as_str() {
                    "SNAPPY" => ParquetCompression::Snappy,
                    "GZIP" => ParquetCompression::Gzip,
                    "UNCOMPRESSED" => ParquetCompression::Uncompressed,
                    other => {
                        return Err(invalid(format!("Compression {other} of ParquetSerDe is not available here.")));
                    }
                };
                Ok(OutputFormat::Parquet(ParquetFormat::new().with_compression(compression)))
            }
            (None, Some(orc)) => {
                let compression = match compression(orc).as_str() {
                    "SNAPPY" => OrcCompression::Snappy,
                    "ZLIB" => OrcCompression::Zlib,
                    "NONE" => OrcCompression::Uncompressed,
                    other => return Err(invalid(format!("Compression {other} of OrcSerDe is not available here."))),
                };
                Ok(OutputFormat::Orc(OrcFormat::new().with_compression(compression)))
            }
            _ => Err(invalid("OutputFormatConfiguration must have a Serializer: a ParquetSerDe or an OrcSerDe.")),
        }
    }
}
