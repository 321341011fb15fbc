//! Step 1 and 2: the input's rows into the stream, each exactly once however often this runs.
//!
//! Each file is an idempotent producer whose events are numbered by their row, and the stream remembers the last number with the
//! event itself. So there is no progress file to lose or to disagree: what the stream knows is not read again.
//!
//! Invariant: the rows of a file enter in their order, and row n is acknowledged before row n + [`BATCH_ROWS`] is sent.

use std::sync::Arc;

use kinesis_core::{DataStream, Producer, PutBatch, PutRecord};
use md5::{Digest, Md5};
use tokio::sync::mpsc;

use super::plan::Plan;
use super::progress::Stage;
use super::record::{encode, partition_key};
use crate::failure::{Doing, Failure, Result};
use crate::input::{InputFile, Noted, Rows, Survey};

/// Rows of one batch: as many as a put may have.
pub const BATCH_ROWS: usize = kinesis_core::limits::PUT_RECORDS_MAX;

/// Bytes of one batch: half of what a put may have, so that keys fit too.
const BATCH_BYTES: usize = kinesis_core::limits::PUT_RECORDS_BYTES_MAX / 2;

/// Batches read ahead of the stream.
const BATCHES_AHEAD: usize = 4;

/// What became of the input's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Rows that the stream had before.
    pub found: u64,
    /// Rows that it has now in addition.
    pub stored: u64,
}

/// The producer's name for a file: its own name for the reader of a listing, and a digest of its place within the input. So an
/// input that was moved is known again, and a file that was edited is known as that.
#[must_use]
pub fn producer_id(file: &InputFile) -> String {
    let digest = Md5::digest(file.place().as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = file.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' })
        .take(80)
        .collect();
    format!("{name}-{digest}")
}

/// Notes in the plan what each file holds, before the first of its rows goes in, and refuses a file that was edited since: its
/// rows cannot be taken back, and which of them changed is not known.
///
/// # Errors
/// The file's first rows are not those that were noted.
pub fn note(files: &[InputFile], survey: &Survey, plan: &mut Plan) -> Result<()> {
    for (file, found) in files.iter().zip(&survey.files) {
        let producer = producer_id(file);
        if let Some(noted) = plan.noted.get(&producer)
            && found.checksum_of_noted.as_ref() != Some(&noted.checksum)
        {
            let (name, rows) = (file.name(), noted.rows);
            return Err(Failure::new(format!(
                "{name} was edited since its {rows} rows went into this store: rows may only be added at its end. \
                 Give the edited file another name to take it as new events, or use another --table or --store"
            )));
        }
        if found.rows > 0 {
            plan.noted.insert(producer, Noted { rows: found.rows, checksum: found.checksum.clone() });
        }
    }
    Ok(())
}

/// How many rows of this producer the stream has.
fn known_rows(stream: &DataStream, producer: &str) -> Result<u64> {
    let last = stream.producer(producer).doing(|| format!("cannot ask the stream for producer {producer}"))?;
    Ok(last.map_or(0, |last| last + 1))
}

/// Puts every row that the stream does not have yet. Dropping the future leaves what was acknowledged in the stream; the next
/// run goes on behind it.
///
/// # Errors
/// A file cannot be read, or the stream cannot be written.
pub async fn ingest(
    stream: &DataStream,
    files: &[InputFile],
    survey: &Survey,
    plan: &Plan,
    stage: &Stage,
) -> Result<Ingested> {
    let mut ingested = Ingested::default();
    let shared = Arc::new(plan.clone());
    for (file, found) in files.iter().zip(&survey.files) {
        let producer = producer_id(file);
        let known = known_rows(stream, &producer)?.min(found.rows);
        ingested.found += known;
        stage.add(known);
        if known < found.rows {
            ingested.stored += ingest_file(stream, file, &shared, &producer, known, stage).await?;
        }
    }
    Ok(ingested)
}

async fn ingest_file(
    stream: &DataStream,
    file: &InputFile,
    plan: &Arc<Plan>,
    producer: &str,
    known: u64,
    stage: &Stage,
) -> Result<u64> {
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    let (reader_file, reader_plan) = (file.clone(), Arc::clone(plan));
    let reader = tokio::task::spawn_blocking(move || read(&reader_file, &reader_plan, known, &sender));
    let mut stored = 0;
    while let Some(Batch { first, records }) = batches.recv().await {
        let batch = PutBatch::new(records).with_producer(Producer::consecutive(producer, first));
        let output = stream
            .put_batch(batch)
            .await
            .doing(|| format!("cannot put rows from {first} of {} into the stream", file.name()))?;
        let count = u64::try_from(output.records.len()).unwrap_or(u64::MAX);
        stored += u64::try_from(output.stored()).unwrap_or(u64::MAX);
        stage.add(count);
    }
    reader.await.doing(|| format!("reading {} was cut short", file.name()))??;
    Ok(stored)
}

/// Consecutive rows as records.
struct Batch {
    first: u64,
    records: Vec<PutRecord>,
}

/// Reads the rows from `known` on, in batches; ends early if nobody takes them any more.
fn read(file: &InputFile, plan: &Plan, known: u64, batches: &mpsc::Sender<Batch>) -> Result<()> {
    let (name, key) = (file.name(), plan.key_index());
    let mut rows = Rows::open(file, &plan.columns)?;
    let mut batch = Batch { first: known, records: Vec::with_capacity(BATCH_ROWS) };
    let mut bytes = 0;
    while let Some(row) = rows.next_row()? {
        if row.number < known {
            continue;
        }
        let data = encode(&name, &row, &plan.columns)?;
        if batch.records.len() == BATCH_ROWS || (bytes + data.len() > BATCH_BYTES && !batch.records.is_empty()) {
            let next = Batch { first: row.number, records: Vec::with_capacity(BATCH_ROWS) };
            if batches.blocking_send(std::mem::replace(&mut batch, next)).is_err() {
                return Ok(());
            }
            bytes = 0;
        }
        bytes += data.len();
        batch.records.push(PutRecord::new(data, partition_key(&row, key)));
    }
    if !batch.records.is_empty() {
        // Nobody left to take it: the put before it failed and has told why.
        let _ = batches.blocking_send(batch);
    }
    Ok(())
}
