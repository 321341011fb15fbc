//! Operations on the shards of a stream.
//!
//! Invariant: what a client lists is what readers and writers see at that moment.

use serde::{Deserialize, Serialize};
use wire_core::{Context, Timestamp, Validation, WireError};

use super::Api;
use super::page::{resume, token};
use super::refusal::{control, invalid, no_shard};
use super::stream_ref::{shard_id, stream_arn};
use crate::stream::{ChildShard, DataStream, HashKey, Shard, ShardFilter, ShardId};

const LIST_DEFAULT: u32 = 1_000;
const LIST_MAX: u32 = 10_000;
const FILTERS: [&str; 6] =
    ["AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP"];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireHashKeyRange {
    starting_hash_key: HashKey,
    ending_hash_key: HashKey,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SequenceNumberRange {
    starting_sequence_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending_sequence_number: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireShard {
    shard_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_shard_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjacent_parent_shard_id: Option<String>,
    hash_key_range: WireHashKeyRange,
    sequence_number_range: SequenceNumberRange,
}

impl From<&Shard> for WireShard {
    fn from(shard: &Shard) -> Self {
        Self {
            shard_id: shard.id.to_string(),
            parent_shard_id: shard.parent.map(|parent| parent.to_string()),
            adjacent_parent_shard_id: shard.adjacent_parent.map(|parent| parent.to_string()),
            hash_key_range: WireHashKeyRange {
                starting_hash_key: shard.hash_key_range.starting,
                ending_hash_key: shard.hash_key_range.ending,
            },
            sequence_number_range: SequenceNumberRange {
                starting_sequence_number: shard.starting_sequence_number.to_string(),
                ending_sequence_number: shard.ending_sequence_number.map(|number| number.to_string()),
            },
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireChildShard {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: WireHashKeyRange,
}

impl From<&ChildShard> for WireChildShard {
    fn from(child: &ChildShard) -> Self {
        Self {
            shard_id: child.id.to_string(),
            parent_shards: child.parents.iter().map(ToString::to_string).collect(),
            hash_key_range: WireHashKeyRange {
                starting_hash_key: child.hash_key_range.starting,
                ending_hash_key: child.hash_key_range.ending,
            },
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ShardFilterInput {
    r#type: Option<String>,
    shard_id: Option<String>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListShardsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<u32>,
    stream_creation_timestamp: Option<Timestamp>,
    shard_filter: Option<ShardFilterInput>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListShardsOutput {
    shards: Vec<WireShard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

/// Where a listing goes on: the stream (by its creation too), what it lists, and the last shard it has listed.
#[derive(Debug, Deserialize, Serialize)]
struct NextShards {
    stream: String,
    created_ms: i64,
    filter: Option<(String, Option<String>, Option<i64>)>,
    after: String,
}

pub(super) async fn list_shards(
    api: Api,
    request: Context,
    input: ListShardsInput,
) -> Result<ListShardsOutput, WireError> {
    let kind = input.shard_filter.as_ref().map(|filter| filter.r#type.as_deref().unwrap_or_default());
    Validation::new()
        .length("nextToken", input.next_token.as_deref(), 1..=1_048_576)
        .length("exclusiveStartShardId", input.exclusive_start_shard_id.as_deref(), 1..=128)
        .range("maxResults", input.max_results.as_ref(), 1..=LIST_MAX)
        .one_of("shardFilter.type", kind, &FILTERS)
        .finish()?;
    let clock = api.kinesis.clock();
    let (stream, filter, after, created) = match input.next_token {
        Some(_) if input.stream_name.is_some() || input.stream_arn.is_some() => {
            return Err(invalid("NextToken and StreamName cannot be provided together."));
        }
        Some(token) => {
            let next: NextShards = resume(&token, clock.as_ref())?;
            let stream = api.stream(Some(&next.stream), None, &request)?;
            (stream, next.filter, Some(next.after), Some(next.created_ms))
        }
        None if input.stream_name.is_none() && input.stream_arn.is_none() => {
            return Err(invalid("Either NextToken or StreamName should be provided."));
        }
        None => {
            let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
            let filter = input.shard_filter.map(|filter| {
                let at_ms = filter.timestamp.map(|at| at.datetime().timestamp_millis());
                (filter.r#type.unwrap_or_default(), filter.shard_id, at_ms)
            });
            let created = input.stream_creation_timestamp.map(|at| at.datetime().timestamp_millis());
            (stream, filter, input.exclusive_start_shard_id, created)
        }
    };
    let (name, description) = (stream.name().as_str(), stream.describe()?);
    // Clients of JSON have the time in seconds, some of them without the fraction.
    if created.is_some_and(|ms| ms.div_euclid(1000) != description.created.timestamp()) {
        return Err(super::refusal::no_stream(name, &request));
    }
    let mut shards = match &filter {
        Some(filter) => stream.list_shards_with(shard_filter(filter, name, &request)?)?,
        None => stream.list_shards()?,
    };
    if let Some(after) = after {
        let after = shard_id(&after, name, &request)?;
        shards.retain(|shard| shard.id > after);
    }
    // AWS gives a thousand a page at most, whatever is asked for.
    let limit = input.max_results.unwrap_or(LIST_DEFAULT).min(LIST_DEFAULT) as usize;
    let next_token = match shards.get(limit.saturating_sub(1)).filter(|_| shards.len() > limit) {
        Some(last) => {
            let created_ms = description.created.timestamp_millis();
            let next = NextShards { stream: name.to_owned(), created_ms, filter, after: last.id.to_string() };
            Some(token(next, clock.as_ref())?)
        }
        None => None,
    };
    Ok(ListShardsOutput { shards: shards.iter().take(limit).map(WireShard::from).collect(), next_token })
}

fn shard_filter(
    (kind, id, at_ms): &(String, Option<String>, Option<i64>),
    stream: &str,
    request: &Context,
) -> Result<ShardFilter, WireError> {
    let at = || {
        let at = at_ms.and_then(chrono::DateTime::from_timestamp_millis);
        at.ok_or_else(|| invalid(format!("Timestamp must be provided for a ShardFilter of type {kind}.")))
    };
    match kind.as_str() {
        "AFTER_SHARD_ID" => {
            let id = id
                .as_deref()
                .ok_or_else(|| invalid("ShardId must be provided for a ShardFilter of type AFTER_SHARD_ID."))?;
            Ok(ShardFilter::AfterShardId(shard_id(id, stream, request)?))
        }
        "AT_TRIM_HORIZON" => Ok(ShardFilter::AtTrimHorizon),
        "AT_LATEST" => Ok(ShardFilter::AtLatest),
        "AT_TIMESTAMP" => Ok(ShardFilter::AtTimestamp(at()?)),
        "FROM_TIMESTAMP" => Ok(ShardFilter::FromTimestamp(at()?)),
        _ => Ok(ShardFilter::FromTrimHorizon),
    }
}

/// The shard of this name, which must be listed.
fn known_shard(stream: &DataStream, text: &str, request: &Context) -> Result<Shard, WireError> {
    let id = shard_id(text, stream.name().as_str(), request)?;
    let known = stream.list_shards()?.into_iter().find(|shard| shard.id == id);
    known.ok_or_else(|| super::refusal::unreadable_shard(&id.to_string(), stream.name().as_str(), request))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SplitShardInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_split: Option<String>,
    new_starting_hash_key: Option<String>,
}

/// The rules that AWS's model has for a hash key.
pub(super) fn hash_key_rules(validation: Validation, path: &str, key: Option<&str>) -> Validation {
    let plain = |key: &str| {
        key == "0"
            || (key.len() <= 39
                && !key.starts_with('0')
                && !key.is_empty()
                && key.bytes().all(|byte| byte.is_ascii_digit()))
    };
    validation.pattern(path, key, "0|([1-9]\\d{0,38})", plain)
}

/// The rules that AWS's model has for a shard's name.
pub(super) fn shard_rules(validation: Validation, path: &str, shard: Option<&str>) -> Validation {
    let plain = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    validation.pattern(path, shard, "[a-zA-Z0-9_.-]+", plain).length(path, shard, 1..=128)
}

pub(super) async fn split_shard(api: Api, request: Context, input: SplitShardInput) -> Result<(), WireError> {
    let (shard, key) = (input.shard_to_split.as_deref(), input.new_starting_hash_key.as_deref());
    let rules = Validation::new().require("shardToSplit", shard).require("newStartingHashKey", key);
    hash_key_rules(shard_rules(rules, "shardToSplit", shard), "newStartingHashKey", key).finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let (name, account) = (stream.name().as_str(), request.account_id());
    let shard = known_shard(&stream, shard.unwrap_or_default(), &request)?;
    let range = shard.hash_key_range;
    let outside = || {
        invalid(format!(
            "NewStartingHashKey {} used in SplitShard() on shard {} in stream {name} under account {account} is not both \
             greater than one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
            key.unwrap_or_default(),
            shard.id,
            range.starting,
            range.ending
        ))
    };
    let at: HashKey = key.unwrap_or_default().parse().map_err(|_| outside())?;
    if at.0 <= range.starting.0.saturating_add(1) || at >= range.ending {
        return Err(outside());
    }
    stream.split_shard(shard.id, at).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MergeShardsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
}

pub(super) async fn merge_shards(api: Api, request: Context, input: MergeShardsInput) -> Result<(), WireError> {
    let (shard, adjacent) = (input.shard_to_merge.as_deref(), input.adjacent_shard_to_merge.as_deref());
    let rules = Validation::new().require("shardToMerge", shard).require("adjacentShardToMerge", adjacent);
    shard_rules(shard_rules(rules, "shardToMerge", shard), "adjacentShardToMerge", adjacent).finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let shard = known_shard(&stream, shard.unwrap_or_default(), &request)?;
    let adjacent = known_shard(&stream, adjacent.unwrap_or_default(), &request)?;
    let meets =
        |low: &Shard, high: &Shard| low.hash_key_range.ending.0.checked_add(1) == Some(high.hash_key_range.starting.0);
    if !meets(&shard, &adjacent) && !meets(&adjacent, &shard) {
        return Err(invalid(format!(
            "Shards {} and {} in stream {} under account {} are not an adjacent pair of shards eligible for merging",
            shard.id,
            adjacent.id,
            stream.name(),
            request.account_id()
        )));
    }
    stream.merge_shards(shard.id, adjacent.id).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateShardCountInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    target_shard_count: Option<i64>,
    scaling_type: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateShardCountOutput {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    current_shard_count: usize,
    target_shard_count: u32,
}

pub(super) async fn update_shard_count(
    api: Api,
    request: Context,
    input: UpdateShardCountInput,
) -> Result<UpdateShardCountOutput, WireError> {
    let scaling = input.scaling_type.as_deref();
    Validation::new()
        .require("targetShardCount", input.target_shard_count.as_ref())
        .range("targetShardCount", input.target_shard_count.as_ref(), 1..=i64::from(i32::MAX))
        .require("scalingType", scaling)
        .one_of("scalingType", scaling, &["UNIFORM_SCALING"])
        .finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let target = u32::try_from(input.target_shard_count.unwrap_or_default()).unwrap_or(u32::MAX);
    let current_shard_count = stream.describe()?.open_shards;
    stream.update_shard_count(target).await.map_err(control)?;
    Ok(UpdateShardCountOutput {
        stream_name: stream.name().to_string(),
        stream_arn: stream_arn(stream.name().as_str(), &request),
        current_shard_count,
        target_shard_count: target,
    })
}

/// Refuses a shard that the stream does not have.
pub(super) fn check_shard(stream: &DataStream, shard: ShardId, request: &Context) -> Result<(), WireError> {
    match stream.state().shard(shard) {
        Ok(_) => Ok(()),
        Err(_) => Err(no_shard(shard, stream.name().as_str(), request)),
    }
}
