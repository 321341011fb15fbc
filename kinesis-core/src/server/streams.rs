//! Operations on streams as wholes.
//!
//! Invariant: a stream that exists is `ACTIVE`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use durable_core::ErrorKind;
use serde::{Deserialize, Serialize};
use wire_core::{Context, Timestamp, Validation, WireError};

use super::Api;
use super::page::{resume, token};
use super::refusal::{control, invalid, stream_exists};
use super::shards::WireShard;
use super::stream_ref::{name_rules, stream_arn};
use crate::stream::{DataStream, ShardFilter, ShardId, StreamMode, StreamSpec};

const LIST_DEFAULT: usize = 100;
const LIST_MAX: u32 = 10_000;
const METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "IteratorAgeMilliseconds",
    "OutgoingBytes",
    "OutgoingRecords",
    "ReadProvisionedThroughputExceeded",
    "WriteProvisionedThroughputExceeded",
];

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamModeDetails {
    stream_mode: String,
}

impl From<StreamMode> for StreamModeDetails {
    fn from(mode: StreamMode) -> Self {
        Self { stream_mode: mode.to_string() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateStreamInput {
    stream_name: Option<String>,
    shard_count: Option<i64>,
    stream_mode_details: Option<StreamModeDetails>,
    tags: Option<BTreeMap<String, String>>,
    max_record_size_in_ki_b: Option<u32>,
}

pub(super) async fn create_stream(api: Api, request: Context, input: CreateStreamInput) -> Result<(), WireError> {
    let name = input.stream_name.as_deref();
    let mode = input.stream_mode_details.as_ref().map(|details| details.stream_mode.as_str());
    let validation = name_rules(Validation::new().require("streamName", name), "streamName", name)
        .range("shardCount", input.shard_count.as_ref(), 1..=i64::from(i32::MAX))
        .range("maxRecordSizeInKiB", input.max_record_size_in_ki_b.as_ref(), 1024..=10_240);
    mode_rules(validation, "streamModeDetails.streamMode", mode).finish()?;
    let mut spec = match mode {
        Some("ON_DEMAND") if input.shard_count.is_some() => {
            return Err(invalid("ShardCount must not be given for a stream of mode ON_DEMAND."));
        }
        Some("ON_DEMAND") => StreamSpec::on_demand(),
        // AWS gives four where none are asked for.
        _ => StreamSpec::provisioned(input.shard_count.map_or(4, |count| u32::try_from(count).unwrap_or(u32::MAX))),
    };
    for (key, value) in input.tags.into_iter().flatten() {
        spec = spec.with_tag(key, value);
    }
    if let Some(kib) = input.max_record_size_in_ki_b {
        spec = spec.with_record_bytes_max(kib as usize * 1024);
    }
    let name = name.unwrap_or_default();
    match api.kinesis.create_stream(name, spec).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(stream_exists(name, &request)),
        Err(error) => Err(control(error)),
    }
}

fn mode_rules(validation: Validation, path: &str, mode: Option<&str>) -> Validation {
    validation.one_of(path, mode, &["PROVISIONED", "ON_DEMAND"])
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeleteStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    enforce_consumer_deletion: Option<bool>,
}

pub(super) async fn delete_stream(api: Api, request: Context, input: DeleteStreamInput) -> Result<(), WireError> {
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    if input.enforce_consumer_deletion != Some(true) && !stream.stream_consumers()?.is_empty() {
        let message = format!(
            "Stream {} under account {} has registered consumers; deregister them or set EnforceConsumerDeletion.",
            stream.name(),
            request.account_id()
        );
        return Err(WireError::new("ResourceInUseException", message));
    }
    api.kinesis.delete_stream(stream.name().as_str()).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStreamInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    limit: Option<u32>,
    exclusive_start_shard_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnhancedMonitoring {
    shard_level_metrics: BTreeSet<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamDescription {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: StreamModeDetails,
    shards: Vec<WireShard>,
    has_more_shards: bool,
    retention_period_hours: u64,
    stream_creation_timestamp: Timestamp,
    enhanced_monitoring: [EnhancedMonitoring; 1],
    encryption_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStreamOutput {
    stream_description: StreamDescription,
}

pub(super) async fn describe_stream(
    api: Api,
    request: Context,
    input: DescribeStreamInput,
) -> Result<DescribeStreamOutput, WireError> {
    Validation::new()
        .range("limit", input.limit.as_ref(), 1..=LIST_MAX)
        .length("exclusiveStartShardId", input.exclusive_start_shard_id.as_deref(), 1..=128)
        .finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let name = stream.name().as_str();
    let shards = match input.exclusive_start_shard_id.as_deref() {
        Some(after) => {
            let after: ShardId = super::stream_ref::shard_id(after, name, &request)?;
            stream.list_shards_with(ShardFilter::AfterShardId(after))?
        }
        None => stream.list_shards()?,
    };
    let limit = input.limit.map_or(LIST_DEFAULT, |limit| limit as usize);
    let description = stream.describe()?;
    Ok(DescribeStreamOutput {
        stream_description: StreamDescription {
            stream_name: name.to_owned(),
            stream_arn: stream_arn(name, &request),
            stream_status: "ACTIVE",
            stream_mode_details: description.mode.into(),
            has_more_shards: shards.len() > limit,
            shards: shards.iter().take(limit).map(WireShard::from).collect(),
            retention_period_hours: hours(description.retention),
            stream_creation_timestamp: description.created.into(),
            enhanced_monitoring: [monitoring(&stream)],
            encryption_type: "NONE",
        },
    })
}

fn hours(retention: Duration) -> u64 {
    retention.as_secs() / 3600
}

fn monitoring(stream: &DataStream) -> EnhancedMonitoring {
    EnhancedMonitoring { shard_level_metrics: stream.state().control().config.shard_level_metrics.clone() }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStreamSummaryInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamDescriptionSummary {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: StreamModeDetails,
    retention_period_hours: u64,
    stream_creation_timestamp: Timestamp,
    enhanced_monitoring: [EnhancedMonitoring; 1],
    encryption_type: &'static str,
    open_shard_count: usize,
    consumer_count: usize,
    max_record_size_in_ki_b: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStreamSummaryOutput {
    stream_description_summary: StreamDescriptionSummary,
}

pub(super) async fn describe_stream_summary(
    api: Api,
    request: Context,
    input: DescribeStreamSummaryInput,
) -> Result<DescribeStreamSummaryOutput, WireError> {
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let description = stream.describe()?;
    Ok(DescribeStreamSummaryOutput {
        stream_description_summary: StreamDescriptionSummary {
            stream_name: stream.name().to_string(),
            stream_arn: stream_arn(stream.name().as_str(), &request),
            stream_status: "ACTIVE",
            stream_mode_details: description.mode.into(),
            retention_period_hours: hours(description.retention),
            stream_creation_timestamp: description.created.into(),
            enhanced_monitoring: [monitoring(&stream)],
            encryption_type: "NONE",
            open_shard_count: description.open_shards,
            consumer_count: description.registered_consumers,
            max_record_size_in_ki_b: description.record_bytes_max / 1024,
        },
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamsInput {
    limit: Option<u32>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamSummary {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    stream_status: &'static str,
    stream_mode_details: StreamModeDetails,
    stream_creation_timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamsOutput {
    stream_names: Vec<String>,
    has_more_streams: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    stream_summaries: Vec<StreamSummary>,
}

pub(super) async fn list_streams(
    api: Api,
    request: Context,
    input: ListStreamsInput,
) -> Result<ListStreamsOutput, WireError> {
    let after = input.exclusive_start_stream_name.as_deref();
    let rules = Validation::new().range("limit", input.limit.as_ref(), 1..=LIST_MAX);
    name_rules(rules, "exclusiveStartStreamName", after).finish()?;
    let clock = api.kinesis.clock();
    let resumed: Option<String> = input.next_token.map(|token| resume(&token, clock.as_ref())).transpose()?;
    let after = resumed.as_deref().or(after);
    let limit = input.limit.map_or(LIST_DEFAULT, |limit| limit as usize);
    let names = api.kinesis.list_streams();
    let mut rest = names.iter().filter(|name| after.is_none_or(|after| name.as_str() > after));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let has_more_streams = rest.next().is_some();
    let last = page.last().filter(|_| has_more_streams).map(|name| name.as_str());
    let mut output = ListStreamsOutput {
        stream_names: page.iter().map(ToString::to_string).collect(),
        has_more_streams,
        next_token: last.map(|last| token(last, clock.as_ref())).transpose()?,
        stream_summaries: Vec::new(),
    };
    for name in page {
        // One that was deleted meanwhile is left out.
        let Ok(description) = api.kinesis.describe_stream(name.as_str()) else { continue };
        output.stream_summaries.push(StreamSummary {
            stream_name: name.to_string(),
            stream_arn: stream_arn(name.as_str(), &request),
            stream_status: "ACTIVE",
            stream_mode_details: description.mode.into(),
            stream_creation_timestamp: description.created.into(),
        });
    }
    Ok(output)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RetentionInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    retention_period_hours: Option<i64>,
}

impl RetentionInput {
    /// The stream, the hours it has and the hours it is to have.
    fn resolve(&self, api: &Api, request: &Context) -> Result<(DataStream, u64, u64), WireError> {
        Validation::new().require("retentionPeriodHours", self.retention_period_hours.as_ref()).finish()?;
        let stream = api.stream(self.stream_name.as_deref(), self.stream_arn.as_deref(), request)?;
        let asked = self.retention_period_hours.unwrap_or_default();
        if asked < 24 {
            return Err(invalid(format!(
                "Minimum allowed retention period is 24 hours. Requested retention period ({asked} hours) is too short."
            )));
        }
        if asked > 8760 {
            return Err(invalid(format!(
                "Maximum allowed retention period is 8760 hours. Requested retention period ({asked} hours) is too long."
            )));
        }
        let now = hours(stream.describe()?.retention);
        Ok((stream, now, u64::try_from(asked).unwrap_or_default()))
    }
}

pub(super) async fn increase_stream_retention_period(
    api: Api,
    request: Context,
    input: RetentionInput,
) -> Result<(), WireError> {
    let (stream, now, asked) = input.resolve(&api, &request)?;
    if asked < now {
        return Err(invalid(format!(
            "Requested retention period ({asked} hours) for stream {} can not be shorter than existing retention period \
             ({now} hours). Use DecreaseRetentionPeriod API.",
            stream.name()
        )));
    }
    stream.set_retention(Duration::from_secs(asked * 3600)).await.map_err(control)
}

pub(super) async fn decrease_stream_retention_period(
    api: Api,
    request: Context,
    input: RetentionInput,
) -> Result<(), WireError> {
    let (stream, now, asked) = input.resolve(&api, &request)?;
    if asked > now {
        return Err(invalid(format!(
            "Requested retention period ({asked} hours) for stream {} can not be longer than existing retention period \
             ({now} hours). Use IncreaseRetentionPeriod API.",
            stream.name()
        )));
    }
    stream.set_retention(Duration::from_secs(asked * 3600)).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateStreamModeInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    stream_mode_details: Option<StreamModeDetails>,
}

pub(super) async fn update_stream_mode(
    api: Api,
    request: Context,
    input: UpdateStreamModeInput,
) -> Result<(), WireError> {
    let mode = input.stream_mode_details.as_ref().map(|details| details.stream_mode.as_str());
    let rules = Validation::new()
        .require("streamARN", input.stream_arn.as_ref())
        .require("streamModeDetails", input.stream_mode_details.as_ref());
    mode_rules(rules, "streamModeDetails.streamMode", mode).finish()?;
    let stream = api.stream(None, input.stream_arn.as_deref(), &request)?;
    stream.set_mode(mode.unwrap_or_default().parse()?).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateMaxRecordSizeInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    max_record_size_in_ki_b: Option<u32>,
}

pub(super) async fn update_max_record_size(
    api: Api,
    request: Context,
    input: UpdateMaxRecordSizeInput,
) -> Result<(), WireError> {
    Validation::new()
        .require("maxRecordSizeInKiB", input.max_record_size_in_ki_b.as_ref())
        .range("maxRecordSizeInKiB", input.max_record_size_in_ki_b.as_ref(), 1024..=10_240)
        .finish()?;
    let stream = api.stream(None, input.stream_arn.as_deref(), &request)?;
    let bytes = input.max_record_size_in_ki_b.unwrap_or_default() as usize * 1024;
    stream.set_record_bytes_max(bytes).await.map_err(control)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnhancedMonitoringInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_level_metrics: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnhancedMonitoringOutput {
    stream_name: String,
    #[serde(rename = "StreamARN")]
    stream_arn: String,
    current_shard_level_metrics: BTreeSet<String>,
    desired_shard_level_metrics: BTreeSet<String>,
}

/// Changes the set of shard-level metrics that were asked for. They are all counted whatever is asked.
async fn monitor(
    api: Api,
    request: Context,
    input: EnhancedMonitoringInput,
    change: fn(&mut BTreeSet<String>, &BTreeSet<String>),
) -> Result<EnhancedMonitoringOutput, WireError> {
    let mut rules = Validation::new().require("shardLevelMetrics", input.shard_level_metrics.as_ref());
    let metrics = input.shard_level_metrics.unwrap_or_default();
    let allowed: Vec<&str> = METRICS.into_iter().chain(["ALL"]).collect();
    for (place, metric) in (1..).zip(&metrics) {
        rules = rules.one_of(&format!("shardLevelMetrics.{place}.member"), metric.as_str(), &allowed);
    }
    let shown = || format!("[{}]", metrics.join(", "));
    rules.count("shardLevelMetrics", metrics.len(), 1..=METRICS.len(), shown).finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let all = metrics.iter().any(|metric| metric == "ALL");
    let asked: BTreeSet<String> =
        if all { METRICS.iter().map(ToString::to_string).collect() } else { metrics.into_iter().collect() };
    let current = monitoring(&stream).shard_level_metrics;
    stream
        .engine()
        .set_shard_level_metrics(stream.state(), |metrics| change(metrics, &asked))
        .await
        .map_err(control)?;
    Ok(EnhancedMonitoringOutput {
        stream_name: stream.name().to_string(),
        stream_arn: stream_arn(stream.name().as_str(), &request),
        current_shard_level_metrics: current,
        desired_shard_level_metrics: monitoring(&stream).shard_level_metrics,
    })
}

pub(super) async fn enable_enhanced_monitoring(
    api: Api,
    request: Context,
    input: EnhancedMonitoringInput,
) -> Result<EnhancedMonitoringOutput, WireError> {
    monitor(api, request, input, |metrics, asked| metrics.extend(asked.iter().cloned())).await
}

pub(super) async fn disable_enhanced_monitoring(
    api: Api,
    request: Context,
    input: EnhancedMonitoringInput,
) -> Result<EnhancedMonitoringOutput, WireError> {
    monitor(api, request, input, |metrics, asked| metrics.retain(|metric| !asked.contains(metric))).await
}

#[derive(Debug, Deserialize)]
pub(super) struct DescribeLimitsInput {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeLimitsOutput {
    shard_limit: u32,
    open_shard_count: usize,
    on_demand_stream_count: usize,
    on_demand_stream_count_limit: u32,
}

pub(super) async fn describe_limits(
    api: Api,
    _request: Context,
    _input: DescribeLimitsInput,
) -> Result<DescribeLimitsOutput, WireError> {
    let (mut open_shard_count, mut on_demand_stream_count) = (0, 0);
    for name in api.kinesis.list_streams() {
        let Ok(description) = api.kinesis.describe_stream(name.as_str()) else { continue };
        match description.mode {
            StreamMode::Provisioned => open_shard_count += description.open_shards,
            StreamMode::OnDemand => on_demand_stream_count += 1,
        }
    }
    let limits = api.kinesis.limits();
    let (shards, streams) = (crate::limits::STREAMS_MAX * crate::limits::SHARDS_MAX, crate::limits::STREAMS_MAX);
    Ok(DescribeLimitsOutput {
        shard_limit: limits.open_shards.unwrap_or(u32::try_from(shards).unwrap_or(u32::MAX)),
        open_shard_count,
        on_demand_stream_count,
        on_demand_stream_count_limit: limits.on_demand_streams.unwrap_or(u32::try_from(streams).unwrap_or(u32::MAX)),
    })
}
