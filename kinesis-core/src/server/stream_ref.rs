//! Which stream, shard or consumer a request means: by name or by ARN.
//!
//! Invariant: of a name and an ARN that are both given, both mean the same, or the request is refused.

use wire_core::{Context, Validation, WireError};

use super::Api;
use super::refusal::{invalid, no_stream, unreadable_shard};
use crate::stream::{DataStream, ShardId, StreamConsumer};

/// The rules that AWS's model has for names of streams and consumers.
pub(super) fn name_rules(validation: Validation, path: &str, name: Option<&str>) -> Validation {
    let matches = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    validation.pattern(path, name, "[a-zA-Z0-9_.-]+", |name| !name.is_empty() && matches(name)).length(
        path,
        name,
        1..=128,
    )
}

/// The name that a request means, by name or ARN.
pub(super) fn stream_name<'a>(name: Option<&'a str>, arn: Option<&'a str>) -> Result<&'a str, WireError> {
    let of_arn = arn
        .map(|arn| named_by(arn).ok_or_else(|| invalid(format!("StreamARN {arn} is not a stream's"))))
        .transpose()?;
    match (name, of_arn) {
        (Some(name), Some(other)) if name != other => {
            Err(invalid(format!("StreamName {name} and StreamARN do not mean the same stream")))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Err(invalid("Either StreamName or StreamARN must be provided.")),
    }
}

impl Api {
    /// The stream that a request means, by name or ARN.
    pub(super) fn stream(
        &self,
        name: Option<&str>,
        arn: Option<&str>,
        request: &Context,
    ) -> Result<DataStream, WireError> {
        name_rules(Validation::new(), "streamName", name).finish()?;
        let name = stream_name(name, arn)?;
        self.kinesis.stream(name).map_err(|error| match error.kind() {
            durable_core::ErrorKind::NotFound => no_stream(name, request),
            _ => error.into(),
        })
    }

    /// The stream and the registered consumer that an ARN means.
    pub(super) fn consumer(&self, arn: &str, request: &Context) -> Result<(DataStream, StreamConsumer), WireError> {
        let missing = || WireError::new("ResourceNotFoundException", format!("Consumer {arn} not found."));
        let (stream_arn, consumer) = arn.split_once("/consumer/").ok_or_else(missing)?;
        let stream = self.stream(None, Some(stream_arn), request)?;
        let (name, created) = consumer.split_once(':').ok_or_else(missing)?;
        let known = stream.stream_consumers()?;
        let found =
            known.into_iter().find(|known| known.name == name && known.created.timestamp().to_string() == created);
        Ok((stream, found.ok_or_else(missing)?))
    }
}

/// The stream's name in its ARN.
pub(super) fn named_by(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let kinesis = parts.next() == Some("arn") && parts.nth(1) == Some("kinesis");
    let name = parts.nth(2)?.strip_prefix("stream/")?;
    (kinesis && !name.is_empty() && !name.contains(['/', ':'])).then_some(name)
}

pub(super) fn stream_arn(name: &str, request: &Context) -> String {
    request.arn("kinesis", &format!("stream/{name}"))
}

pub(super) fn consumer_arn(stream: &str, consumer: &StreamConsumer, request: &Context) -> String {
    format!("{}/consumer/{}:{}", stream_arn(stream, request), consumer.name, consumer.created.timestamp())
}

/// The shard of this name. AWS takes `shardId-3` and `3` for `shardId-000000000003` too.
pub(super) fn shard_id(text: &str, stream: &str, request: &Context) -> Result<ShardId, WireError> {
    let digits = text.rsplit_once('-').map_or(text, |(_, digits)| digits);
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten();
    let id = number.filter(|number| i32::try_from(*number).is_ok()).map(ShardId::new);
    id.ok_or_else(|| unreadable_shard(text, stream, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_stream() {
        assert_eq!(named_by("arn:aws:kinesis:us-east-1:000000000000:stream/clicks"), Some("clicks"));
        for bad in [
            "",
            "clicks",
            "arn:aws:kinesis:us-east-1:000000000000:stream/",
            "arn:aws:sqs:us-east-1:000000000000:stream/clicks",
            "arn:aws:kinesis:us-east-1:000000000000:stream/clicks/consumer/c:1",
        ] {
            assert_eq!(named_by(bad), None, "{bad}");
        }
    }
}
