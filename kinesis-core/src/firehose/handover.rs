//! Records of a sealed object on their way to a destination that is no object store: asked again until each is accepted, or
//! refused for good, or the time is over; then put aside.
//!
//! Invariant: what was not accepted is in the store before the object counts as delivered.

use std::collections::BTreeMap;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::buffer::Entry;
use super::deliver::Deliverer;
use super::destination::{DeliveryRequest, Destination, Refusal, RequestRecord};
use super::encode::FailedLines;
use super::error_output::{FailedRecord, write_line};
use super::event::{Accepted, DeliveryEvent, Retrying};
use super::ledger::SealedObject;
use super::place::Part;
use super::retry::Backoff;
use crate::Result;

/// A record that was not accepted yet.
struct Open {
    entry: Entry,
    record: RequestRecord,
}

/// A record that is not tried again.
struct Refused {
    open: Open,
    refusal: Refusal,
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
        let mut open: Vec<Open> = records.into_iter().map(open).collect();
        let mut refused: Vec<Refused> = Vec::new();
        let mut accepted = Accepted { request_id: id.clone(), records: 0, bytes: 0, attempts: 0 };
        let started = self.clock.monotonic();
        let mut backoff = Backoff::new(seed);
        while !open.is_empty() {
            accepted.attempts += 1;
            let records = open.iter().map(|open| open.record.clone()).collect();
            let answer =
                destination.deliver(DeliveryRequest { id: id.clone(), attempt: accepted.attempts, records }).await;
            let mut refusals = match answer {
                Ok(refused) => Refusals::Some(refused.into_iter().collect()),
                Err(refusal) => Refusals::All(refusal),
            };
            let wait = backoff.next_wait();
            let is_over = self.clock.monotonic().saturating_sub(started) + wait > self.destination_retry_duration;
            let mut again = Vec::new();
            let mut reason = None;
            for (place, open) in open.into_iter().enumerate() {
                match refusals.take(place) {
                    None => {
                        accepted.records += 1;
                        accepted.bytes += open.record.data.len() as u64;
                    }
                    Some(refusal) if refusal.is_retryable && !is_over => {
                        reason.get_or_insert(refusal.message);
                        again.push(open);
                    }
                    Some(refusal) => refused.push(Refused { open, refusal, attempts: accepted.attempts }),
                }
            }
            open = again;
            if let Some(reason) = reason {
                let (attempt, target) = (accepted.attempts, id.clone());
                tracing::warn!(
                    request = id,
                    attempt,
                    ?wait,
                    records = open.len(),
                    reason,
                    "a destination refused records"
                );
                self.metrics.lock().retries += 1;
                self.announcer.announce(DeliveryEvent::Retrying(Retrying { target, attempt, wait, reason })).await;
                self.clock.sleep(wait).await;
            }
        }
        self.put_refused_aside(destination, object, refused, seed).await?;
        if accepted.records > 0 {
            {
                let mut metrics = self.metrics.lock();
                metrics.delivered_objects += 1;
                metrics.delivered_rows += accepted.records;
                metrics.delivered_bytes += accepted.bytes;
            }
            tracing::debug!(request = id, records = accepted.records, attempts = accepted.attempts, "accepted");
            self.announcer.announce(DeliveryEvent::Accepted(accepted)).await;
        }
        Ok(())
    }

    async fn put_refused_aside(
        &self,
        destination: &dyn Destination,
        object: &SealedObject,
        refused: Vec<Refused>,
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
        for Refused { open: Open { entry, record }, refusal, attempts } in &refused {
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

fn open((entry, data): (Entry, Bytes)) -> Open {
    let id = format!("{}.{}", entry.sequence_number, entry.part.number);
    Open { entry, record: RequestRecord { id, arrival: entry.arrival, data } }
}

/// The id of the request for an object that is not made: as unique as the object's name, and as lasting.
fn request_id(object: &SealedObject) -> String {
    let path = object.path.as_deref().unwrap_or_default();
    uuid::Builder::from_md5_bytes(Md5::digest(path).into()).into_uuid().to_string()
}
