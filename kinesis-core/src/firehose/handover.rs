//! What was sealed on its way to a destination that is no object store: asked again until all of it is accepted, or refused
//! for good, or the time is over; then put aside.
//!
//! Invariant: what was not accepted is in the store before the object counts as delivered.

use std::collections::BTreeMap;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::buffer::Entry;
use super::deliver::Deliverer;
use super::destination::{DeliveryRequest, Destination, Refusal, RequestRecord, StoredObject};
use super::encode::FailedLines;
use super::error_output::{FailedRecord, write_line};
use super::event::{Accepted, DeliveryEvent, Retrying};
use super::ledger::SealedObject;
use super::place::Part;
use super::retry::Backoff;
use crate::Result;

/// What is not tried again.
struct Refused<T> {
    item: T,
    refusal: Refusal,
    attempts: u32,
}

/// How asking has ended.
struct Asked<T> {
    accepted: Vec<T>,
    refused: Vec<Refused<T>>,
    attempts: u32,
}

impl Deliverer {
    /// Hands `records` over, and puts aside what is refused; resolves once each is in one place or the other.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver), of the store in which records are put aside.
    pub(super) async fn hand_over(
        &self,
        destination: &dyn Destination,
        object: &SealedObject,
        records: Vec<(Entry, Bytes)>,
        seed: u64,
    ) -> Result<()> {
        let id = request_id(object);
        let records = records.into_iter().map(|(entry, data)| {
            let record_id = format!("{}.{}", entry.sequence_number, entry.part.number);
            (entry, RequestRecord { id: record_id, arrival: entry.arrival, data })
        });
        let request = |attempt, open: &[(Entry, RequestRecord)]| DeliveryRequest {
            id: id.clone(),
            attempt,
            time: self.clock.now(),
            records: open.iter().map(|(_, record)| record.clone()).collect(),
            object: None,
        };
        let asked = self.ask(destination, &id, records.collect(), request, seed).await;
        self.put_refused_aside(destination, object, asked.refused, seed).await?;
        let bytes = asked.accepted.iter().map(|(_, record)| record.data.len() as u64).sum();
        self.accepted(id, asked.accepted.len() as u64, bytes, asked.attempts).await;
        Ok(())
    }

    /// Tells the destination of an object that is in the store, and puts aside what it refuses.
    ///
    /// # Errors
    ///
    /// As [`hand_over`](Self::hand_over).
    pub(super) async fn hand_over_object(
        &self,
        destination: &dyn Destination,
        sealed: &SealedObject,
        object: StoredObject,
        seed: u64,
    ) -> Result<()> {
        let id = request_id(sealed);
        let request = |attempt, open: &[StoredObject]| DeliveryRequest {
            id: id.clone(),
            attempt,
            time: self.clock.now(),
            records: Vec::new(),
            object: open.first().cloned(),
        };
        let Asked { accepted, refused, attempts } = self.ask(destination, &id, vec![object], request, seed).await;
        for Refused { item, refusal, .. } in refused {
            let output = destination.error_output_type();
            let lines = destination.aside(&item);
            let aside = FailedLines { lines, records: item.rows, first_reason: refusal.message };
            self.deliver_failed(sealed, output, aside, "", seed).await?;
        }
        for object in accepted {
            self.accepted(id.clone(), object.rows, object.bytes, attempts).await;
        }
        Ok(())
    }

    /// Asks until nothing is left to ask for.
    async fn ask<T>(
        &self,
        destination: &dyn Destination,
        id: &str,
        mut open: Vec<T>,
        request: impl Fn(u32, &[T]) -> DeliveryRequest,
        seed: u64,
    ) -> Asked<T> {
        let mut asked = Asked { accepted: Vec::new(), refused: Vec::new(), attempts: 0 };
        let started = self.clock.monotonic();
        let mut backoff = Backoff::new(seed);
        while !open.is_empty() {
            asked.attempts += 1;
            let mut refusals = match destination.deliver(request(asked.attempts, &open)).await {
                Ok(refused) => Refusals::Some(refused.into_iter().collect()),
                Err(refusal) => Refusals::All(refusal),
            };
            let wait = backoff.next_wait();
            let is_over = self.clock.monotonic().saturating_sub(started) + wait > self.destination_retry_duration;
            let mut again = Vec::new();
            let mut reason = None;
            for (place, item) in open.into_iter().enumerate() {
                match refusals.take(place) {
                    None => asked.accepted.push(item),
                    Some(refusal) if refusal.is_retryable && !is_over => {
                        reason.get_or_insert(refusal.message);
                        again.push(item);
                    }
                    Some(refusal) => asked.refused.push(Refused { item, refusal, attempts: asked.attempts }),
                }
            }
            open = again;
            if let Some(reason) = reason {
                let (attempt, target) = (asked.attempts, id.to_owned());
                tracing::warn!(request = id, attempt, ?wait, again = open.len(), reason, "a destination refused");
                self.metrics.lock().retries += 1;
                self.announcer.announce(DeliveryEvent::Retrying(Retrying { target, attempt, wait, reason })).await;
                self.clock.sleep(wait).await;
            }
        }
        asked
    }

    async fn put_refused_aside(
        &self,
        destination: &dyn Destination,
        object: &SealedObject,
        refused: Vec<Refused<(Entry, RequestRecord)>>,
        seed: u64,
    ) -> Result<()> {
        let Some(first) = refused.first() else { return Ok(()) };
        let output = destination.error_output_type();
        let mut failed = FailedLines {
            lines: Vec::new(),
            records: refused.len() as u64,
            first_reason: first.refusal.message.clone(),
        };
        let id = request_id(object);
        let mut which = Md5::new();
        let ended = self.clock.now();
        for Refused { item: (entry, record), refusal, attempts } in &refused {
            which.update(&record.id);
            let line = FailedRecord {
                output,
                code: &refusal.code,
                message: &refusal.message,
                attempts: *attempts,
                arrival: entry.arrival,
                data: &record.data,
                sequence_number: &record.id,
                sub_sequence_number: (entry.part != Part::WHOLE).then_some(entry.part.number),
                members: &destination.members(&id, record),
            };
            write_line(line, ended, &mut failed.lines);
        }
        // After a crash the destination may refuse others. A name for each set of records, or theirs would be lost.
        let which = which.finalize().iter().take(8).fold(0, |all: u64, byte| all << 8 | u64::from(*byte));
        self.deliver_failed(object, output, failed, &format!("-{which:016x}"), seed).await
    }

    async fn accepted(&self, request_id: String, records: u64, bytes: u64, attempts: u32) {
        if records == 0 {
            return;
        }
        {
            let mut metrics = self.metrics.lock();
            metrics.delivered_objects += 1;
            metrics.delivered_rows += records;
            metrics.delivered_bytes += bytes;
        }
        tracing::debug!(request = request_id, records, attempts, "accepted");
        self.announcer.announce(DeliveryEvent::Accepted(Accepted { request_id, records, bytes, attempts })).await;
    }
}

/// What was refused of a request.
enum Refusals {
    All(Refusal),
    Some(BTreeMap<usize, Refusal>),
}

impl Refusals {
    fn take(&mut self, place: usize) -> Option<Refusal> {
        match self {
            Self::All(refusal) => Some(refusal.clone()),
            Self::Some(refused) => refused.remove(&place),
        }
    }
}

/// The id of the request for an object: as unique as the object's name, and as lasting.
fn request_id(object: &SealedObject) -> String {
    let path = object.path.as_deref().unwrap_or_default();
    uuid::Builder::from_md5_bytes(Md5::digest(path).into()).into_uuid().to_string()
}
