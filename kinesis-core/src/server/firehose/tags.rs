//! Tags of delivery streams.
//!
//! Invariant: what is listed is sorted by key.

use serde::{Deserialize, Serialize};
use wire_core::{Context, Validation, WireError};

use super::super::refusal::invalid;
use super::Firehose;
use super::delivery_streams::{name_rules, named};
use crate::limits::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};

const LIST_MAX: usize = 50;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

/// The rules for tags that a request gives.
pub(super) fn tag_rules(mut rules: Validation, tags: &[Tag]) -> Result<Validation, WireError> {
    for (place, tag) in (1..).zip(tags) {
        let path = |member: &str| format!("tags.{place}.member.{member}");
        rules = rules.length(&path("key"), tag.key.as_str(), 1..=TAG_KEY_CHARS_MAX);
        rules = rules.length(&path("value"), tag.value.as_str(), 0..=TAG_VALUE_CHARS_MAX);
    }
    if tags.iter().any(|tag| tag.key.starts_with("aws:")) {
        return Err(invalid("Tag keys beginning with aws: are reserved."));
    }
    Ok(rules)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagDeliveryStreamInput {
    delivery_stream_name: Option<String>,
    tags: Option<Vec<Tag>>,
}

/// The empty object that AWS answers.
#[derive(Debug, Serialize)]
pub(super) struct Done {}

pub(super) async fn tag_delivery_stream(
    firehose: Firehose,
    request: Context,
    input: TagDeliveryStreamInput,
) -> Result<Done, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let rules = name_rules(Validation::new(), name).require("tags", input.tags.as_ref());
    let tags = input.tags.unwrap_or_default();
    let opened = named(&firehose, tag_rules(rules, &tags)?, name, &request)?;
    firehose
        .change(&opened.name, |mut definition| {
            definition.tags.extend(tags.into_iter().map(|tag| (tag.key, tag.value)));
            if definition.tags.len() > TAGS_MAX {
                let message = format!("A delivery stream has at most {TAGS_MAX} tags.");
                return Err(WireError::new("LimitExceededException", message));
            }
            Ok(definition)
        })
        .await?;
    Ok(Done {})
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UntagDeliveryStreamInput {
    delivery_stream_name: Option<String>,
    tag_keys: Option<Vec<String>>,
}

pub(super) async fn untag_delivery_stream(
    firehose: Firehose,
    request: Context,
    input: UntagDeliveryStreamInput,
) -> Result<Done, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let rules = name_rules(Validation::new(), name).require("tagKeys", input.tag_keys.as_ref());
    let opened = named(&firehose, rules, name, &request)?;
    let keys = input.tag_keys.unwrap_or_default();
    firehose
        .change(&opened.name, |mut definition| {
            definition.tags.retain(|key, _| !keys.contains(key));
            Ok(definition)
        })
        .await?;
    Ok(Done {})
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsForDeliveryStreamInput {
    delivery_stream_name: Option<String>,
    exclusive_start_tag_key: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListTagsForDeliveryStreamOutput {
    tags: Vec<Tag>,
    has_more_tags: bool,
}

pub(super) async fn list_tags_for_delivery_stream(
    firehose: Firehose,
    request: Context,
    input: ListTagsForDeliveryStreamInput,
) -> Result<ListTagsForDeliveryStreamOutput, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let rules = name_rules(Validation::new(), name).range("limit", input.limit.as_ref(), 1..=LIST_MAX);
    let opened = named(&firehose, rules, name, &request)?;
    let after = input.exclusive_start_tag_key;
    let mut rest = opened.definition.tags.iter().filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
    let tag = |(key, value): (&String, &String)| Tag { key: key.clone(), value: value.clone() };
    let tags = rest.by_ref().take(input.limit.unwrap_or(LIST_MAX)).map(tag).collect();
    Ok(ListTagsForDeliveryStreamOutput { tags, has_more_tags: rest.next().is_some() })
}
