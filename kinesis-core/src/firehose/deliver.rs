//! One sealed object on its way into the store: encode, put, and put again until it is there.
//!
//! Invariant: every put creates; a name that exists is this object's own, so `AlreadyExists` means done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use durable_core::Clock;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, PutMode, PutOptions};
use tokio::sync::Semaphore;

use super::buffer::Buffer;
use super::claim::Claim;
use super::destination::{Destination, StoredObject};
use super::encode::{Encoded, FailedLines, Payload, Shape, encode};
use super::error_output::ErrorOutputType;
use super::event::{Announcer, Delivered, DeliveryEvent, Rejected, Retrying};
use super::ledger::SealedObject;
use super::metrics::SharedMetrics;
use super::retry::Backoff;
use crate::{Error, ErrorKind, Result};

/// Puts objects, or hands their records over.
pub(super) struct Deliverer {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Where backups of what records came as go.
    pub(super) backup_store: Arc<dyn ObjectStore>,
    /// What takes the records in place of the store.
    pub(super) destination: Option<Arc<dyn Destination>>,
    pub(super) destination_retry_duration: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) announcer: Announcer,
    pub(super) metrics: SharedMetrics,
    pub(super) conversions: Semaphore,
    pub(super) put_timeout: Duration,
    pub(super) retry_duration: Duration,
    /// Held by every put: the claim ends with the last of them.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(super) claim: Arc<Claim>,
}

/// An object that was promised, with its records.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) number: u64,
    pub(super) object: SealedObject,
    pub(super) buffer: Buffer,
    pub(super) schema: Option<arrow_schema::SchemaRef>,
    pub(super) seed: u64,
}

/// How a put went.
#[derive(Clone, Copy, Debug)]
struct Put {
    attempts: u32,
    existed: bool,
}

impl Deliverer {
    /// Delivers an object, its failed records and the backup of both; resolves once all are in place and were announced.
    ///
    /// # Errors
    ///
    /// `Unavailable` once the store has failed for as long as puts are repeated, or the kind of an error that repeating
    /// cannot mend.
    pub(super) async fn deliver(&self, sealed: Sealed) -> Result<()> {
        let Sealed { object, buffer, schema, seed, .. } = sealed;
        let (object, encoded) = self.encode(object, buffer, schema).await?;
        // The data last: once it is there, nothing of the object is missing.
        if let Some(backup) = encoded.backup {
            let path = parse(object.backup.as_ref().map(|backup| backup.path.as_str()))?;
            self.put(&self.backup_store, &path, backup, seed).await?;
            self.metrics.lock().backup_objects += 1;
        }
        for (output, failed) in encoded.failed {
            self.deliver_failed(&object, output, failed, "", seed).await?;
        }
        match (encoded.payload, &self.destination) {
            (Payload::Object { data, rows }, None) => self.deliver_data(&object, data, rows, seed).await,
            (Payload::Object { data, rows }, Some(destination)) => {
                let (path, bytes) = (parse(object.path.as_deref())?, data.len() as u64);
                self.put(&self.store, &path, data, seed).await?;
                let stored = StoredObject { path, rows, bytes };
                self.hand_over_object(destination.as_ref(), &object, stored, seed).await
            }
            (Payload::Records(records), Some(destination)) => {
                self.hand_over(destination.as_ref(), &object, records, seed).await
            }
            _ => Ok(()),
        }
    }

    /// Encodes on a blocking thread, a bounded number at once.
    async fn encode(
        &self,
        object: SealedObject,
        buffer: Buffer,
        schema: Option<arrow_schema::SchemaRef>,
    ) -> Result<(SealedObject, Encoded)> {
        let _permit = self.conversions.acquire().await.map_err(|_| Error::closed())?;
        let ended = self.clock.now();
        let takes_records = self.destination.as_ref().is_some_and(|destination| !destination.takes_objects());
        let shape = if takes_records { Shape::Records } else { Shape::Object };
        let encoding = tokio::task::spawn_blocking(move || {
            let encoded = encode(&object, buffer, schema, shape, ended)?;
            Ok((object, encoded))
        });
        encoding
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, "encoding an object panicked").with_source(error))?
    }

    async fn deliver_data(&self, object: &SealedObject, data: Bytes, rows: u64, seed: u64) -> Result<()> {
        let path = parse(object.path.as_deref())?;
        let bytes = data.len() as u64;
        let put = self.put(&self.store, &path, data, seed).await?;
        {
            let mut metrics = self.metrics.lock();
            metrics.delivered_objects += 1;
            metrics.delivered_rows += rows;
            metrics.delivered_bytes += bytes;
        }
        tracing::debug!(%path, rows, bytes, attempts = put.attempts, "delivered");
        let partition = object.partition.clone();
        let delivered = Delivered { path, partition, rows, bytes, attempts: put.attempts, existed: put.existed };
        self.announcer.announce(DeliveryEvent::Delivered(delivered)).await;
        Ok(())
    }

    /// Puts failed records under the name that was promised for them, with `suffix` behind it.
    pub(super) async fn deliver_failed(
        &self,
        object: &SealedObject,
        output: ErrorOutputType,
        failed: FailedLines,
        suffix: &str,
        seed: u64,
    ) -> Result<()> {
        // Before a restart there may have been another destination.
        let promised = object.errors.get(&output).or_else(|| object.errors.get(&ErrorOutputType::ProcessingFailed));
        let path = parse(promised.map(|path| format!("{path}{suffix}")).as_deref())?;
        let FailedLines { lines, records, first_reason } = failed;
        self.put(&self.store, &path, lines.into(), seed).await?;
        self.metrics.lock().rejected_records += records;
        tracing::warn!(%path, records, %output, reason = first_reason, "records put aside");
        self.announcer.announce(DeliveryEvent::Rejected(Rejected { path, output, records, first_reason })).await;
        Ok(())
    }

    /// Creates an object, as often as it takes.
    async fn put(&self, store: &Arc<dyn ObjectStore>, path: &Path, data: Bytes, seed: u64) -> Result<Put> {
        let started = self.clock.monotonic();
        let mut backoff = Backoff::new(seed);
        loop {
            let attempts = backoff.failures() + 1;
            let failure = match self.put_once(store, path, data.clone()).await {
                Ok(()) => return Ok(Put { attempts, existed: false }),
                Err(StoreError::AlreadyExists { .. }) => return Ok(Put { attempts, existed: true }),
                Err(error) if is_hopeless(&error) => {
                    let message =
                        format!("object {path} cannot be created in this store; its records stay in the stream");
                    return Err(Error::new(ErrorKind::InvalidInput, message).with_source(error));
                }
                Err(error) => error,
            };
            let wait = backoff.next_wait();
            let elapsed = self.clock.monotonic().saturating_sub(started);
            if elapsed + wait > self.retry_duration {
                let message = format!(
                    "object {path} could not be created in {attempts} attempts over {elapsed:?}; nothing is lost: \
                     open the delivery stream again once the store works"
                );
                return Err(Error::new(ErrorKind::Unavailable, message).with_source(failure));
            }
            self.metrics.lock().retries += 1;
            tracing::warn!(%path, attempts, ?wait, error = %failure, "put failed");
            let retrying = Retrying { target: path.to_string(), attempt: attempts, wait, reason: failure.to_string() };
            self.announcer.announce(DeliveryEvent::Retrying(retrying)).await;
            self.clock.sleep(wait).await;
        }
    }

    async fn put_once(&self, store: &Arc<dyn ObjectStore>, path: &Path, data: Bytes) -> Result<(), StoreError> {
        let put = store.put_opts(path, data.into(), PutOptions::from(PutMode::Create));
        tokio::select! {
            put = put => put.map(drop),
            () = self.clock.sleep(self.put_timeout) => Err(StoreError::Generic {
                store: "delivery stream",
                source: format!("no answer within {:?}", self.put_timeout).into(),
            }),
        }
    }
}

/// Errors that no repetition mends.
fn is_hopeless(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } | StoreError::InvalidPath { .. }
    )
}

fn parse(path: Option<&str>) -> Result<Path> {
    let lost = || Error::new(ErrorKind::Corrupt, "the delivery stream's state has lost an object's path");
    let path = path.ok_or_else(lost)?;
    Path::parse(path).map_err(|error| lost().with_source(error))
}
