//! From the stream to routed records: read, unpack, transform, route. Also for records that a restart reads again.
//!
//! Invariant: nothing here keeps state; an intake that is dropped is begun again from the same place.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable_core::Clock;
use tokio::sync::watch;

use super::buffer::{Buffer, Push, owner};
use super::error_output::{ErrorOutputType, Failure};
use super::ledger::SealedObject;
use super::place::Part;
use super::route::{Route, Routed, Router};
use super::source::{Progress, Reading, owners, read_next, reread};
use super::transform::{Calls, Outage, transform_all};
use super::unpack::{Unpacked, Unpacking};
use crate::read::Record;
use crate::stream::{DataStream, ShardId};
use crate::tail::Budget;
use crate::{Error, ErrorKind, Result};

/// The stages before the buffers.
#[derive(Clone)]
pub(super) struct Stages {
    pub(super) stream: DataStream,
    pub(super) unpacking: Arc<Unpacking>,
    pub(super) calls: Option<Calls>,
    pub(super) router: Arc<Router>,
    pub(super) clock: Arc<dyn Clock>,
}

/// What came in.
pub(super) enum Intake {
    /// Records of one shard, in order.
    Records(Vec<Routed>),
    /// Objects that were promised before a restart, each with its records.
    Recovered(Recovered),
    /// Every shard was at its tip at some moment since this drain was asked for.
    Tip(u64),
    Finished(ShardId),
    Expired(ShardId),
    Woken,
}

/// Objects that were promised before a restart, read again.
#[derive(Default)]
pub(super) struct Recovered {
    pub(super) objects: Vec<(u64, SealedObject, Buffer)>,
    /// Shards in which retention took some of their records.
    pub(super) expired: Vec<ShardId>,
}

impl Stages {
    /// The next records; see [`read_next`].
    pub(super) async fn next(
        self,
        progress: Progress,
        budget: Budget,
        wait: bool,
        epoch: u64,
        drain: watch::Receiver<u64>,
        seed: u64,
    ) -> Result<Intake> {
        match read_next(self.stream.clone(), progress, budget, wait, epoch, drain).await? {
            Reading::Records(records) => {
                let unpacked = unpack(self.unpacking.clone(), records).await?;
                Ok(Intake::Records(self.route(unpacked, Outage::FailsRecords, seed).await?))
            }
            Reading::Tip => Ok(Intake::Tip(epoch)),
            Reading::Finished(shard) => Ok(Intake::Finished(shard)),
            Reading::Expired(shard) => Ok(Intake::Expired(shard)),
            Reading::Woken => Ok(Intake::Woken),
        }
    }

    /// The records of `objects` again, each with the object it was promised to, wherever it would go today.
    pub(super) async fn recover(self, objects: Vec<(u64, SealedObject)>, seed: u64) -> Result<Intake> {
        let mut recovered = Recovered::default();
        let same =
            |(_, left): &(u64, SealedObject), (_, right): &(u64, SealedObject)| left.unpacking == right.unpacking;
        for objects in objects.chunk_by(same) {
            self.recover_alike(objects, &mut recovered, seed).await?;
        }
        Ok(Intake::Recovered(recovered))
    }

    /// Recovers objects whose records were taken apart in one way.
    async fn recover_alike(&self, objects: &[(u64, SealedObject)], recovered: &mut Recovered, seed: u64) -> Result<()> {
        let Some((_, SealedObject { unpacking, .. })) = objects.first() else { return Ok(()) };
        let shards = owners(objects);
        let owner = |record: &Record, part: Part| {
            let number = record.sequence_number;
            owner(shards.get(&number.shard())?, part.first(number.index()))
        };
        let reread = reread(&self.stream, &shards).await?;
        let mut unpacked = unpack(Arc::new(unpacking.clone()), reread.records).await?;
        unpacked.retain(|unpacked| owner(&unpacked.record, unpacked.part).is_some());
        let mut buffers: BTreeMap<u64, (SealedObject, Buffer)> =
            objects.iter().map(|(number, object)| (*number, (object.clone(), Buffer::default()))).collect();
        for routed in self.route(unpacked, Outage::IsAnError, seed).await? {
            if let Some((object, buffer)) =
                owner(&routed.record, routed.part).and_then(|number| buffers.get_mut(&number))
            {
                keep_promise(object, buffer, routed);
            }
        }
        recovered.objects.extend(buffers.into_iter().map(|(number, (object, buffer))| (number, object, buffer)));
        recovered.expired.extend(reread.expired);
        Ok(())
    }

    async fn route(&self, records: Vec<Unpacked>, outage: Outage, seed: u64) -> Result<Vec<Routed>> {
        let transformed = transform_all(records, self.calls.as_ref(), outage, &self.clock, seed).await?;
        let router = Arc::clone(&self.router);
        let routing = tokio::task::spawn_blocking(move || router.route(transformed));
        routing.await.map_err(|error| Error::new(ErrorKind::Internal, "routing records panicked").with_source(error))
    }
}

/// Takes records apart, on a blocking thread if there is anything to do.
async fn unpack(unpacking: Arc<Unpacking>, records: Vec<Record>) -> Result<Vec<Unpacked>> {
    if *unpacking == Unpacking::default() {
        return Ok(unpacking.unpack(records));
    }
    let unpacked = tokio::task::spawn_blocking(move || unpacking.unpack(records));
    unpacked.await.map_err(|error| Error::new(ErrorKind::Internal, "unpacking records panicked").with_source(error))
}

/// Puts a record into the object that it was promised to: as data if it is data and the object holds some, else with
/// the failed records.
fn keep_promise(object: &SealedObject, buffer: &mut Buffer, routed: Routed) {
    let Routed { record, part, data, route, .. } = routed;
    let is_backup_only = object.path.is_none() && object.failed.is_none();
    let failure = match (route, object.failed) {
        _ if is_backup_only => None,
        (Route::Dropped, _) => return,
        (Route::Failed(failure), None) if object.errors.contains_key(&failure.output) => Some(failure),
        (Route::Failed(failure), None) => Some(Failure { output: ErrorOutputType::ProcessingFailed, ..failure }),
        (Route::Failed(failure), Some(output)) => Some(Failure { output, ..failure }),
        (Route::Partition(_), None) => None,
        (Route::Partition(_), Some(output)) => Some(Failure::earlier(output)),
    };
    let data = if failure.is_some() || is_backup_only { &record.data } else { &data };
    let source = (object.backup.is_some() && *data != record.data).then_some(record.data.as_ref());
    let (sequence_number, arrival) = (record.sequence_number, record.arrival);
    buffer.push(Push { sequence_number, part, arrival, data, source, previous: None, signature: None }, failure);
}
