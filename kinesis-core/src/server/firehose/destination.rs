//! Destinations in S3 as AWS describes them, and what they mean here.
//!
//! Invariant: what is accepted is done; what is not done here is refused by its name.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire_core::WireError;

use super::super::refusal::invalid;
use crate::firehose::{
    CloudWatchLogs, Compression, Deaggregation, Decompression, DeliverySettings, OutputFormat, ParquetCompression,
    ParquetFormat, RecordsFormat, Separator, StartAt,
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessingConfiguration {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    processors: Vec<Processor>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Processor {
    r#type: String,
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    parameter_name: String,
    parameter_value: String,
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

/// What a destination means here.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) bucket: String,
    pub(super) settings: DeliverySettings,
}

impl S3Destination {
    /// This destination with what `update` says otherwise.
    pub(super) fn merged(self, update: Self) -> Self {
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
        let hints = self.buffering_hints.unwrap_or_default();
        let hints = BufferingHints {
            size_in_mbs: hints.size_in_mbs.or(Some(5)),
            interval_in_seconds: hints.interval_in_seconds.or(Some(300)),
        };
        let none = || serde_json::json!({"NoEncryptionConfig": "NoEncryption"});
        Self {
            buffering_hints: Some(hints),
            compression_format: self.compression_format.clone().or_else(|| Some("UNCOMPRESSED".to_owned())),
            encryption_configuration: self.encryption_configuration.clone().or_else(|| Some(none())),
            s3_backup_mode: self.s3_backup_mode.clone().or_else(|| Some("Disabled".to_owned())),
            ..self.clone()
        }
    }

    /// The members that a plain destination has too.
    pub(super) fn plain(&self) -> Self {
        Self {
            processing_configuration: None,
            s3_backup_mode: None,
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
    pub(super) fn plan(&self) -> Result<Plan, WireError> {
        let required = |name: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| invalid(format!("{name} of the destination is missing")))
        };
        required("RoleARN", &self.role_arn)?;
        let arn = required("BucketARN", &self.bucket_arn)?;
        let plain = |bucket: &&str| {
            let chars = bucket.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
            chars && (1..=255).contains(&bucket.len()) && bucket.chars().any(|c| c != '.')
        };
        let bucket = arn.split_once(":s3:::").map(|(_, bucket)| bucket).filter(plain);
        let bucket = bucket.ok_or_else(|| invalid(format!("BucketARN {arn} is not a bucket's")))?.to_owned();
        self.refuse_what_is_not_here()?;
        let hints = self.buffering_hints.unwrap_or_default();
        let mut settings = DeliverySettings::new()
            .with_start(StartAt::Latest)
            .with_retry_duration(RETRY_DURATION)
            .with_buffer_bytes(hints.size_in_mbs.unwrap_or(5).saturating_mul(MIB))
            .with_buffer_interval(Duration::from_secs(hints.interval_in_seconds.unwrap_or(300)))
            .with_prefix(self.prefix.clone().unwrap_or_default());
        if let Some(prefix) = &self.error_output_prefix {
            settings = settings.with_error_output_prefix(prefix);
        }
        if let Some(zone) = self.custom_time_zone.as_ref().filter(|zone| !zone.is_empty()) {
            settings = settings.with_time_zone(zone);
        }
        if let Some(extension) = self.file_extension.as_ref().filter(|extension| !extension.is_empty()) {
            settings = settings.with_file_extension(extension);
        }
        let (settings, separator) = self.process(settings)?;
        let settings = settings.with_format(self.format(separator)?);
        settings.validate()?;
        Ok(Plan { bucket, settings })
    }

    fn refuse_what_is_not_here(&self) -> Result<(), WireError> {
        if self.s3_backup_mode.as_deref() == Some("Enabled") {
            return Err(invalid("S3BackupMode Enabled is not available here: source records are not backed up."));
        }
        let encryption = self.encryption_configuration.as_ref();
        if encryption.is_some_and(|encryption| encryption.get("KMSEncryptionConfig").is_some_and(|kms| !kms.is_null()))
        {
            return Err(invalid("KMSEncryptionConfig is not available here: there is no KMS."));
        }
        Ok(())
    }

    /// The settings with what the processors say, and what stands behind each record.
    fn process(&self, mut settings: DeliverySettings) -> Result<(DeliverySettings, Separator), WireError> {
        let mut separator = Separator::None;
        let processing = self.processing_configuration.clone().unwrap_or_default();
        let processors = if processing.enabled { processing.processors } else { Vec::new() };
        let mut has_query = false;
        for processor in processors {
            match processor.r#type.as_str() {
                "RecordDeAggregation" => settings = settings.with_deaggregation(processor.deaggregation()?),
                "Decompression" => {
                    processor.only("CompressionFormat", &["GZIP"])?;
                    settings = settings.with_decompression(Decompression::Gzip);
                }
                "CloudWatchLogProcessing" => {
                    processor.only("DataMessageExtraction", &["true"])?;
                    settings = settings.with_cloudwatch_logs(CloudWatchLogs::Messages);
                }
                "MetadataExtraction" => {
                    processor.only("JsonParsingEngine", &["JQ-1.6"])?;
                    let query = processor.parameter("MetadataExtractionQuery");
                    let query = query.ok_or_else(|| invalid("MetadataExtraction needs a MetadataExtractionQuery."))?;
                    settings = settings.with_partition_query(query);
                    has_query = true;
                }
                "AppendDelimiterToRecord" => {
                    processor.only("Delimiter", &["\\n", "\n"])?;
                    separator = Separator::Newline;
                }
                other => return Err(invalid(format!("Processor {other} is not available here."))),
            }
        }
        let partitions = self.dynamic_partitioning_configuration.as_ref().is_some_and(|dynamic| dynamic.enabled);
        if has_query && !partitions {
            return Err(invalid("MetadataExtraction processor is only present when Dynamic Partitioning is enabled."));
        }
        if partitions && !has_query {
            return Err(invalid("Dynamic Partitioning needs a MetadataExtraction processor."));
        }
        Ok((settings, separator))
    }

    fn format(&self, separator: Separator) -> Result<OutputFormat, WireError> {
        let compression = match self.compression_format.as_deref() {
            None | Some("UNCOMPRESSED") => Compression::None,
            Some("GZIP") => Compression::Gzip,
            Some("ZIP") => Compression::Zip,
            Some("Snappy") => Compression::Snappy,
            Some("HADOOP_SNAPPY") => Compression::HadoopSnappy,
            Some(other) => return Err(invalid(format!("CompressionFormat {other} is none of those that there are."))),
        };
        let conversion = self.data_format_conversion_configuration.as_ref().filter(|conversion| conversion.enabled);
        let Some(conversion) = conversion else {
            return Ok(OutputFormat::Records(
                RecordsFormat::new().with_separator(separator).with_compression(compression),
            ));
        };
        if compression != Compression::None {
            return Err(invalid("CompressionFormat must be UNCOMPRESSED when data format conversion is enabled."));
        }
        conversion.format().map(OutputFormat::Parquet)
    }
}

impl DataFormatConversion {
    /// Parquet, by a schema that is inferred from the records: there is no catalog here to ask for one.
    fn format(&self) -> Result<ParquetFormat, WireError> {
        if self.schema_configuration.as_ref().is_some_and(|schema| !schema.is_null()) {
            return Err(invalid(
                "SchemaConfiguration is not available here, since there is no catalog: leave it out, and the schema is \
                 inferred from the records.",
            ));
        }
        let serializer = self.output_format_configuration.as_ref().and_then(|output| output.get("Serializer"));
        let Some(parquet) = serializer.and_then(|serializer| serializer.get("ParquetSerDe")) else {
            return Err(invalid("OutputFormatConfiguration must have a ParquetSerDe; OrcSerDe is not available here."));
        };
        let compression = match parquet.get("Compression").and_then(Value::as_str) {
            None | Some("SNAPPY") => ParquetCompression::Snappy,
            Some("GZIP") => ParquetCompression::Gzip,
            Some("UNCOMPRESSED") => ParquetCompression::Uncompressed,
            Some(other) => return Err(invalid(format!("Compression {other} of ParquetSerDe is not available here."))),
        };
        Ok(ParquetFormat::new().with_compression(compression))
    }
}

impl Processor {
    fn parameter(&self, name: &str) -> Option<&str> {
        let named = self.parameters.iter().find(|parameter| parameter.parameter_name == name);
        named.map(|parameter| parameter.parameter_value.as_str())
    }

    /// Refuses another value than these for a parameter, if there is one.
    fn only(&self, name: &str, values: &[&str]) -> Result<(), WireError> {
        match self.parameter(name) {
            Some(value) if !values.contains(&value) => {
                Err(invalid(format!("{name} {value} of processor {} is not available here.", self.r#type)))
            }
            _ => Ok(()),
        }
    }

    fn deaggregation(&self) -> Result<Deaggregation, WireError> {
        match self.parameter("SubRecordType") {
            Some("JSON") => Ok(Deaggregation::Json),
            Some("DELIMITED") => {
                let delimiter = self.parameter("Delimiter").and_then(|delimiter| STANDARD.decode(delimiter).ok());
                let missing = || invalid("RecordDeAggregation of SubRecordType DELIMITED needs a Delimiter in base64.");
                delimiter.map(Deaggregation::Delimited).ok_or_else(missing)
            }
            other => {
                let other = other.unwrap_or("null");
                Err(invalid(format!("SubRecordType {other} of RecordDeAggregation is neither JSON nor DELIMITED.")))
            }
        }
    }
}
