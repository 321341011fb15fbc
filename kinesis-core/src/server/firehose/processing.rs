//! What is done with records before they are delivered, as AWS describes it in processors.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use wire_core::WireError;

use super::super::refusal::invalid;
use super::functions::Functions;
use crate::firehose::{CloudWatchLogs, Deaggregation, Decompression, DeliverySettings, Separator, Transform};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProcessingConfiguration {
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

/// What processors mean here.
pub(super) struct Processing {
    pub(super) settings: DeliverySettings,
    /// What stands behind each record.
    pub(super) separator: Separator,
    pub(super) transform: Option<Arc<dyn Transform>>,
    /// One of them extracts partition keys.
    pub(super) has_query: bool,
}

impl ProcessingConfiguration {
    /// The settings with what the processors say.
    ///
    /// # Errors
    /// `InvalidArgumentException` that names the processor.
    pub(super) fn apply(&self, settings: DeliverySettings, functions: &Functions) -> Result<Processing, WireError> {
        let mut done = Processing { settings, separator: Separator::None, transform: None, has_query: false };
        for processor in self.processors.iter().filter(|_| self.enabled) {
            done = processor.apply(done, functions)?;
        }
        Ok(done)
    }
}

impl Processor {
    fn apply(&self, done: Processing, functions: &Functions) -> Result<Processing, WireError> {
        let Processing { settings, separator, transform, has_query } = done;
        let (mut settings, mut separator, mut transform, mut has_query) = (settings, separator, transform, has_query);
        match self.r#type.as_str() {
            "RecordDeAggregation" => settings = settings.with_deaggregation(self.deaggregation()?),
            "Decompression" => {
                self.only("CompressionFormat", &["GZIP"])?;
                settings = settings.with_decompression(Decompression::Gzip);
            }
            "CloudWatchLogProcessing" => {
                self.only("DataMessageExtraction", &["true"])?;
                settings = settings.with_cloudwatch_logs(CloudWatchLogs::Messages);
            }
            "Lambda" => {
                let name = self.parameter("LambdaArn").ok_or_else(|| invalid("Lambda needs a LambdaArn."))?;
                transform = Some(functions.transform(name)?);
                if let Some(retries) = self.number::<u32>("NumberOfRetries")? {
                    settings = settings.with_transform_retries(retries);
                }
                if let Some(mib) = self.number::<f64>("BufferSizeInMBs")? {
                    settings = settings.with_transform_bytes(buffer_bytes(mib)?);
                }
            }
            "MetadataExtraction" => {
                self.only("JsonParsingEngine", &["JQ-1.6"])?;
                let query = self.parameter("MetadataExtractionQuery");
                let query = query.ok_or_else(|| invalid("MetadataExtraction needs a MetadataExtractionQuery."))?;
                settings = settings.with_partition_query(query);
                has_query = true;
            }
            "AppendDelimiterToRecord" => {
                self.only("Delimiter", &["\\n", "\n"])?;
                separator = Separator::Newline;
            }
            other => return Err(invalid(format!("Processor {other} is not available here."))),
        }
        Ok(Processing { settings, separator, transform, has_query })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let named = self.parameters.iter().find(|parameter| parameter.parameter_name == name);
        named.map(|parameter| parameter.parameter_value.as_str())
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, WireError> {
        let Some(value) = self.parameter(name) else { return Ok(None) };
        let refused = |_| invalid(format!("{name} {value} of processor {} is not such a number.", self.r#type));
        value.parse().map(Some).map_err(refused)
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

/// Firehose takes 0.2 to 3 MB.
fn buffer_bytes(mib: f64) -> Result<usize, WireError> {
    if !(0.2..=3.0).contains(&mib) {
        return Err(invalid(format!("BufferSizeInMBs {mib} of processor Lambda is not within 0.2 to 3.")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0.2 to 3")]
    Ok((mib * 1024.0 * 1024.0) as usize)
}
