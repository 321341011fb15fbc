//! Delivery streams as wholes.
//!
//! Invariant: a delivery stream that exists is `ACTIVE` and has one destination.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wire_core::{Context, Timestamp, Validation, WireError};

use super::super::refusal::invalid;
use super::super::stream_ref::named_by;
use super::registry::{Definition, Opened, StreamSource};
use super::tags::{Done, Tag, tag_rules};
use super::target::Target;
use super::{Firehose, refused};
use crate::firehose::settings::NAME_CHARS_MAX;
use crate::limits::TAGS_MAX;

const DESTINATION_ID: &str = "destinationId-000000000001";
const LIST_DEFAULT: usize = 10;
const LIST_MAX: usize = 10_000;
const TYPES: [&str; 4] = ["DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"];

/// The rules that AWS's model has for names of delivery streams.
pub(super) fn name_rules(validation: Validation, name: Option<&str>) -> Validation {
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    validation.require("deliveryStreamName", name).length("deliveryStreamName", name, 1..=NAME_CHARS_MAX).pattern(
        "deliveryStreamName",
        name,
        "[a-zA-Z0-9_.-]+",
        |name| !name.is_empty() && plain(name),
    )
}

/// The delivery stream that a request names, if the request keeps the rules.
pub(super) fn named(
    firehose: &Firehose,
    rules: Validation,
    name: Option<&str>,
    request: &Context,
) -> Result<Arc<Opened>, WireError> {
    rules.finish()?;
    let name = name.unwrap_or_default();
    firehose.opened(name).map_err(refused(name, request))
}

fn arn(name: &str, request: &Context) -> String {
    request.arn("firehose", &format!("deliverystream/{name}"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateDeliveryStreamInput {
    delivery_stream_name: Option<String>,
    delivery_stream_type: Option<String>,
    kinesis_stream_source_configuration: Option<KinesisStreamSource>,
    delivery_stream_encryption_configuration_input: Option<Value>,
    tags: Option<Vec<Tag>>,
    #[serde(flatten)]
    destinations: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KinesisStreamSource {
    #[serde(rename = "KinesisStreamARN")]
    kinesis_stream_arn: String,
    #[serde(rename = "RoleARN")]
    role_arn: String,
}

#[derive(Debug, Serialize)]
pub(super) struct CreateDeliveryStreamOutput {
    #[serde(rename = "DeliveryStreamARN")]
    delivery_stream_arn: String,
}

pub(super) async fn create_delivery_stream(
    firehose: Firehose,
    request: Context,
    input: CreateDeliveryStreamInput,
) -> Result<CreateDeliveryStreamOutput, WireError> {
    let (name, kind) = (input.delivery_stream_name.as_deref(), input.delivery_stream_type.as_deref());
    let tags = input.tags.unwrap_or_default();
    let rules = name_rules(Validation::new(), name).one_of("deliveryStreamType", kind, &TYPES);
    tag_rules(rules, &tags)?.finish()?;
    let name = name.unwrap_or_default();
    if tags.len() > TAGS_MAX {
        return Err(invalid(format!("A delivery stream has at most {TAGS_MAX} tags.")));
    }
    if input.delivery_stream_encryption_configuration_input.is_some() {
        return Err(no_kms());
    }
    let target = Target::given(&input.destinations, "Configuration")?;
    let now_ms = firehose.kinesis().clock().now().timestamp_millis();
    let source = match (kind, input.kinesis_stream_source_configuration) {
        (None | Some("DirectPut"), None) => None,
        (Some("KinesisStreamAsSource"), Some(source)) => Some(of_stream(&firehose, source, now_ms)?),
        (Some("KinesisStreamAsSource"), None) => {
            return Err(invalid("KinesisStreamSourceConfiguration is missing for type KinesisStreamAsSource."));
        }
        (None | Some("DirectPut"), Some(_)) => {
            return Err(invalid("KinesisStreamSourceConfiguration is for type KinesisStreamAsSource only."));
        }
        (Some(other), _) => return Err(invalid(format!("DeliveryStreamType {other} is not available here."))),
    };
    let tags = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    let arn = arn(name, &request);
    let definition =
        Definition { created_ms: now_ms, updated_ms: None, version: 1, source, target, arn: arn.clone(), tags };
    firehose.create(name, definition).await.map_err(|error| match error.code() {
        "ResourceInUseException" | "AlreadyExists" => {
            let message = format!("Firehose {name} under account {} already exists.", request.account_id());
            WireError::new("ResourceInUseException", message)
        }
        _ => error,
    })?;
    Ok(CreateDeliveryStreamOutput { delivery_stream_arn: arn })
}

fn of_stream(firehose: &Firehose, source: KinesisStreamSource, start_ms: i64) -> Result<StreamSource, WireError> {
    let KinesisStreamSource { kinesis_stream_arn: stream_arn, role_arn } = source;
    let stream =
        named_by(&stream_arn).ok_or_else(|| invalid(format!("{stream_arn} is not a stream's ARN")))?.to_owned();
    firehose.kinesis().stream(&stream).map_err(|_| invalid(format!("Kinesis stream {stream} does not exist.")))?;
    Ok(StreamSource { stream, stream_arn, role_arn, start_ms })
}

fn no_kms() -> WireError {
    WireError::new("InvalidKMSResourceException", "There is no KMS here: delivery streams are not encrypted by it.")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteDeliveryStreamInput {
    delivery_stream_name: Option<String>,
}

pub(super) async fn delete_delivery_stream(
    firehose: Firehose,
    request: Context,
    input: DeleteDeliveryStreamInput,
) -> Result<Done, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let opened = named(&firehose, name_rules(Validation::new(), name), name, &request)?;
    firehose.delete(&opened.name).await?;
    Ok(Done {})
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeDeliveryStreamInput {
    delivery_stream_name: Option<String>,
    exclusive_start_destination_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeDeliveryStreamOutput {
    delivery_stream_description: DeliveryStreamDescription,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeliveryStreamDescription {
    delivery_stream_name: String,
    #[serde(rename = "DeliveryStreamARN")]
    delivery_stream_arn: String,
    delivery_stream_status: &'static str,
    delivery_stream_encryption_configuration: EncryptionStatus,
    delivery_stream_type: &'static str,
    version_id: String,
    create_timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update_timestamp: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceDescription>,
    destinations: Vec<DestinationDescription>,
    has_more_destinations: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptionStatus {
    status: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SourceDescription {
    kinesis_stream_source_description: KinesisStreamSourceDescription,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KinesisStreamSourceDescription {
    #[serde(rename = "KinesisStreamARN")]
    kinesis_stream_arn: String,
    #[serde(rename = "RoleARN")]
    role_arn: String,
    delivery_start_timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DestinationDescription {
    destination_id: &'static str,
    #[serde(flatten)]
    destination: Map<String, Value>,
}

pub(super) async fn describe_delivery_stream(
    firehose: Firehose,
    request: Context,
    input: DescribeDeliveryStreamInput,
) -> Result<DescribeDeliveryStreamOutput, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let opened = named(&firehose, name_rules(Validation::new(), name), name, &request)?;
    let name = opened.name.as_str();
    let is_behind = input.exclusive_start_destination_id.is_some_and(|after| after.as_str() >= DESTINATION_ID);
    let Definition { version, source, target, .. } = opened.definition.clone();
    let destination = DestinationDescription { destination_id: DESTINATION_ID, destination: target.described() };
    let source = source.map(|source| SourceDescription {
        kinesis_stream_source_description: KinesisStreamSourceDescription {
            kinesis_stream_arn: source.stream_arn,
            role_arn: source.role_arn,
            delivery_start_timestamp: chrono::DateTime::from_timestamp_millis(source.start_ms)
                .unwrap_or_default()
                .into(),
        },
    });
    let delivery_stream_description = DeliveryStreamDescription {
        delivery_stream_name: name.to_owned(),
        delivery_stream_arn: arn(name, &request),
        delivery_stream_status: "ACTIVE",
        delivery_stream_encryption_configuration: EncryptionStatus { status: "DISABLED" },
        delivery_stream_type: kind(&opened),
        version_id: version.to_string(),
        create_timestamp: opened.definition.created().into(),
        last_update_timestamp: opened.definition.updated().map(Into::into),
        source,
        destinations: if is_behind { Vec::new() } else { vec![destination] },
        has_more_destinations: false,
    };
    Ok(DescribeDeliveryStreamOutput { delivery_stream_description })
}

fn kind(opened: &Opened) -> &'static str {
    if opened.definition.source.is_some() { "KinesisStreamAsSource" } else { "DirectPut" }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListDeliveryStreamsInput {
    limit: Option<usize>,
    delivery_stream_type: Option<String>,
    exclusive_start_delivery_stream_name: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListDeliveryStreamsOutput {
    delivery_stream_names: Vec<String>,
    has_more_delivery_streams: bool,
}

pub(super) async fn list_delivery_streams(
    firehose: Firehose,
    _: Context,
    input: ListDeliveryStreamsInput,
) -> Result<ListDeliveryStreamsOutput, WireError> {
    Validation::new()
        .range("limit", input.limit.as_ref(), 1..=LIST_MAX)
        .one_of("deliveryStreamType", input.delivery_stream_type.as_deref(), &TYPES)
        .finish()?;
    let (after, wanted) = (input.exclusive_start_delivery_stream_name, input.delivery_stream_type);
    let all = firehose.all();
    let mut rest = all.iter().filter(|opened| {
        after.as_ref().is_none_or(|after| opened.name > *after)
            && wanted.as_deref().is_none_or(|wanted| kind(opened) == wanted)
    });
    let page = rest.by_ref().take(input.limit.unwrap_or(LIST_DEFAULT)).map(|opened| opened.name.clone());
    let delivery_stream_names = page.collect();
    Ok(ListDeliveryStreamsOutput { delivery_stream_names, has_more_delivery_streams: rest.next().is_some() })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateDestinationInput {
    delivery_stream_name: Option<String>,
    current_delivery_stream_version_id: Option<String>,
    destination_id: Option<String>,
    #[serde(flatten)]
    destinations: Map<String, Value>,
}

pub(super) async fn update_destination(
    firehose: Firehose,
    request: Context,
    input: UpdateDestinationInput,
) -> Result<Done, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let (version, id) = (input.current_delivery_stream_version_id.as_deref(), input.destination_id.as_deref());
    let rules = name_rules(Validation::new(), name)
        .require("currentDeliveryStreamVersionId", version)
        .require("destinationId", id);
    let opened = named(&firehose, rules, name, &request)?;
    let (name, version) = (opened.name.as_str(), version.unwrap_or_default());
    if id != Some(DESTINATION_ID) {
        let message = format!("Destination Id {} not found", id.unwrap_or_default());
        return Err(invalid(message));
    }
    let update = Target::given(&input.destinations, "Update")?;
    let now_ms = firehose.kinesis().clock().now().timestamp_millis();
    firehose
        .change(name, |definition| {
            let current = definition.version;
            if version != current.to_string() {
                let message = format!(
                    "Cannot update firehose: {name} since the current version id: {current} and specified version id: \
                     {version} do not match"
                );
                return Err(WireError::new("ConcurrentModificationException", message));
            }
            let target = definition.target.clone().merged(update);
            Ok(Definition { target, version: current + 1, updated_ms: Some(now_ms), ..definition })
        })
        .await?;
    Ok(Done {})
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptionInput {
    delivery_stream_name: Option<String>,
}

/// There is no key to encrypt with.
pub(super) async fn start_delivery_stream_encryption(
    firehose: Firehose,
    request: Context,
    input: EncryptionInput,
) -> Result<Done, WireError> {
    stop_delivery_stream_encryption(firehose, request, input).await?;
    Err(no_kms())
}

/// Done already, since none was ever started.
pub(super) async fn stop_delivery_stream_encryption(
    firehose: Firehose,
    request: Context,
    input: EncryptionInput,
) -> Result<Done, WireError> {
    let name = input.delivery_stream_name.as_deref();
    named(&firehose, name_rules(Validation::new(), name), name, &request)?;
    Ok(Done {})
}
