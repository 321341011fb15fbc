//! Destinations that are not in S3, as AWS describes them, and what they mean here.
//!
//! Their members are in one shape: those of another kind are absent.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire_core::WireError;

use super::super::refusal::invalid;
use super::destination::{BufferingHints, S3Destination, shared_settings};
use super::functions::Functions;
use super::processing::{Processing, ProcessingConfiguration};
use super::target::Plan;
use crate::firehose::{Destination, OutputFormat, SchemaSource, Separator};

/// What an endpoint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) enum EndpointKind {
    #[default]
    HttpEndpoint,
    Splunk,
    Amazonopensearchservice,
    Elasticsearch,
    Redshift,
}

impl EndpointKind {
    pub(super) const ALL: [Self; 5] =
        [Self::HttpEndpoint, Self::Splunk, Self::Amazonopensearchservice, Self::Elasticsearch, Self::Redshift];

    /// As it stands in names of members.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HttpEndpoint => "HttpEndpoint",
            Self::Splunk => "Splunk",
            Self::Amazonopensearchservice => "Amazonopensearchservice",
            Self::Elasticsearch => "Elasticsearch",
            Self::Redshift => "Redshift",
        }
    }

    /// What `S3BackupMode` is for failed records only, and for all of them.
    fn backup_modes(self) -> [&'static str; 2] {
        match self {
            Self::HttpEndpoint => ["FailedDataOnly", "AllData"],
            Self::Splunk => ["FailedEventsOnly", "AllEvents"],
            Self::Amazonopensearchservice | Self::Elasticsearch => ["FailedDocumentsOnly", "AllDocuments"],
            Self::Redshift => ["Disabled", "Enabled"],
        }
    }

    /// How long it is asked again if nothing is said, in seconds.
    fn retry_seconds(self) -> u64 {
        match self {
            Self::Redshift => 3_600,
            Self::HttpEndpoint | Self::Splunk | Self::Amazonopensearchservice | Self::Elasticsearch => 300,
        }
    }
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint {
    #[serde(default)]
    pub(super) kind: EndpointKind,
    #[serde(rename = "RoleARN", skip_serializing_if = "Option::is_none")]
    role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffering_hints: Option<BufferingHints>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud_watch_logging_options: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_configuration: Option<ProcessingConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_options: Option<RetryOptions>,
    #[serde(rename = "S3BackupMode", skip_serializing_if = "Option::is_none")]
    s3_backup_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets_manager_configuration: Option<Value>,
    /// Given here, and kept beside this.
    #[serde(rename = "S3Configuration", alias = "S3Update", skip_serializing_if = "Option::is_none")]
    pub(super) s3: Option<S3Destination>,

    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_configuration: Option<EndpointConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_configuration: Option<RequestConfiguration>,

    #[serde(rename = "HECEndpoint", skip_serializing_if = "Option::is_none")]
    hec_endpoint: Option<String>,
    #[serde(rename = "HECEndpointType", skip_serializing_if = "Option::is_none")]
    hec_endpoint_type: Option<String>,
    #[serde(rename = "HECToken", skip_serializing_if = "Option::is_none")]
    hec_token: Option<String>,
    #[serde(rename = "HECAcknowledgmentTimeoutInSeconds", skip_serializing_if = "Option::is_none")]
    hec_acknowledgment_timeout_in_seconds: Option<u64>,

    #[serde(rename = "DomainARN", skip_serializing_if = "Option::is_none")]
    domain_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index_rotation_period: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_id_options: Option<DocumentIdOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc_configuration: Option<Value>,

    #[serde(rename = "ClusterJDBCURL", skip_serializing_if = "Option::is_none")]
    cluster_jdbc_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_command: Option<CopyCommand>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(rename = "S3BackupConfiguration", alias = "S3BackupUpdate", skip_serializing_if = "Option::is_none")]
    s3_backup: Option<S3Destination>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CopyCommand {
    data_table_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_table_columns: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_options: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RetryOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_in_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EndpointConfiguration {
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RequestConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    common_attributes: Option<Vec<CommonAttribute>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CommonAttribute {
    attribute_name: String,
    attribute_value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DocumentIdOptions {
    default_document_id_format: Option<String>,
}

impl Endpoint {
    /// This endpoint with what `update` says otherwise.
    pub(super) fn merged(self, update: Self) -> Self {
        Self {
            kind: self.kind,
            role_arn: update.role_arn.or(self.role_arn),
            buffering_hints: update.buffering_hints.or(self.buffering_hints),
            cloud_watch_logging_options: update.cloud_watch_logging_options.or(self.cloud_watch_logging_options),
            processing_configuration: update.processing_configuration.or(self.processing_configuration),
            retry_options: update.retry_options.or(self.retry_options),
            s3_backup_mode: update.s3_backup_mode.or(self.s3_backup_mode),
            secrets_manager_configuration: update.secrets_manager_configuration.or(self.secrets_manager_configuration),
            s3: None,
            endpoint_configuration: update.endpoint_configuration.or(self.endpoint_configuration),
            request_configuration: update.request_configuration.or(self.request_configuration),
            hec_endpoint: update.hec_endpoint.or(self.hec_endpoint),
            hec_endpoint_type: update.hec_endpoint_type.or(self.hec_endpoint_type),
            hec_token: update.hec_token.or(self.hec_token),
            hec_acknowledgment_timeout_in_seconds: update
                .hec_acknowledgment_timeout_in_seconds
                .or(self.hec_acknowledgment_timeout_in_seconds),
            domain_arn: update.domain_arn.or(self.domain_arn),
            cluster_endpoint: update.cluster_endpoint.or(self.cluster_endpoint),
            index_name: update.index_name.or(self.index_name),
            type_name: update.type_name.or(self.type_name),
            index_rotation_period: update.index_rotation_period.or(self.index_rotation_period),
            document_id_options: update.document_id_options.or(self.document_id_options),
            vpc_configuration: update.vpc_configuration.or(self.vpc_configuration),
            cluster_jdbc_url: update.cluster_jdbc_url.or(self.cluster_jdbc_url),
            copy_command: update.copy_command.or(self.copy_command),
            username: update.username.or(self.username),
            password: update.password.or(self.password),
            s3_backup: match (self.s3_backup, update.s3_backup) {
                (Some(backup), Some(update)) => Some(backup.merged(update)),
                (backup, update) => update.or(backup),
            },
        }
    }

    /// As it is described: with what AWS fills in where nothing is given, and without access key and password.
    pub(super) fn described(&self) -> Value {
        let mut described = Self { password: None, s3_backup: None, ..self.clone() };
        if self.kind != EndpointKind::Redshift {
            described.buffering_hints = Some(self.buffering_hints.unwrap_or_default().described());
        }
        described.retry_options = Some(RetryOptions { duration_in_seconds: Some(self.retry_seconds()) });
        let [failed_only, _] = self.kind.backup_modes();
        described.s3_backup_mode.get_or_insert_with(|| failed_only.to_owned());
        if let Some(configuration) = &mut described.endpoint_configuration {
            configuration.access_key = None;
        }
        let mut members = serde_json::to_value(described).unwrap_or_default();
        if let Some(members) = members.as_object_mut() {
            members.remove("Kind");
            if let Some(backup) = &self.s3_backup {
                let backup = serde_json::to_value(backup.described().plain()).unwrap_or_default();
                members.insert("S3BackupDescription".to_owned(), backup);
            }
        }
        members
    }

    fn retry_seconds(&self) -> u64 {
        let given = self.retry_options.and_then(|options| options.duration_in_seconds);
        given.unwrap_or_else(|| self.kind.retry_seconds())
    }

    /// What it means, with what is put into S3 beside it.
    ///
    /// # Errors
    /// `InvalidArgumentException` that names the member.
    pub(super) fn plan(&self, s3: &S3Destination, functions: &Functions) -> Result<Plan, WireError> {
        let bucket = s3.bucket()?;
        let settings = match self.kind {
            // Its objects are those of S3.
            EndpointKind::Redshift => s3.plan(functions)?.settings,
            _ => s3.errors_of_another(self.buffering_hints.unwrap_or_default().apply(shared_settings())),
        };
        let mut settings = settings.with_destination_retry_duration(Duration::from_secs(self.retry_seconds()));
        let [failed_only, all] = self.kind.backup_modes();
        let mut backup_bucket = None;
        match self.s3_backup_mode.as_deref() {
            None => {}
            Some(mode) if mode == failed_only => {}
            Some(mode) if mode == all => {
                let backup = match self.kind {
                    EndpointKind::Redshift => self.s3_backup.as_ref(),
                    _ => Some(s3),
                };
                let missing = || invalid(format!("S3BackupMode {mode} needs an S3BackupConfiguration."));
                let backup = backup.ok_or_else(missing)?;
                settings = settings.with_source_backup(backup.as_backup()?);
                backup_bucket = Some(backup.bucket()?);
            }
            Some(mode) => return Err(invalid(format!("S3BackupMode {mode} is neither {failed_only} nor {all}."))),
        }
        let processing = self.processing_configuration.clone().unwrap_or_default();
        let Processing { settings, separator, transform, has_query } = processing.apply(settings, functions)?;
        let settings = match (self.kind, separator, settings.format()) {
            (_, Separator::None, _) => settings,
            (EndpointKind::Redshift, _, OutputFormat::Records(format)) => {
                settings.with_format(OutputFormat::Records(format.with_separator(separator)))
            }
            _ => return Err(invalid("AppendDelimiterToRecord is for destinations in S3.")),
        };
        if has_query {
            return Err(invalid("MetadataExtraction is for destinations in S3."));
        }
        settings.validate()?;
        let secrets = self.secrets_manager_configuration.as_ref();
        if secrets.is_some_and(|secrets| secrets.get("Enabled").and_then(Value::as_bool) == Some(true)) {
            return Err(invalid("SecretsManagerConfiguration is not available here: give the key or token itself."));
        }
        if self.vpc_configuration.as_ref().is_some_and(|vpc| !vpc.is_null()) {
            return Err(invalid("VpcConfiguration is not available here: there is no VPC."));
        }
        let destination = Some(self.connect(functions, &bucket)?);
        let schema = SchemaSource::inferred();
        Ok(Plan { bucket, settings, backup_bucket, transform, schema, destination })
    }

    /// The destination itself, with `bucket` beside it.
    #[cfg_attr(not(feature = "redshift"), expect(unused_variables, reason = "each kind has its feature"))]
    fn connect(&self, functions: &Functions, bucket: &str) -> Result<Arc<dyn Destination>, WireError> {
        match self.kind {
            #[cfg(feature = "firehose-http")]
            EndpointKind::HttpEndpoint => Ok(Arc::new(self.http_endpoint(functions)?)),
            #[cfg(feature = "firehose-http")]
            EndpointKind::Splunk => Ok(Arc::new(self.splunk()?)),
            #[cfg(feature = "firehose-http")]
            EndpointKind::Amazonopensearchservice | EndpointKind::Elasticsearch => Ok(Arc::new(self.opensearch()?)),
            #[cfg(feature = "redshift")]
            EndpointKind::Redshift => Ok(Arc::new(self.redshift(functions, bucket)?)),
            #[cfg(not(all(feature = "firehose-http", feature = "redshift")))]
            other => Err(invalid(format!(
                "{}Destination is not available here: the server was built without its feature.",
                other.name()
            ))),
        }
    }

    #[cfg(feature = "redshift")]
    fn redshift(&self, functions: &Functions, bucket: &str) -> Result<crate::firehose::Redshift, WireError> {
        let copy = self.copy_command.clone().unwrap_or_default();
        let url = required("ClusterJDBCURL", self.cluster_jdbc_url.as_ref())?;
        let table = required("CopyCommand.DataTableName", copy.data_table_name.as_ref())?;
        let (user, password) =
            (required("Username", self.username.as_ref())?, required("Password", self.password.as_ref())?);
        let redshift = crate::firehose::Redshift::new(url, table, functions.bucket(bucket), bucket)?
            .with_user(user, password)
            .with_columns(copy.data_table_columns.unwrap_or_default())
            .with_copy_options(copy.copy_options.unwrap_or_default());
        Ok(match &self.role_arn {
            Some(role) => redshift.with_credentials(format!("aws_iam_role={role}")),
            None => redshift,
        })
    }

    #[cfg(feature = "firehose-http")]
    fn http_endpoint(&self, functions: &Functions) -> Result<crate::firehose::HttpEndpoint, WireError> {
        let configuration = self.endpoint_configuration.clone().unwrap_or_default();
        let url = required("EndpointConfiguration.Url", configuration.url.as_ref())?;
        let mut endpoint = crate::firehose::HttpEndpoint::new(url)?.with_source_arn(&functions.arn)?;
        if let Some(key) = &configuration.access_key {
            endpoint = endpoint.with_access_key(key)?;
        }
        let request = self.request_configuration.clone().unwrap_or_default();
        match request.content_encoding.as_deref() {
            None | Some("NONE") => {}
            Some("GZIP") => endpoint = endpoint.with_gzip(),
            Some(other) => return Err(invalid(format!("ContentEncoding {other} is neither NONE nor GZIP."))),
        }
        if let Some(attributes) = request.common_attributes.filter(|attributes| !attributes.is_empty()) {
            let attributes =
                attributes.into_iter().map(|attribute| (attribute.attribute_name, attribute.attribute_value));
            endpoint = endpoint.with_common_attributes(attributes)?;
        }
        Ok(endpoint)
    }

    #[cfg(feature = "firehose-http")]
    fn splunk(&self) -> Result<crate::firehose::Splunk, WireError> {
        use crate::firehose::{HecEndpoint, Splunk};
        let url = required("HECEndpoint", self.hec_endpoint.as_ref())?;
        let splunk = Splunk::new(url, required("HECToken", self.hec_token.as_ref())?)?;
        let splunk = match required("HECEndpointType", self.hec_endpoint_type.as_ref())? {
            "Raw" => splunk.with_endpoint(HecEndpoint::Raw),
            "Event" => splunk.with_endpoint(HecEndpoint::Event),
            other => return Err(invalid(format!("HECEndpointType {other} is neither Raw nor Event."))),
        };
        match self.hec_acknowledgment_timeout_in_seconds {
            None => Ok(splunk),
            Some(seconds @ 180..=600) => Ok(splunk.with_ack_timeout(Duration::from_secs(seconds))),
            Some(seconds) => {
                Err(invalid(format!("HECAcknowledgmentTimeoutInSeconds {seconds} is not within 180 to 600.")))
            }
        }
    }

    #[cfg(feature = "firehose-http")]
    fn opensearch(&self) -> Result<crate::firehose::OpenSearch, WireError> {
        use crate::firehose::{DocumentIds, IndexRotation, OpenSearch};
        if self.cluster_endpoint.is_none() && self.domain_arn.is_some() {
            return Err(invalid("DomainARN is not available here: give the ClusterEndpoint."));
        }
        let url = required("ClusterEndpoint", self.cluster_endpoint.as_ref())?;
        let index = OpenSearch::new(url, required("IndexName", self.index_name.as_ref())?)?;
        let rotation = match self.index_rotation_period.as_deref() {
            None | Some("OneDay") => IndexRotation::OneDay,
            Some("NoRotation") => IndexRotation::NoRotation,
            Some("OneHour") => IndexRotation::OneHour,
            Some("OneWeek") => IndexRotation::OneWeek,
            Some("OneMonth") => IndexRotation::OneMonth,
            Some(other) => {
                return Err(invalid(format!("IndexRotationPeriod {other} is none of those that there are.")));
            }
        };
        let ids = self.document_id_options.as_ref().and_then(|options| options.default_document_id_format.as_deref());
        let ids = match ids {
            None | Some("FIREHOSE_DEFAULT") => DocumentIds::OfTheRecord,
            Some("NO_DOCUMENT_ID") => DocumentIds::OfTheService,
            Some(other) => {
                return Err(invalid(format!("DefaultDocumentIdFormat {other} is none of those that there are.")));
            }
        };
        let index = index.with_rotation(rotation).with_document_ids(ids);
        Ok(match &self.type_name {
            Some(name) => index.with_type_name(name),
            None => index,
        })
    }
}

#[cfg(any(feature = "firehose-http", feature = "redshift"))]
fn required<'a>(name: &str, value: Option<&'a String>) -> Result<&'a str, WireError> {
    value.map(String::as_str).ok_or_else(|| invalid(format!("{name} of the destination is missing")))
}
