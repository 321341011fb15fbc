//! Sealing: giving buffers their objects' names, and making that promise durable before anything is put.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use rand::Rng;
use table_core::RowDecoder;

use super::buffer::{Buffer, BufferKey};
use super::deliver::Sealed;
use super::error_output::ErrorOutputType;
use super::event::{DeliveryEvent, PartitionKeys};
use super::format::{OutputFormat, PartitionColumns};
use super::ledger::{BUFFER_RUNS_MAX, SealedBackup, SealedObject};
use super::object_name::ObjectSuffix;
use super::orc::{check_flat, flattened};
use super::retry::Backoff;
use super::schema::{Kind, infer};
use super::worker::Worker;
use crate::{Error, ErrorKind, Result};

/// Buffers sealed by one commit.
const SEALED_AT_ONCE: usize = 128;
/// Runs of records in them, unless one buffer alone has more.
pub(super) const SEALED_AT_ONCE_RUNS: usize = BUFFER_RUNS_MAX;
/// Signatures of records that are remembered.
const COVERED_MAX: usize = 65_536;

impl Worker {
    /// Seals the buffers of these keys, or the first of them, and queues them for delivery.
    pub(super) async fn seal(&mut self, keys: Vec<BufferKey>) -> Result<()> {
        let buffers = self.buffers.take_within(keys.into_iter().take(SEALED_AT_ONCE), SEALED_AT_ONCE_RUNS);
        let (buffers, schema) = self.find_schema(buffers).await?;
        let mut sealed = Vec::with_capacity(buffers.len());
        for (key, buffer) in buffers {
            let object = self.promise(key, &buffer, schema)?;
            let number = self.ledger.seal(object.clone());
            let schema = schema.and_then(|schema| self.ledger.schema_of(schema));
            sealed.push(Sealed { number, object, buffer, schema, seed: self.rng.random() });
        }
        self.commit().await?;
        sealed.into_iter().for_each(|sealed| self.queue.push(sealed));
        Ok(())
    }

    /// Makes positions and ledger durable. Resolves once they are.
    pub(super) async fn commit(&mut self) -> Result<()> {
        // A closed shard is forgotten once retention took its records; so is where we stand in it.
        let shards = self.stages.stream.list_shards()?;
        let positions = self.progress.positions(&shards, &self.buffers.behind());
        for (shard, position) in &positions {
            self.ledger.move_to(*shard, position.index());
        }
        let state = self.ledger.write()?;
        let started = self.clock.monotonic();
        let mut backoff = Backoff::new(self.rng.random());
        loop {
            let committed = self.stages.stream.commit(&self.consumer, positions.clone(), Some(state.clone())).await;
            match committed {
                Ok(()) => break,
                Err(error) => {
                    let elapsed = self.clock.monotonic().saturating_sub(started);
                    if !error.is_retryable() || elapsed > self.settings.retry_duration() {
                        return Err(error);
                    }
                    self.clock.sleep(backoff.next_wait()).await;
                }
            }
        }
        self.uncommitted = false;
        self.release()
    }

    /// Lets go what will not be read again: behind the positions, and promised to no object that is not in the store yet.
    pub(super) fn release(&self) -> Result<()> {
        if !self.releases {
            return Ok(());
        }
        let stream = &self.stages.stream;
        for (shard, position) in self.progress.positions(&stream.list_shards()?, &self.buffers.behind()) {
            let promised = self.ledger.oldest_promised(shard).map_or(u64::MAX, |index| index.saturating_sub(1));
            stream.release(shard, position.index().min(promised))?;
        }
        Ok(())
    }

    /// The object that a buffer becomes.
    fn promise(&mut self, key: BufferKey, buffer: &Buffer, schema: Option<u64>) -> Result<SealedObject> {
        let oldest = buffer.oldest().with_timezone(&self.zone);
        let suffix = ObjectSuffix::new(&self.name, self.ledger.version, oldest, &mut self.rng);
        let format = self.settings.format();
        let (partition, failed, has_data) = match key {
            BufferKey::Partition(partition) => (partition, None, true),
            BufferKey::Failed(output) => (PartitionKeys::default(), Some(output), false),
            BufferKey::Dropped => (PartitionKeys::default(), None, false),
        };
        let path = if has_data {
            let prefix = self.prefixes.data.render(oldest, &partition, None, &mut self.rng);
            Some(suffix.path(&prefix, self.settings.file_extension())?.to_string())
        } else {
            None
        };
        // Records of a data object can still fail: at conversion, or in the transform after a restart.
        let destination = self.deliverer.destination.as_ref().map(|destination| destination.error_output_type());
        let of_data = [ErrorOutputType::ProcessingFailed, ErrorOutputType::FormatConversionFailed];
        let outputs: Vec<_> =
            if has_data { of_data.into_iter().chain(destination).collect() } else { failed.into_iter().collect() };
        let mut errors = BTreeMap::new();
        for output in outputs {
            let prefix = self.prefixes.errors.render(oldest, &PartitionKeys::default(), Some(output), &mut self.rng);
            errors.insert(output, suffix.path(&prefix, "")?.to_string());
        }
        let backup = match (self.settings.source_backup(), &self.prefixes.backup) {
            (Some(backup), Some(prefix)) => {
                let prefix = prefix.render(oldest, &PartitionKeys::default(), None, &mut self.rng);
                let compression = backup.compression();
                let path = suffix.path(&prefix, compression.extension())?.to_string();
                Some(SealedBackup { path, compression })
            }
            _ => None,
        };
        Ok(SealedObject {
            path,
            errors,
            failed,
            partition,
            format,
            schema: schema.filter(|_| has_data),
            records: buffer.len() as u64,
            bytes: buffer.bytes() as u64,
            members: buffer.members().clone(),
            unpacking: self.stages.unpacking.as_ref().clone(),
            backup,
        })
    }

    /// The number of the schema for these buffers, which are handed back; none if the format needs none.
    async fn find_schema(
        &mut self,
        buffers: Vec<(BufferKey, Buffer)>,
    ) -> Result<(Vec<(BufferKey, Buffer)>, Option<u64>)> {
        let format = self.settings.format();
        let Some(partition_columns) = format.partition_columns() else { return Ok((buffers, None)) };
        let is_orc = matches!(format, OutputFormat::Orc(_));
        if !buffers.iter().any(|(key, _)| matches!(key, BufferKey::Partition(_))) {
            return Ok((buffers, None));
        }
        let known = self.ledger.schema();
        let (buffers, schema) = match &self.schema.0 {
            Kind::Fixed(schema) => (buffers, Arc::clone(schema)),
            Kind::Function(_) => (buffers, self.fetch_schema().await?),
            Kind::Inferred => {
                let omitted = match partition_columns {
                    PartitionColumns::Keep => Vec::new(),
                    PartitionColumns::Omit => self.prefixes.data.query_keys().into_iter().map(str::to_owned).collect(),
                };
                let (buffers, schema) = self.infer_schema(buffers, known.clone(), omitted).await?;
                (buffers, if is_orc { flattened(&schema) } else { schema })
            }
        };
        if is_orc {
            check_flat(&schema)?;
        }
        let number = self.ledger.set_schema(&schema);
        if known.as_deref() != Some(schema.as_ref()) {
            self.deliverer.announcer.announce(DeliveryEvent::SchemaChanged { schema }).await;
        }
        Ok((buffers, Some(number)))
    }

    /// The schema of all that came, or the known one as far as these buffers widen it.
    async fn infer_schema(
        &mut self,
        buffers: Vec<(BufferKey, Buffer)>,
        known: Option<SchemaRef>,
        omitted: Vec<String>,
    ) -> Result<(Vec<(BufferKey, Buffer)>, SchemaRef)> {
        let mut covered = std::mem::take(&mut self.covered);
        let inferring = tokio::task::spawn_blocking(move || {
            let data = buffers.iter().filter(|(key, _)| matches!(key, BufferKey::Partition(_)));
            let records = data.flat_map(|(_, buffer)| buffer.records());
            // Of records alike one is enough.
            let telling =
                records.filter(|(entry, ..)| entry.signature.is_none_or(|signature| covered.insert(signature)));
            let schema = match (infer(known.as_deref(), telling.map(|(_, data, _)| data), &omitted), known) {
                (schema, Some(known)) if schema == *known => known,
                (schema, _) => Arc::new(schema),
            };
            (buffers, schema, covered)
        });
        let failed = |error| Error::new(ErrorKind::Internal, "inferring a schema panicked").with_source(error);
        let (buffers, schema, covered) = inferring.await.map_err(failed)?;
        self.covered = if covered.len() > COVERED_MAX { HashSet::new() } else { covered };
        Ok((buffers, schema))
    }

    /// Asks the schema function, again for a while if it fails.
    async fn fetch_schema(&mut self) -> Result<SchemaRef> {
        let Kind::Function(fetch) = self.schema.0.clone() else {
            return Err(Error::new(ErrorKind::Internal, "there is no schema function"));
        };
        let started = self.clock.monotonic();
        let mut backoff = Backoff::new(self.rng.random());
        loop {
            let fetched = match fetch().await {
                Ok(schema) => check_schema(&schema).map(|()| schema),
                Err(error) => Err(error),
            };
            match fetched {
                Ok(schema) => return Ok(schema),
                Err(error) => {
                    let elapsed = self.clock.monotonic().saturating_sub(started);
                    if !error.is_retryable() || elapsed > self.settings.retry_duration() {
                        return Err(error);
                    }
                    tracing::warn!(name = self.name, error = ?error, "the schema could not be fetched");
                    self.clock.sleep(backoff.next_wait()).await;
                }
            }
        }
    }
}

/// Refuses a schema that JSON is not converted to.
///
/// # Errors
///
/// `InvalidInput` that names the column.
pub(super) fn check_schema(schema: &SchemaRef) -> Result<()> {
    if schema.fields().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "a schema without columns: records could not be kept in it"));
    }
    let decoder = RowDecoder::new(Arc::clone(schema));
    decoder.map(drop).map_err(|error| Error::new(error.kind(), error.message().to_owned()).with_source(error))
}
