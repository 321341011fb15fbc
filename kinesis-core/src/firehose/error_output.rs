//! The kinds of failure that put a record aside, and the lines in which it is put aside.
//!
//! Invariant: the line holds the record's bytes, so that whatever is put aside can be mended and put again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// Where a failed record goes: the text of `!{firehose:error-output-type}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorOutputType {
    /// It could not be taken apart, the transform refused it, or it has no partition keys.
    ProcessingFailed,
    /// It could not be decompressed.
    DecompressionFailed,
    /// It does not fit the schema.
    FormatConversionFailed,
    /// It belongs to a partition beyond
    /// [`with_active_partitions_max`](super::DeliverySettings::with_active_partitions_max).
    ActivePartitionExceeded,
    /// An HTTP endpoint did not take it.
    HttpEndpointFailed,
    /// Splunk did not take it.
    SplunkFailed,
    /// OpenSearch did not take it.
    #[serde(rename = "AmazonOpenSearchService-failed")]
    OpenSearchFailed,
    /// Redshift did not load its object, of which there is a manifest.
    RedshiftFailed,
    /// A [destination](super::Destination) of the app's own did not take it.
    DestinationFailed,
}

impl ErrorOutputType {
    /// Whether a destination names it, for records that it does not take.
    pub(super) fn is_of_a_destination(self) -> bool {
        match self {
            Self::ProcessingFailed
            | Self::DecompressionFailed
            | Self::FormatConversionFailed
            | Self::ActivePartitionExceeded => false,
            Self::HttpEndpointFailed
            | Self::SplunkFailed
            | Self::OpenSearchFailed
            | Self::RedshiftFailed
            | Self::DestinationFailed => true,
        }
    }

    /// The text as it stands in an object's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProcessingFailed => "processing-failed",
            Self::DecompressionFailed => "decompression-failed",
            Self::FormatConversionFailed => "format-conversion-failed",
            // As the service's guide spells it.
            Self::ActivePartitionExceeded => "activePartitionExceeded",
            Self::HttpEndpointFailed => "http-endpoint-failed",
            Self::SplunkFailed => "splunk-failed",
            Self::OpenSearchFailed => "AmazonOpenSearchService-failed",
            Self::RedshiftFailed => "errors/manifests",
            Self::DestinationFailed => "destination-failed",
        }
    }
}

impl std::fmt::Display for ErrorOutputType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one record was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) output: ErrorOutputType,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Failure {
    /// It could not be decompressed.
    pub(super) fn decompression(message: String) -> Self {
        Self { output: ErrorOutputType::DecompressionFailed, code: "Decompression.InvalidRecord", message }
    }

    /// It does not hold what it should.
    pub(super) fn unpacking(message: String) -> Self {
        Self { output: ErrorOutputType::ProcessingFailed, code: "RecordDeAggregation.InvalidRecord", message }
    }

    /// The transform answered `ProcessingFailed`.
    pub(super) fn transform(message: String) -> Self {
        Self { output: ErrorOutputType::ProcessingFailed, code: "Lambda.ProcessingFailedStatus", message }
    }

    /// The transform could not be called, or broke its contract.
    pub(super) fn invocation(message: String) -> Self {
        Self { output: ErrorOutputType::ProcessingFailed, code: "Lambda.FunctionError", message }
    }

    /// The record has no usable partition keys.
    pub(super) fn partition_keys(message: String) -> Self {
        let code = "DynamicPartitioning.MetadataExtractionFailed";
        Self { output: ErrorOutputType::ProcessingFailed, code, message }
    }

    /// One partition too many.
    pub(super) fn active_partitions(most: usize) -> Self {
        let message = format!("{most} partitions are active already: raise the limit or partition by fewer values");
        let code = "DynamicPartitioning.ActivePartitionsLimitExceeded";
        Self { output: ErrorOutputType::ActivePartitionExceeded, code, message }
    }

    /// The record does not fit the schema.
    pub(super) fn conversion(message: String) -> Self {
        let (output, code) = (ErrorOutputType::FormatConversionFailed, "DataFormatConversion.InvalidRecord");
        Self { output, code, message }
    }

    /// It failed before a restart in this way, and why is no longer known.
    pub(super) fn earlier(output: ErrorOutputType) -> Self {
        let message = "put aside before a restart; the record passes now: put it again".to_owned();
        Self { output, code: "Delivery.PutAsideBeforeRestart", message }
    }
}

/// A failed record.
#[derive(Clone, Copy, Debug)]
pub(super) struct FailedRecord<'a> {
    pub(super) output: ErrorOutputType,
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) attempts: u32,
    pub(super) arrival: DateTime<Utc>,
    pub(super) data: &'a [u8],
    pub(super) sequence_number: &'a str,
    /// Which part of the record it is, if that holds several.
    pub(super) sub_sequence_number: Option<u16>,
    /// What a destination wants to stand in the line.
    pub(super) members: &'a [(&'static str, String)],
}

/// Appends the record's line, as Firehose writes it for this type of failure; times are milliseconds since 1970.
pub(super) fn write_line(record: FailedRecord<'_>, ended: DateTime<Utc>, out: &mut Vec<u8>) {
    let written = serde_json::to_writer(&mut *out, &Line { record, ended });
    debug_assert!(written.is_ok(), "a line is always JSON");
    out.push(b'\n');
}

struct Line<'a> {
    record: FailedRecord<'a>,
    ended: DateTime<Utc>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { record, ended } = self;
        let is_conversion = record.output == ErrorOutputType::FormatConversionFailed;
        let (code, message) =
            if is_conversion { ("lastErrorCode", "lastErrorMessage") } else { ("errorCode", "errorMessage") };
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("attemptsMade", &record.attempts)?;
        line.serialize_entry("arrivalTimestamp", &record.arrival.timestamp_millis())?;
        line.serialize_entry(code, record.code)?;
        line.serialize_entry(message, record.message)?;
        line.serialize_entry("attemptEndingTimestamp", &ended.timestamp_millis())?;
        line.serialize_entry("rawData", &STANDARD.encode(record.data))?;
        if record.output.is_of_a_destination() {
            // Firehose spells it so here.
            line.serialize_entry("subsequenceNumber", &record.sub_sequence_number.unwrap_or_default())?;
            for (name, value) in record.members {
                line.serialize_entry(name, value)?;
            }
            return line.end();
        }
        line.serialize_entry("sequenceNumber", record.sequence_number)?;
        if is_conversion || record.sub_sequence_number.is_some() {
            line.serialize_entry("subSequenceNumber", &record.sub_sequence_number)?;
        }
        line.serialize_entry(if is_conversion { "dataCatalogTable" } else { "lambdaArn" }, &())?;
        line.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(failure: &Failure) -> serde_json::Value {
        let arrival = DateTime::from_timestamp_millis(1_000).unwrap();
        let record = FailedRecord {
            output: failure.output,
            code: failure.code,
            message: &failure.message,
            attempts: 1,
            arrival,
            data: b"{\"a\":",
            sequence_number: "7",
            sub_sequence_number: None,
            members: &[],
        };
        let mut out = Vec::new();
        write_line(record, DateTime::from_timestamp_millis(2_000).unwrap(), &mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_conversion_failure_has_the_services_form() {
        let line = line(&Failure::conversion("expected a number".to_owned()));
        assert_eq!(line["attemptsMade"], 1);
        assert_eq!(line["arrivalTimestamp"], 1_000);
        assert_eq!(line["attemptEndingTimestamp"], 2_000);
        assert_eq!(line["lastErrorCode"], "DataFormatConversion.InvalidRecord");
        assert_eq!(line["lastErrorMessage"], "expected a number");
        assert_eq!(line["rawData"], "eyJhIjo=");
        assert_eq!(line["sequenceNumber"], "7");
        assert!(line["dataCatalogTable"].is_null());
    }

    #[test]
    fn a_processing_failure_has_the_services_form() {
        let line = line(&Failure::transform("no".to_owned()));
        assert_eq!(
            (&line["errorCode"], &line["errorMessage"]),
            (&"Lambda.ProcessingFailedStatus".into(), &"no".into())
        );
        assert_eq!(line["rawData"], "eyJhIjo=");
        assert!(line["lambdaArn"].is_null());
    }
}
