//! Commands on their way to the journal: checked, encoded, submitted, awaited.
//!
//! Invariant: a call that was answered is applied, so its caller reads what it wrote.

use bytes::Bytes;
use durable_core::ErrorKind;
use durable_core::journal::{Pending, Reservation};

use super::Engine;
use super::command::{Command, Commit, RoutedRecord, encode_put};
use super::sequencer::Planned;
use super::state::StreamState;
use crate::error::{Error, Result};
use crate::limits::{CONSUMER_STATE_BYTES_MAX, PARTITION_KEY_CHARS_MAX, PUT_RECORDS_BYTES_MAX, PUT_RECORDS_MAX};
use crate::put::{Producer, PutBatch, PutOutcome, PutRecord, PutRecordOutput, PutRecordsOutput};
use crate::quota::{Quotas, exceeded};
use crate::stream::{HashKey, OpenShards, ShardId, check_name};
use crate::tail::entry_cost;

impl Engine {
    pub(crate) async fn commit(&self, stream: &StreamState, commit: Commit) -> Result<()> {
        self.transact(&[], &[(stream, commit)]).await.map(|_| ())
    }

    /// Puts a batch and counts it as one.
    pub(crate) async fn put_records(&self, stream: &StreamState, batch: &PutBatch) -> Result<PutRecordsOutput> {
        let begun = self.begin();
        let output = self.put(stream, batch).await?;
        self.count_put_records(stream, batch, &output, begun);
        Ok(output)
    }

    /// Puts a record and counts it as one.
    pub(crate) async fn put_record(&self, stream: &StreamState, record: PutRecord) -> Result<PutRecordOutput> {
        let (begun, bytes) = (self.begin(), record.payload_bytes());
        let output = self.put(stream, &PutBatch::new(vec![record])).await?;
        let stored = output.records.first().and_then(|outcome| outcome.stored().copied());
        let stored = stored.ok_or_else(|| Error::new(ErrorKind::Internal, "a record was put but has no number"))?;
        self.count_put_record(stream, bytes, begun);
        Ok(stored)
    }

    async fn put(&self, stream: &StreamState, batch: &PutBatch) -> Result<PutRecordsOutput> {
        let put = self.try_put(stream, batch).await;
        self.told(put).await
    }

    async fn try_put(&self, stream: &StreamState, batch: &PutBatch) -> Result<PutRecordsOutput> {
        let hash_keys = self.check_batch(stream, batch)?;
        loop {
            let draft = self.draft(stream, batch, &hash_keys)?;
            if draft.planned.plan.known == batch.records.len() {
                return self.known_already(draft).await;
            }
            let mut draft = self.admit(draft)?;
            if draft.routed.is_empty() {
                return Ok(self.put_output(&draft, 0, 0));
            }
            let room = self.state.room.take(draft.cost()).await?;
            let (body, arrival_ms) = self.body(&draft)?;
            let frame = (self.reserve(body.len()).await?, body, draft.span()?);
            let Some(pending) = self.sequencer.put(&draft.planned, frame)? else { continue };
            room.keep();
            draft.keep_quota();
            let position = pending.position().0;
            self.settle(pending).await?;
            return Ok(self.put_output(&draft, position, arrival_ms));
        }
    }

    /// Puts batches and makes commits, over any streams, in one step.
    pub(crate) async fn transact(
        &self,
        puts: &[(&StreamState, &PutBatch)],
        commits: &[(&StreamState, Commit)],
    ) -> Result<Vec<PutRecordsOutput>> {
        let outcome = self.try_transact(puts, commits).await;
        self.told(outcome).await
    }

    async fn try_transact(
        &self,
        puts: &[(&StreamState, &PutBatch)],
        commits: &[(&StreamState, Commit)],
    ) -> Result<Vec<PutRecordsOutput>> {
        let begun = self.begin();
        for (stream, commit) in commits {
            check_commit(stream, commit)?;
        }
        let hash_keys: Vec<_> =
            puts.iter().map(|(stream, batch)| self.check_batch(stream, batch)).collect::<Result<_>>()?;
        loop {
            let mut drafts: Vec<Draft<'_>> = puts
                .iter()
                .zip(&hash_keys)
                .map(|((stream, batch), hash_keys)| self.admit(self.draft(stream, batch, hash_keys)?))
                .collect::<Result<_>>()?;
            let room = self.state.room.take(drafts.iter().map(Draft::cost).sum()).await?;
            let mut parts = Vec::with_capacity(drafts.len() + commits.len());
            let mut arrivals = Vec::with_capacity(drafts.len());
            for draft in &drafts {
                let (body, arrival_ms) = self.body(draft)?;
                parts.push(body);
                arrivals.push(arrival_ms);
            }
            for (_, commit) in commits {
                parts.push(commit.encode()?);
            }
            let body = match (parts.len(), parts.first()) {
                (1, Some(only)) => only.clone(),
                _ => Command::Transaction(parts).encode()?,
            };
            let span = drafts.iter().map(Draft::span).sum::<Result<u32>>()?.max(1);
            let frame = (self.reserve(body.len()).await?, body, span);
            let planned: Vec<_> = drafts.iter().map(|draft| draft.planned.clone()).collect();
            let commits: Vec<_> = commits.iter().map(|(_, commit)| commit.clone()).collect();
            let Some(pending) = self.sequencer.transact(&planned, &commits, frame)? else { continue };
            room.keep();
            drafts.iter_mut().for_each(Draft::keep_quota);
            let mut position = pending.position().0;
            self.settle(pending).await?;
            let mut outputs = Vec::with_capacity(drafts.len());
            for (draft, arrival_ms) in drafts.iter().zip(arrivals) {
                let output = self.put_output(draft, position, arrival_ms);
                self.count_put_records(draft.stream, draft.planned.batch, &output, begun);
                outputs.push(output);
                position += draft.routed.len() as u64;
            }
            return Ok(outputs);
        }
    }

    /// An outcome as a caller may be told. A refusal because of what others did may rest on what is not durable yet: only once it
    /// is, and every reader sees it, is it told.
    async fn told<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            self.journal.flush().await?;
        }
        outcome
    }

    /// What became of a batch of which the stream has every record.
    async fn known_already(&self, draft: Draft<'_>) -> Result<PutRecordsOutput> {
        // What is known may not be durable yet; only then may it be called known.
        self.journal.flush().await?;
        Ok(self.put_output(&draft, 0, 0))
    }

    /// Plans a batch and routes what is new in it.
    fn draft<'a>(&self, stream: &'a StreamState, batch: &'a PutBatch, hash_keys: &[HashKey]) -> Result<Draft<'a>> {
        let plan = self.sequencer.plan(stream.id, batch)?;
        let fresh = batch.records.get(plan.known..).unwrap_or_default();
        let routed = route(fresh, hash_keys.get(plan.known..).unwrap_or_default(), &plan.shape.open)?;
        let shards = routed.iter().map(|record| record.shard).collect();
        let planned = Planned { stream: stream.id, plan, batch, shards };
        Ok(Draft { stream, planned, routed, throttled: Vec::new(), quotas: None })
    }

    /// Takes the drafted records out of their shards' quotas. Those that do not fit are left out, or refuse the batch.
    fn admit<'a>(&'a self, mut draft: Draft<'a>) -> Result<Draft<'a>> {
        if !self.quotas.limit_writes() || draft.stream.name.is_internal() {
            return Ok(draft);
        }
        let (stream, partial) = (draft.stream, draft.planned.batch.partial);
        let admitted: Vec<bool> = draft
            .routed
            .iter()
            .map(|record| self.quotas.write(stream.id, record.shard, record.payload_bytes()))
            .collect();
        let Some(first) = admitted.iter().position(|admitted| !admitted) else {
            draft.quotas = Some(&self.quotas);
            return Ok(draft);
        };
        let refused = draft.routed.iter().zip(&admitted).filter(|(_, admitted)| !**admitted);
        self.count_throttled_writes(stream, refused.map(|(record, _)| record.shard));
        if !partial {
            for (record, _) in draft.routed.iter().zip(&admitted).filter(|(_, admitted)| **admitted) {
                self.quotas.unwrite(stream.id, record.shard, record.payload_bytes());
            }
            let shard = draft.routed.get(first).map_or(ShardId::new(0), |record| record.shard);
            return Err(exceeded(&stream.name, shard));
        }
        let routed = std::mem::take(&mut draft.routed);
        draft.throttled = vec![None; routed.len()];
        for ((record, admitted), throttled) in routed.into_iter().zip(admitted).zip(&mut draft.throttled) {
            if admitted {
                draft.routed.push(record);
            } else {
                *throttled = Some(record.shard);
            }
        }
        draft.planned.shards = draft.routed.iter().map(|record| record.shard).collect();
        draft.quotas = Some(&self.quotas);
        Ok(draft)
    }

    /// The frame of a drafted put, and when its records arrived.
    fn body(&self, draft: &Draft<'_>) -> Result<(Bytes, i64)> {
        let (arrival_ms, batch) = (self.time.arrival_ms(), draft.planned.batch);
        let producer = batch.producer.as_ref();
        let last = producer.and_then(|producer| Some((producer.id(), producer.last(batch.records.len())?)));
        Ok((encode_put(draft.stream.id, arrival_ms, last, &draft.routed)?, arrival_ms))
    }

    fn put_output(&self, draft: &Draft<'_>, position: u64, arrival_ms: i64) -> PutRecordsOutput {
        let (known, shards) = (draft.planned.plan.known, draft.stream.shards());
        self.state.counters.duplicate_records.add(known as u64);
        let mut stored = (position..).zip(&draft.routed).filter_map(|(index, record)| {
            let stamp = shards.get(&record.shard)?.stamp;
            let sequence_number = stamp.number(index, arrival_ms);
            Some(PutOutcome::Stored(PutRecordOutput { shard_id: record.shard, sequence_number }))
        });
        let mut records = vec![PutOutcome::Duplicate; known];
        if draft.throttled.is_empty() {
            records.extend(stored);
        } else {
            let outcome = |throttled: &Option<ShardId>| {
                throttled.map_or_else(|| stored.next(), |shard| Some(PutOutcome::Throttled(shard)))
            };
            records.extend(draft.throttled.iter().filter_map(outcome));
        }
        PutRecordsOutput { records }
    }

    /// The hash key of each record, if the batch may be put.
    fn check_batch(&self, stream: &StreamState, batch: &PutBatch) -> Result<Vec<HashKey>> {
        let records = batch.records.as_slice();
        if !(1..=PUT_RECORDS_MAX).contains(&records.len()) {
            return Err(Error::invalid(format!("a batch of {} records: put 1 to {PUT_RECORDS_MAX}", records.len())));
        }
        let bytes_max = stream.control().config.record_bytes_max.unwrap_or(self.record_bytes_max);
        let mut total = 0;
        for (place, record) in records.iter().enumerate() {
            total += check_record(place, record, bytes_max)?;
        }
        if total > PUT_RECORDS_BYTES_MAX {
            return Err(Error::invalid(format!("a batch of {total} bytes: put at most {PUT_RECORDS_BYTES_MAX}")));
        }
        for (shard, number) in &batch.expected {
            let shard = stream.shard(*shard)?;
            number.map_or(Ok(0), |number| shard.index_of(number))?;
        }
        batch.producer.as_ref().map_or(Ok(()), |producer: &Producer| producer.check(records.len()))?;
        Ok(records.iter().map(hash_key).collect())
    }

    pub(super) async fn reserve(&self, bytes: usize) -> Result<Reservation> {
        self.check_open()?;
        Ok(self.journal.reserve(bytes).await?)
    }

    /// Waits until what was submitted is acknowledged.
    pub(super) async fn settle(&self, pending: Pending) -> Result<()> {
        pending.await?;
        self.check_fault()
    }
}

fn hash_key(record: &PutRecord) -> HashKey {
    record.explicit_hash_key.unwrap_or_else(|| HashKey::of(&record.partition_key))
}

fn route<'a>(records: &'a [PutRecord], hash_keys: &[HashKey], open: &OpenShards) -> Result<Vec<RoutedRecord<'a>>> {
    let routed = |(record, hash_key): (&'a PutRecord, &HashKey)| {
        let shard = open
            .shard_of(*hash_key)
            .ok_or_else(|| Error::corrupt(format!("no open shard owns hash key {hash_key}")))?;
        let (partition_key, data) = (record.partition_key.as_str(), &record.data[..]);
        Ok(RoutedRecord { shard, hash_key: *hash_key, partition_key, data })
    };
    records.iter().zip(hash_keys).map(routed).collect()
}

/// The record's bytes, if it may be put.
fn check_record(place: usize, record: &PutRecord, bytes_max: usize) -> Result<usize> {
    let key = record.partition_key.as_str();
    // The byte count alone settles most keys without walking them.
    let too_long = key.len() > PARTITION_KEY_CHARS_MAX && key.chars().count() > PARTITION_KEY_CHARS_MAX;
    if key.is_empty() || too_long {
        return Err(Error::invalid(format!(
            "record {place} of the batch has a partition key of {} characters: give 1 to {PARTITION_KEY_CHARS_MAX}",
            key.chars().count()
        )));
    }
    let bytes = record.payload_bytes();
    if bytes > bytes_max {
        return Err(Error::invalid(format!(
            "record {place} of the batch has {bytes} bytes with its key, at most {bytes_max} are taken; \
             raise record_bytes_max or split it"
        )));
    }
    Ok(bytes)
}

/// Refuses a commit past a bound, or of a number that its shard did not give.
fn check_commit(stream: &StreamState, commit: &Commit) -> Result<()> {
    check_name("consumer name", &commit.consumer)?;
    for (shard, number) in &commit.positions {
        stream.shard(*shard)?.index_of(*number)?;
    }
    let state_bytes = commit.state.as_ref().map_or(0, Bytes::len);
    if state_bytes > CONSUMER_STATE_BYTES_MAX {
        return Err(Error::limit(format!(
            "consumer '{}' commits {state_bytes} bytes of state, at most {CONSUMER_STATE_BYTES_MAX} are kept",
            commit.consumer
        )));
    }
    Ok(())
}

/// A batch that is planned and routed.
struct Draft<'a> {
    stream: &'a StreamState,
    planned: Planned<'a>,
    /// The records that are new and not throttled.
    routed: Vec<RoutedRecord<'a>>,
    /// For each new record, the shard that has no throughput left for it; empty if there is no such record.
    throttled: Vec<Option<ShardId>>,
    /// Where throughput was taken for the records, until they are submitted.
    quotas: Option<&'a Quotas>,
}

impl Drop for Draft<'_> {
    /// Gives back what was taken for records that were not submitted.
    fn drop(&mut self) {
        if let Some(quotas) = self.quotas {
            for record in &self.routed {
                quotas.unwrite(self.stream.id, record.shard, record.payload_bytes());
            }
        }
    }
}

impl Draft<'_> {
    /// The records are submitted: what was taken for them is used.
    fn keep_quota(&mut self) {
        self.quotas = None;
    }

    /// What it takes of the tail.
    fn cost(&self) -> usize {
        self.routed.iter().map(|record| entry_cost(record.payload_bytes())).sum()
    }

    fn span(&self) -> Result<u32> {
        u32::try_from(self.routed.len()).map_err(|_| Error::limit("a batch has too many records"))
    }
}
