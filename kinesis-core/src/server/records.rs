//! Records in and out.
//!
//! Invariant: a payload is copied when its text is decoded or encoded, and nowhere else.

use durable_core::ErrorKind;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use wire_core::{Blob, Context, Timestamp, Validation, WireError};

use super::Api;
use super::refusal::{invalid, no_shard};
use super::shards::{WireChildShard, hash_key_rules, shard_rules};
use super::stream_ref::shard_id;
use crate::limits::{GET_RECORDS_MAX, PUT_RECORDS_MAX, RECORD_BYTES_MAX};
use crate::put::{PutBatch, PutOutcome, PutRecord};
use crate::read::{IteratorType, Record, ShardIterator};
use crate::stream::{DataStream, HashKey, SequenceNumber};

/// Characters of a shard iterator's text.
const ITERATOR_CHARS_MAX: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    data: Option<Blob>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
    sequence_number_for_ordering: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordOutput {
    shard_id: String,
    sequence_number: SequenceNumber,
    encryption_type: &'static str,
}

pub(super) async fn put_record(
    api: Api,
    request: Context,
    input: PutRecordInput,
) -> Result<PutRecordOutput, WireError> {
    let (data, key) = (input.data, input.partition_key);
    let rules = Validation::new()
        .require("data", data.as_ref())
        .require("partitionKey", key.as_ref())
        .bytes("data", data.as_ref().map(|data| &data[..]), 0..=RECORD_BYTES_MAX)
        .length("partitionKey", key.as_deref(), 1..=256);
    let rules = hash_key_rules(rules, "explicitHashKey", input.explicit_hash_key.as_deref());
    number_rules(rules, "sequenceNumberForOrdering", input.sequence_number_for_ordering.as_deref()).finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let record =
        entry(data.unwrap_or_else(|| Blob::from(Vec::new())), key.unwrap_or_default(), input.explicit_hash_key)?;
    if let Some(number) = input.sequence_number_for_ordering {
        check_ordering(&api, &stream, &number, &request)?;
    }
    let stored = stream.put_record(record).await.map_err(|error| match error.kind() {
        ErrorKind::Throttled => {
            WireError::new("ProvisionedThroughputExceededException", throttled(&stream, None, &request))
        }
        _ => error.into(),
    })?;
    Ok(PutRecordOutput {
        shard_id: stored.shard_id.to_string(),
        sequence_number: stored.sequence_number,
        encryption_type: "NONE",
    })
}

fn number_rules(validation: Validation, path: &str, number: Option<&str>) -> Validation {
    let plain = |number: &str| {
        number == "0"
            || (!number.is_empty()
                && number.len() <= 129
                && !number.starts_with('0')
                && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    validation.pattern(path, number, "0|([1-9]\\d{0,128})", plain)
}

/// The number before which a record is to come must be one that the stream can have given.
fn check_ordering(api: &Api, stream: &DataStream, number: &str, request: &Context) -> Result<(), WireError> {
    let now_secs = u64::try_from(api.kinesis.clock().now().timestamp()).unwrap_or(0);
    let plausible = number.parse().is_ok_and(|number: SequenceNumber| number.arrived_secs() <= now_secs + 1);
    if plausible {
        return Ok(());
    }
    Err(invalid(format!(
        "ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream {} under account {} is invalid.",
        stream.name(),
        request.account_id()
    )))
}

fn entry(data: Blob, key: String, explicit_hash_key: Option<String>) -> Result<PutRecord, WireError> {
    let explicit_hash_key = match explicit_hash_key {
        None => None,
        Some(text) => Some(text.parse::<HashKey>().map_err(|_| {
            invalid(format!(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
            ))
        })?),
    };
    Ok(PutRecord { data: data.into_bytes(), partition_key: key, explicit_hash_key })
}

fn throttled(stream: &DataStream, shard: Option<crate::stream::ShardId>, request: &Context) -> String {
    let shard = shard.map(|shard| format!("shard {shard} in ")).unwrap_or_default();
    format!("Rate exceeded for {shard}stream {} under account {}.", stream.name(), request.account_id())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsEntry {
    data: Option<Blob>,
    partition_key: Option<String>,
    explicit_hash_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    records: Option<Vec<PutRecordsEntry>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordsOutput {
    failed_record_count: usize,
    records: Vec<PutRecordsResult>,
    encryption_type: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum PutRecordsResult {
    #[serde(rename_all = "PascalCase")]
    Stored { sequence_number: SequenceNumber, shard_id: String },
    #[serde(rename_all = "PascalCase")]
    Failed { error_code: &'static str, error_message: String },
}

pub(super) async fn put_records(
    api: Api,
    request: Context,
    input: PutRecordsInput,
) -> Result<PutRecordsOutput, WireError> {
    let mut rules = Validation::new().require("records", input.records.as_ref());
    let entries = input.records.unwrap_or_default();
    rules = rules.count("records", entries.len(), 1..=PUT_RECORDS_MAX, || {
        let shown = "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310";
        format!("[{}]", vec![shown; entries.len()].join(", "))
    });
    // Paths are only written where a rule is broken, since a request has hundreds of entries.
    for (place, entry) in (1..).zip(&entries).filter(|(_, entry)| !entry.is_plain()) {
        let path = |member: &str| format!("records.{place}.member.{member}");
        rules = rules
            .require(&path("data"), entry.data.as_ref())
            .require(&path("partitionKey"), entry.partition_key.as_ref())
            .bytes(&path("data"), entry.data.as_ref().map(|data| &data[..]), 0..=RECORD_BYTES_MAX)
            .length(&path("partitionKey"), entry.partition_key.as_deref(), 1..=256);
        rules = hash_key_rules(rules, &path("explicitHashKey"), entry.explicit_hash_key.as_deref());
    }
    rules.finish()?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request)?;
    let records = entries.into_iter().map(PutRecordsEntry::into_record).collect::<Result<Vec<_>, _>>()?;
    let mut batch = PutBatch::new(records);
    batch.partial = true;
    let output = stream.put_batch(batch).await?;
    let result = |outcome: &PutOutcome| match outcome {
        PutOutcome::Stored(stored) => {
            PutRecordsResult::Stored { sequence_number: stored.sequence_number, shard_id: stored.shard_id.to_string() }
        }
        PutOutcome::Throttled(shard) => PutRecordsResult::Failed {
            error_code: "ProvisionedThroughputExceededException",
            error_message: throttled(&stream, Some(*shard), &request),
        },
        PutOutcome::Duplicate => PutRecordsResult::Failed {
            error_code: "InternalFailure",
            error_message: "Internal service failure.".into(),
        },
    };
    Ok(PutRecordsOutput {
        failed_record_count: output.records.len() - output.stored(),
        records: output.records.iter().map(result).collect(),
        encryption_type: "NONE",
    })
}

impl PutRecordsEntry {
    /// Whether no rule can be broken.
    fn is_plain(&self) -> bool {
        let key = self.partition_key.as_deref().unwrap_or_default();
        let data = self.data.as_deref().is_some_and(|data| data.len() <= RECORD_BYTES_MAX);
        data && (1..=256).contains(&key.len()) && self.explicit_hash_key.is_none()
    }

    fn into_record(self) -> Result<PutRecord, WireError> {
        let data = self.data.unwrap_or_else(|| Blob::from(Vec::new()));
        entry(data, self.partition_key.unwrap_or_default(), self.explicit_hash_key)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetShardIteratorInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    starting_sequence_number: Option<String>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetShardIteratorOutput {
    shard_iterator: String,
}

const ITERATOR_TYPES: [&str; 5] =
    ["AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"];

pub(super) async fn get_shard_iterator(
    api: Api,
    request: Context,
    input: GetShardIteratorInput,
) -> Result<GetShardIteratorOutput, WireError> {
    let (shard, kind) = (input.shard_id.as_deref(), input.shard_iterator_type.as_deref());
    let rules = Validation::new().require("shardId", shard).require("shardIteratorType", kind).one_of(
        "shardIteratorType",
        kind,
        &ITERATOR_TYPES,
    );
    let rules = shard_rules(rules, "shardId", shard);
    number_rules(rules, "startingSequenceNumber", input.starting_sequence_number.as_deref()).finish()?;
    let named = super::stream_ref::stream_name(input.stream_name.as_deref(), input.stream_arn.as_deref())?;
    let shard = shard_id(shard.unwrap_or_default(), named, &request)?;
    let stream = api.stream(input.stream_name.as_deref(), input.stream_arn.as_deref(), &request).map_err(|error| {
        if error.code() == "ResourceNotFoundException" { no_shard(shard, named, &request) } else { error }
    })?;
    super::shards::check_shard(&stream, shard, &request)?;
    let position = Position {
        kind: kind.unwrap_or_default(),
        number: input.starting_sequence_number.as_deref(),
        at: input.timestamp,
        operation: "GetShardIterator",
    };
    let from = position.resolve(&stream, shard, &request)?;
    let iterator = stream.engine().kept_iterator(stream.state(), shard, from).await?;
    Ok(GetShardIteratorOutput { shard_iterator: iterator.to_string() })
}

/// Where a client wants to begin, as it says it.
pub(super) struct Position<'a> {
    pub(super) kind: &'a str,
    pub(super) number: Option<&'a str>,
    pub(super) at: Option<Timestamp>,
    pub(super) operation: &'static str,
}

impl Position<'_> {
    pub(super) fn resolve(
        &self,
        stream: &DataStream,
        shard: crate::stream::ShardId,
        request: &Context,
    ) -> Result<IteratorType, WireError> {
        let pairs = |also: &str| {
            invalid(format!(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) \
                 TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified {} and {also}",
                self.kind
            ))
        };
        match (self.kind, self.number) {
            ("AT_TIMESTAMP", _) => {
                let at = self
                    .at
                    .ok_or_else(|| invalid("Must specify timestamp parameter for iterator of type AT_TIMESTAMP."))?;
                Ok(IteratorType::AtTimestamp(at.datetime()))
            }
            ("TRIM_HORIZON" | "LATEST", Some(_)) => Err(pairs("also a StartingSequenceNumber.")),
            ("TRIM_HORIZON", None) => Ok(IteratorType::TrimHorizon),
            ("LATEST", None) => Ok(IteratorType::Latest),
            (_, None) => Err(pairs("no StartingSequenceNumber.")),
            (kind, Some(number)) => {
                let number = self.number(number, stream, shard, request)?;
                Ok(match kind {
                    "AT_SEQUENCE_NUMBER" => IteratorType::AtSequenceNumber(number),
                    _ => IteratorType::AfterSequenceNumber(number),
                })
            }
        }
    }

    /// The sequence number, which must be one of the shard.
    fn number(
        &self,
        text: &str,
        stream: &DataStream,
        shard: crate::stream::ShardId,
        request: &Context,
    ) -> Result<SequenceNumber, WireError> {
        let used = || {
            format!(
                "StartingSequenceNumber {text} used in {} on shard {shard} in stream {} under account {} is invalid",
                self.operation,
                stream.name(),
                request.account_id()
            )
        };
        let number: SequenceNumber = text.parse().map_err(|_| invalid(format!("{}.", used())))?;
        if number.shard() != shard {
            return Err(invalid(format!(
                "Invalid StartingSequenceNumber. It encodes {}, while it was used in a call to a shard with {shard}",
                number.shard()
            )));
        }
        match stream.state().shard(shard)?.index_of(number) {
            Ok(_) => Ok(number),
            Err(_) => Err(invalid(format!("{} because it did not come from this stream.", used()))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetRecordsInput {
    shard_iterator: Option<String>,
    limit: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetRecordsOutput {
    records: Vec<WireRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_shard_iterator: Option<String>,
    millis_behind_latest: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    child_shards: Vec<WireChildShard>,
}

/// A record on its way to a client.
pub(super) struct WireRecord(pub(super) Record);

impl Serialize for WireRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(record) = self;
        let mut fields = serializer.serialize_struct("Record", 5)?;
        fields.serialize_field("SequenceNumber", &record.sequence_number)?;
        fields.serialize_field("ApproximateArrivalTimestamp", &Timestamp::from(record.arrival))?;
        fields.serialize_field("Data", &Blob::from(record.data.clone()))?;
        fields.serialize_field("PartitionKey", record.partition_key.as_str())?;
        fields.serialize_field("EncryptionType", "NONE")?;
        fields.end()
    }
}

pub(super) async fn get_records(
    api: Api,
    request: Context,
    input: GetRecordsInput,
) -> Result<GetRecordsOutput, WireError> {
    let text = input.shard_iterator.as_deref();
    let most = i64::try_from(GET_RECORDS_MAX).unwrap_or(i64::MAX);
    Validation::new()
        .require("shardIterator", text)
        .length("shardIterator", text, 1..=ITERATOR_CHARS_MAX)
        .range("limit", input.limit.as_ref(), 1..=most)
        .finish()?;
    // Quotes around it are a mistake that AWS forgives.
    let text = text.unwrap_or_default().trim_matches('"');
    let iterator: ShardIterator = text.parse().map_err(|_| invalid("Invalid ShardIterator."))?;
    let gone = || {
        let message = format!("Shard {} of the iterator's stream does not exist", iterator.shard_id());
        WireError::new("ResourceNotFoundException", message)
    };
    let stream = api.kinesis.stream_of(&iterator).ok_or_else(gone)?;
    let limit = usize::try_from(input.limit.unwrap_or(most)).unwrap_or(GET_RECORDS_MAX);
    let output = stream.get_records(&iterator, limit).await.map_err(|error| match error.kind() {
        ErrorKind::Throttled => WireError::new(
            "ProvisionedThroughputExceededException",
            throttled(&stream, Some(iterator.shard_id()), &request),
        ),
        ErrorKind::NotFound => gone(),
        _ => error.into(),
    })?;
    Ok(GetRecordsOutput {
        millis_behind_latest: output.millis_behind_latest(),
        records: output.records.into_iter().map(WireRecord).collect(),
        next_shard_iterator: output.next_iterator.map(|next| next.to_string()),
        child_shards: output.child_shards.iter().map(WireChildShard::from).collect(),
    })
}
