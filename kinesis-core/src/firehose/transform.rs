//! A function between source and destination, with the contract of Firehose's Lambda.
//!
//! Every record that goes in comes back under its id: as new data, dropped, or failed. An id that does not come back
//! is a failed record, never a lost one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use durable_core::Clock;
use futures::future::BoxFuture;

use super::error_output::Failure;
use super::place::Part;
use super::retry::Backoff;
use super::unpack::{Content, Unpacked};
use crate::read::Record;
use crate::{Error, ErrorKind, Result};

/// Records in one call.
pub const TRANSFORM_RECORDS_MAX: usize = 500;
/// Bytes of records in one call, unless set; a single larger record is still handed over. In base64 they are 6 MB less what
/// stands around them: what Lambda takes.
pub const TRANSFORM_BYTES_DEFAULT: usize = 4 * 1024 * 1024;
/// How often a call that fails is made again, unless set. Firehose's default.
pub const TRANSFORM_RETRIES_DEFAULT: u32 = 3;
/// The most retries that can be set. Firehose's bound.
pub const TRANSFORM_RETRIES_MAX: u32 = 300;

/// Changes records on their way. Implement it for batches; [`transform_fn`] makes one of a plain function.
pub trait Transform: Send + Sync + 'static {
    /// The outcome of each record, under the id it came with, in any order.
    ///
    /// A record may be handed over again after a restart and must then get the same outcome: one that fails the second
    /// time, say, can end both in the data and under the error output prefix.
    ///
    /// # Errors
    ///
    /// An error means that the call failed as a whole: it is made again as often as
    /// [`with_transform_retries`](super::DeliverySettings::with_transform_retries) says, then every record of it is failed.
    /// Records that a restart hands over again are not failed by that: the call is repeated for as long as puts are.
    fn apply(&self, records: Vec<TransformRecord>) -> BoxFuture<'static, Result<Vec<TransformOutcome>>>;
}

/// A record on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransformRecord {
    /// Names the record within the call and across calls: its sequence number, with its place behind a dot if it is one of
    /// several that were in a record of the stream.
    pub record_id: String,
    /// When it was put.
    pub arrival: DateTime<Utc>,
    /// The key it was put with.
    pub partition_key: String,
    /// Its payload.
    pub data: Bytes,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransformOutcome {
    /// The id it came with.
    pub record_id: String,
    /// What became of it.
    pub result: TransformResult,
}

impl TransformOutcome {
    /// The result for the record of this id.
    pub fn new(record_id: impl Into<String>, result: TransformResult) -> Self {
        Self { record_id: record_id.into(), result }
    }
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransformResult {
    /// It goes on with this data.
    Ok {
        /// The payload from now on.
        data: Bytes,
        /// The values of `!{partitionKeyFromLambda:key}`.
        partition_keys: BTreeMap<String, String>,
    },
    /// It was left out on purpose.
    Dropped,
    /// It goes to the error output prefix as it came.
    ProcessingFailed {
        /// Why.
        message: String,
    },
}

impl TransformResult {
    /// It goes on with this data.
    pub fn ok(data: impl Into<Bytes>) -> Self {
        Self::Ok { data: data.into(), partition_keys: BTreeMap::new() }
    }

    /// It goes on with this data and these partition keys. The value `__HIVE_DEFAULT_PARTITION__` is Hive's NULL.
    pub fn keyed<K: Into<String>, V: Into<String>>(
        data: impl Into<Bytes>,
        keys: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let partition_keys = keys.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::Ok { data: data.into(), partition_keys }
    }

    /// It failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::ProcessingFailed { message: message.into() }
    }
}

/// A transform of a function over single records, which runs on a blocking thread.
///
/// ```
/// use kinesis_core::firehose::{TransformResult, transform_fn};
///
/// let upper = transform_fn(|record| TransformResult::ok(record.data.to_ascii_uppercase()));
/// ```
pub fn transform_fn<F>(function: F) -> impl Transform
where
    F: Fn(&TransformRecord) -> TransformResult + Send + Sync + 'static,
{
    PerRecord { function: Arc::new(function) }
}

struct PerRecord<F> {
    function: Arc<F>,
}

impl<F> Transform for PerRecord<F>
where
    F: Fn(&TransformRecord) -> TransformResult + Send + Sync + 'static,
{
    fn apply(&self, records: Vec<TransformRecord>) -> BoxFuture<'static, Result<Vec<TransformOutcome>>> {
        let function = Arc::clone(&self.function);
        Box::pin(async move {
            let outcomes = tokio::task::spawn_blocking(move || {
                let outcome = |record: TransformRecord| TransformOutcome {
                    result: function(&record),
                    record_id: record.record_id,
                };
                records.into_iter().map(outcome).collect()
            });
            outcomes.await.map_err(|error| Error::new(ErrorKind::Internal, "the transform panicked").with_source(error))
        })
    }
}

impl<T: Transform + ?Sized> Transform for Arc<T> {
    fn apply(&self, records: Vec<TransformRecord>) -> BoxFuture<'static, Result<Vec<TransformOutcome>>> {
        self.as_ref().apply(records)
    }
}

/// A transform, and how it is called.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) transform: Arc<dyn Transform>,
    pub(super) bytes_max: usize,
    pub(super) retries: u32,
}

/// A record as the stages behind the transform see it.
#[derive(Clone, Debug)]
pub(super) struct Transformed {
    pub(super) record: Record,
    pub(super) part: Part,
    pub(super) result: Result<Kept, Failure>,
}

/// What the transform left of a record that did not fail.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Data { data: Bytes, partition_keys: BTreeMap<String, String> },
    Dropped,
}

/// What a call that keeps failing does to its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// They are failed, as with Firehose.
    FailsRecords,
    /// Nothing: they were promised to an object as data and stay so. The answer is an error instead.
    IsAnError,
}

/// Runs `records` through the transform, in calls within the bounds, or leaves them as they are without one. Those that
/// have failed before are not handed over.
///
/// # Errors
///
/// `Unavailable` for an outage that [is one](Outage::IsAnError).
pub(super) async fn transform_all(
    records: Vec<Unpacked>,
    calls: Option<&Calls>,
    outage: Outage,
    clock: &Arc<dyn Clock>,
    seed: u64,
) -> Result<Vec<Transformed>> {
    let Some(calls) = calls else {
        return Ok(records.into_iter().map(unchanged).collect());
    };
    let mut done = Vec::with_capacity(records.len());
    let mut rest = records.into_iter().peekable();
    loop {
        let is_data = |unpacked: &Unpacked| unpacked.result == Ok(Content::Data);
        while let Some(other) = rest.next_if(|unpacked| !is_data(unpacked)) {
            done.push(unchanged(other));
        }
        let mut call = Vec::new();
        let mut bytes = 0;
        while let Some(unpacked) = rest.next_if(|unpacked| {
            let fits = call.len() < TRANSFORM_RECORDS_MAX && bytes + unpacked.record.data.len() <= calls.bytes_max;
            is_data(unpacked) && (call.is_empty() || fits)
        }) {
            bytes += unpacked.record.data.len();
            call.push(unpacked);
        }
        if call.is_empty() {
            return Ok(done);
        }
        done.extend(transform_call(call, calls, outage, clock, seed).await?);
    }
}

fn unchanged(Unpacked { record, part, result }: Unpacked) -> Transformed {
    let result = result.map(|content| match content {
        Content::Data => Kept::Data { data: record.data.clone(), partition_keys: BTreeMap::new() },
        Content::Nothing => Kept::Dropped,
    });
    Transformed { record, part, result }
}

/// Names a record, or a part of one, within the call and across calls.
fn id(unpacked: &Unpacked) -> String {
    let number = unpacked.record.sequence_number;
    if unpacked.part == Part::WHOLE { number.to_string() } else { format!("{number}.{}", unpacked.part.number) }
}

async fn transform_call(
    records: Vec<Unpacked>,
    calls: &Calls,
    outage: Outage,
    clock: &Arc<dyn Clock>,
    seed: u64,
) -> Result<Vec<Transformed>> {
    let input: Vec<_> = records
        .iter()
        .map(|unpacked| TransformRecord {
            record_id: id(unpacked),
            arrival: unpacked.record.arrival,
            partition_key: unpacked.record.partition_key.to_string(),
            data: unpacked.record.data.clone(),
        })
        .collect();
    let outcomes = match answer(calls, &input, clock, seed).await {
        Ok(outcomes) => outcomes,
        Err(error) if outage == Outage::IsAnError => {
            let message = "the transform fails for records that were promised to an object as data";
            return Err(Error::new(ErrorKind::Unavailable, message).with_source(error));
        }
        Err(error) => {
            let failure = Failure::invocation(format!("{error:?}"));
            let failed = |unpacked: Unpacked| unchanged(Unpacked { result: Err(failure.clone()), ..unpacked });
            return Ok(records.into_iter().map(failed).collect());
        }
    };
    let mut by_id: HashMap<_, _> = outcomes.into_iter().map(|outcome| (outcome.record_id, outcome.result)).collect();
    let outcome = |(Unpacked { record, part, .. }, id): (Unpacked, TransformRecord)| Transformed {
        result: match by_id.remove(&id.record_id) {
            Some(TransformResult::Ok { data, partition_keys }) => Ok(Kept::Data { data, partition_keys }),
            Some(TransformResult::Dropped) => Ok(Kept::Dropped),
            Some(TransformResult::ProcessingFailed { message }) => Err(Failure::transform(message)),
            None => Err(Failure::invocation("the transform did not return this record's id".to_owned())),
        },
        record,
        part,
    };
    Ok(records.into_iter().zip(input).map(outcome).collect())
}

/// What the transform answers, at the latest after its last retry.
async fn answer(
    calls: &Calls,
    input: &[TransformRecord],
    clock: &Arc<dyn Clock>,
    seed: u64,
) -> Result<Vec<TransformOutcome>> {
    let mut backoff = Backoff::new(seed);
    loop {
        match calls.transform.apply(input.to_vec()).await {
            Err(_) if backoff.failures() < calls.retries => clock.sleep(backoff.next_wait()).await,
            answer => return answer,
        }
    }
}
