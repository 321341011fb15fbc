//! Tags, by the stream's name or by ARN.
//!
//! Invariant: what is listed is sorted by key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wire_core::{Context, Validation, WireError};

use super::Api;
use super::refusal::{control, invalid};
use crate::limits::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};
use crate::stream::DataStream;

const LIST_MAX: u32 = 50;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AddTagsToStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

pub(super) async fn add_tags_to_stream(
    api: Api,
    request: Context,
    input: AddTagsToStreamInput,
) -> Result<(), WireError> {
    let tags = checked(input.tags)?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    add(&stream, tags, &request).await
}

fn checked(tags: Option<BTreeMap<String, String>>) -> Result<BTreeMap<String, String>, WireError> {
    let mut rules = Validation::new().require("tags", tags.as_ref());
    let tags = tags.unwrap_or_default();
    let shown =
        || format!("{{{}}}", tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", "));
    rules = rules.count("tags", tags.len(), 1..=200, shown);
    for (key, value) in &tags {
        rules = rules.length("tags", key.as_str(), 1..=TAG_KEY_CHARS_MAX).length(
            &format!("tags.{key}.member"),
            value.as_str(),
            0..=TAG_VALUE_CHARS_MAX,
        );
    }
    rules.finish()?;
    if tags.keys().any(|key| key.starts_with("aws:")) {
        return Err(invalid("Tag keys beginning with aws: are reserved."));
    }
    Ok(tags)
}

async fn add(stream: &DataStream, tags: BTreeMap<String, String>, request: &Context) -> Result<(), WireError> {
    let mut all = stream.tags()?;
    all.extend(tags.clone());
    if all.len() > TAGS_MAX {
        return Err(invalid(format!(
            "Failed to add tags to stream {} under account {} because a given stream cannot have more than {TAGS_MAX} tags \
             associated with it.",
            stream.name(),
            request.account_id()
        )));
    }
    stream.add_tags(tags).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RemoveTagsFromStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    tag_keys: Option<BTreeSet<String>>,
}

pub(super) async fn remove_tags_from_stream(
    api: Api,
    request: Context,
    input: RemoveTagsFromStreamInput,
) -> Result<(), WireError> {
    let keys = checked_keys(input.tag_keys)?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    stream.remove_tags(keys).await.map_err(control)
}

fn checked_keys(keys: Option<BTreeSet<String>>) -> Result<BTreeSet<String>, WireError> {
    let mut rules = Validation::new().require("tagKeys", keys.as_ref());
    let keys = keys.unwrap_or_default();
    let shown = || format!("[{}]", keys.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    rules = rules.count("tagKeys", keys.len(), 1..=50, shown);
    for key in &keys {
        rules = rules.length("tagKeys", key.as_str(), 1..=TAG_KEY_CHARS_MAX);
    }
    rules.finish()?;
    Ok(keys)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsForStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    exclusive_start_tag_key: Option<String>,
    limit: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsForStreamOutput {
    tags: Vec<Tag>,
    has_more_tags: bool,
}

pub(super) async fn list_tags_for_stream(
    api: Api,
    request: Context,
    input: ListTagsForStreamInput,
) -> Result<ListTagsForStreamOutput, WireError> {
    Validation::new()
        .length("exclusiveStartTagKey", input.exclusive_start_tag_key.as_deref(), 1..=TAG_KEY_CHARS_MAX)
        .range("limit", input.limit.as_ref(), 1..=LIST_MAX)
        .finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let mut tags = stream.tags()?;
    if let Some(after) = input.exclusive_start_tag_key {
        tags.retain(|key, _| *key > after);
    }
    let limit = input.limit.unwrap_or(LIST_MAX) as usize;
    Ok(ListTagsForStreamOutput { has_more_tags: tags.len() > limit, tags: listed(tags, limit) })
}

fn listed(tags: BTreeMap<String, String>, limit: usize) -> Vec<Tag> {
    tags.into_iter().take(limit).map(|(key, value)| Tag { key, value }).collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagResourceInput {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

/// The stream of an ARN. Consumers carry no tags here.
fn resource(api: &Api, arn: Option<&str>, request: &Context) -> Result<DataStream, WireError> {
    Validation::new().require("resourceARN", arn).finish()?;
    if arn.is_some_and(|arn| arn.contains("/consumer/")) {
        return Err(invalid("Only streams can be tagged here, not consumers."));
    }
    api.stream(None, arn, request)
}

pub(super) async fn tag_resource(api: Api, request: Context, input: TagResourceInput) -> Result<(), WireError> {
    let tags = checked(input.tags)?;
    let stream = resource(&api, input.resource_arn.as_deref(), &request)?;
    add(&stream, tags, &request).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UntagResourceInput {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    tag_keys: Option<BTreeSet<String>>,
}

pub(super) async fn untag_resource(api: Api, request: Context, input: UntagResourceInput) -> Result<(), WireError> {
    let keys = checked_keys(input.tag_keys)?;
    resource(&api, input.resource_arn.as_deref(), &request)?.remove_tags(keys).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsForResourceInput {
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsForResourceOutput {
    tags: Vec<Tag>,
}

pub(super) async fn list_tags_for_resource(
    api: Api,
    request: Context,
    input: ListTagsForResourceInput,
) -> Result<ListTagsForResourceOutput, WireError> {
    let tags = resource(&api, input.resource_arn.as_deref(), &request)?.tags()?;
    Ok(ListTagsForResourceOutput { tags: listed(tags, TAGS_MAX) })
}
