//! Records in.

use serde::{Deserialize, Serialize};
use wire_core::{Blob, Context, Validation, WireError};

use super::super::refusal::invalid;
use super::delivery_streams::name_rules;
use super::{Firehose, refused};
use crate::firehose::{DELIVERY_RECORD_BYTES_MAX, PUT_RECORD_BATCH_MAX};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRecord {
    data: Option<Blob>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordInput {
    delivery_stream_name: Option<String>,
    record: Option<WireRecord>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordOutput {
    record_id: String,
    encrypted: bool,
}

pub(super) async fn put_record(
    firehose: Firehose,
    request: Context,
    input: PutRecordInput,
) -> Result<PutRecordOutput, WireError> {
    let (name, data) = (input.delivery_stream_name.as_deref(), input.record.and_then(|record| record.data));
    name_rules(Validation::new(), name)
        .require("record.data", data.as_ref())
        .bytes("record.data", data.as_ref().map(|data| &data[..]), 0..=DELIVERY_RECORD_BYTES_MAX)
        .finish()?;
    let (name, data) = (name.unwrap_or_default(), data.map(Blob::into_bytes).unwrap_or_default());
    let record_ids = put(&firehose, name, vec![data], &request).await?;
    Ok(PutRecordOutput { record_id: record_ids.into_iter().next().unwrap_or_default(), encrypted: false })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordBatchInput {
    delivery_stream_name: Option<String>,
    records: Option<Vec<WireRecord>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecordBatchOutput {
    failed_put_count: usize,
    encrypted: bool,
    request_responses: Vec<RequestResponse>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RequestResponse {
    record_id: String,
}

/// All records of a batch are taken or none is, so that no entry ever fails alone.
pub(super) async fn put_record_batch(
    firehose: Firehose,
    request: Context,
    input: PutRecordBatchInput,
) -> Result<PutRecordBatchOutput, WireError> {
    let name = input.delivery_stream_name.as_deref();
    let count = input.records.as_ref().map_or(0, Vec::len);
    let mut rules = name_rules(Validation::new(), name).require("records", input.records.as_ref());
    if input.records.is_some() {
        rules = rules.count("records", count, 1..=PUT_RECORD_BATCH_MAX, || format!("{count} records"));
    }
    for (place, record) in (1..).zip(input.records.iter().flatten()) {
        let path = format!("records.{place}.member.data");
        let data = record.data.as_ref();
        rules = rules.require(&path, data).bytes(&path, data.map(|data| &data[..]), 0..=DELIVERY_RECORD_BYTES_MAX);
    }
    rules.finish()?;
    let records = input.records.into_iter().flatten().filter_map(|record| record.data).map(Blob::into_bytes);
    let record_ids = put(&firehose, name.unwrap_or_default(), records.collect(), &request).await?;
    let request_responses = record_ids.into_iter().map(|record_id| RequestResponse { record_id }).collect();
    Ok(PutRecordBatchOutput { failed_put_count: 0, encrypted: false, request_responses })
}

async fn put(
    firehose: &Firehose,
    name: &str,
    records: Vec<bytes::Bytes>,
    request: &Context,
) -> Result<Vec<String>, WireError> {
    let opened = firehose.opened(name).map_err(refused(name, request))?;
    if opened.definition.source.is_some() {
        return Err(invalid("This operation is not permitted on KinesisStreamAsSource delivery stream type."));
    }
    opened.delivery.put_record_batch(records).await.map_err(refused(name, request))
}
