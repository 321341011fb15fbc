//! Consumers that are registered for enhanced fan-out.
//!
//! Invariant: a consumer that is registered is `ACTIVE`.

use serde::{Deserialize, Serialize};
use wire_core::{Context, Timestamp, Validation, WireError};

use super::Api;
use super::page::{resume, token};
use super::refusal::{control, invalid};
use super::stream_ref::{consumer_arn, name_rules, stream_arn};
use crate::stream::{DataStream, StreamConsumer};

const LIST_DEFAULT: u32 = 100;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireConsumer {
    consumer_name: String,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: String,
    consumer_status: &'static str,
    consumer_creation_timestamp: Timestamp,
    #[serde(rename = "StreamARN", skip_serializing_if = "Option::is_none")]
    stream_arn: Option<String>,
}

fn shown(stream: &DataStream, consumer: &StreamConsumer, request: &Context) -> WireConsumer {
    WireConsumer {
        consumer_name: consumer.name.clone(),
        consumer_arn: consumer_arn(stream.name().as_str(), consumer, request),
        consumer_status: "ACTIVE",
        consumer_creation_timestamp: consumer.created.into(),
        stream_arn: None,
    }
}

/// The stream that a request names by ARN only.
fn stream_of(api: &Api, arn: Option<&str>, request: &Context) -> Result<DataStream, WireError> {
    Validation::new().require("streamARN", arn).finish()?;
    api.stream(None, arn, request)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RegisterStreamConsumerInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RegisterStreamConsumerOutput {
    consumer: WireConsumer,
}

pub(super) async fn register_stream_consumer(
    api: Api,
    request: Context,
    input: RegisterStreamConsumerInput,
) -> Result<RegisterStreamConsumerOutput, WireError> {
    let name = input.consumer_name.as_deref();
    name_rules(Validation::new().require("consumerName", name), "consumerName", name).finish()?;
    let stream = stream_of(&api, input.stream_arn.as_deref(), &request)?;
    let name = name.unwrap_or_default();
    let consumer = stream.register_stream_consumer(name).await.map_err(|error| match error.kind() {
        durable_core::ErrorKind::AlreadyExists => WireError::new(
            "ResourceInUseException",
            format!(
                "Consumer {name} under stream {} already exists for account {}.",
                stream.name(),
                request.account_id()
            ),
        ),
        _ => control(error),
    })?;
    Ok(RegisterStreamConsumerOutput { consumer: shown(&stream, &consumer, &request) })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StreamConsumerInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    consumer_name: Option<String>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<String>,
}

impl StreamConsumerInput {
    /// The consumer that is meant, by its ARN, or by its name and the stream's ARN.
    fn resolve(&self, api: &Api, request: &Context) -> Result<(DataStream, StreamConsumer), WireError> {
        match (&self.consumer_arn, &self.stream_arn, &self.consumer_name) {
            (Some(arn), None, None) => api.consumer(arn, request),
            (None, Some(stream), Some(name)) => {
                let stream = api.stream(None, Some(stream), request)?;
                let known = stream.stream_consumers()?.into_iter().find(|known| known.name == *name);
                let consumer = known.ok_or_else(|| {
                    let account = request.account_id();
                    let message =
                        format!("Consumer {name} under stream {} not found for account {account}.", stream.name());
                    WireError::new("ResourceNotFoundException", message)
                })?;
                Ok((stream, consumer))
            }
            _ => Err(invalid("Must specify either a ConsumerARN, or a StreamARN and a ConsumerName.")),
        }
    }
}

pub(super) async fn deregister_stream_consumer(
    api: Api,
    request: Context,
    input: StreamConsumerInput,
) -> Result<(), WireError> {
    let (stream, consumer) = input.resolve(&api, &request)?;
    stream.deregister_stream_consumer(&consumer.name).await.map_err(control)?;
    api.subscriptions.end(stream.state().id, &consumer.name);
    Ok(())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeStreamConsumerOutput {
    consumer_description: WireConsumer,
}

pub(super) async fn describe_stream_consumer(
    api: Api,
    request: Context,
    input: StreamConsumerInput,
) -> Result<DescribeStreamConsumerOutput, WireError> {
    let (stream, consumer) = input.resolve(&api, &request)?;
    let stream_arn = Some(stream_arn(stream.name().as_str(), &request));
    let consumer_description = WireConsumer { stream_arn, ..shown(&stream, &consumer, &request) };
    Ok(DescribeStreamConsumerOutput { consumer_description })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamConsumersInput {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    max_results: Option<u32>,
    stream_creation_timestamp: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreamConsumersOutput {
    consumers: Vec<WireConsumer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(super) async fn list_stream_consumers(
    api: Api,
    request: Context,
    input: ListStreamConsumersInput,
) -> Result<ListStreamConsumersOutput, WireError> {
    Validation::new().range("maxResults", input.max_results.as_ref(), 1..=10_000).finish()?;
    let stream = stream_of(&api, input.stream_arn.as_deref(), &request)?;
    let created = stream.describe()?.created.timestamp();
    if input.stream_creation_timestamp.is_some_and(|at| at.datetime().timestamp() != created) {
        return Err(super::refusal::no_stream(stream.name().as_str(), &request));
    }
    let clock = api.kinesis.clock();
    let after: Option<String> = input.next_token.map(|token| resume(&token, clock.as_ref())).transpose()?;
    let limit = input.max_results.unwrap_or(LIST_DEFAULT).min(LIST_DEFAULT) as usize;
    let mut all = stream.stream_consumers()?;
    all.retain(|consumer| after.as_ref().is_none_or(|after| consumer.name > *after));
    let next_token = match all.get(limit.saturating_sub(1)).filter(|_| all.len() > limit) {
        Some(last) => Some(token(&last.name, clock.as_ref())?),
        None => None,
    };
    let consumers = all.iter().take(limit).map(|consumer| shown(&stream, consumer, &request)).collect();
    Ok(ListStreamConsumersOutput { consumers, next_token })
}
