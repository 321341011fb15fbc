//! From the stream to routed records: read, transform, route. Also for records that a restart reads again.
//!
//! Invariant: nothing here keeps state; an intake that is dropped is begun again from the same place.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable_core::Clock;
use tokio::sync::watch;

use super::buffer::Buffer;
use super::error_output::Failure;
use super::ledger::SealedObject;
use super::route::{Route, Routed, Router};
use super::source::{Progress, Reading, read_next, reread};
use super::transform::{Outage, Transform, transform_all};
use crate::read::Record;
use crate::stream::{DataStream, ShardId};
use crate::tail::Budget;
use crate::{Error, ErrorKind, Result};

/// The stages before the buffers.
#[derive(Clone)]
pub(super) struct Stages {
    pub(super) stream: DataStream,
    pub(super) transform: Option<Arc<dyn Transform>>,
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
            Reading::Records(records) => Ok(Intake::Records(self.route(records, Outage::FailsRecords, seed).await?)),
            Reading::Tip => Ok(Intake::Tip(epoch)),
            Reading::Finished(shard) => Ok(Intake::Finished(shard)),
            Reading::Expired(shard) => Ok(Intake::Expired(shard)),
            Reading::Woken => Ok(Intake::Woken),
        }
    }

    /// The records of `objects` again, each with the object it was promised to, wherever it would go today.
    pub(super) async fn recover(self, objects: Vec<(u64, SealedObject)>, seed: u64) -> Result<Intake> {
        let reread = reread(self.stream.clone(), objects.clone()).await?;
        let (owners, records): (Vec<_>, Vec<_>) = reread.records.into_iter().unzip();
        let routed = self.route(records, Outage::IsAnError, seed).await?;
        let mut buffers: BTreeMap<u64, (SealedObject, Buffer)> =
            objects.into_iter().map(|(number, object)| (number, (object, Buffer::default()))).collect();
        for (owner, routed) in owners.into_iter().zip(routed) {
            if let Some((object, buffer)) = buffers.get_mut(&owner) {
                keep_promise(object, buffer, routed);
            }
        }
        let objects = buffers.into_iter().map(|(number, (object, buffer))| (number, object, buffer)).collect();
        Ok(Intake::Recovered(Recovered { objects, expired: reread.expired }))
    }

    async fn route(&self, records: Vec<Record>, outage: Outage, seed: u64) -> Result<Vec<Routed>> {
        let transformed = transform_all(records, self.transform.as_ref(), outage, &self.clock, seed).await?;
        let router = Arc::clone(&self.router);
        let routing = tokio::task::spawn_blocking(move || router.route(transformed));
        routing.await.map_err(|error| Error::new(ErrorKind::Internal, "routing records panicked").with_source(error))
    }
}

/// Puts a record into the object that it was promised to: as data if it is data and the object holds some, else with
/// the failed records.
fn keep_promise(object: &SealedObject, buffer: &mut Buffer, routed: Routed) {
    let Routed { record, data, route } = routed;
    let failure = match (route, object.failed) {
        (Route::Dropped, _) => return,
        (Route::Failed(failure), None) => Some(failure),
        (Route::Failed(failure), Some(output)) => Some(Failure { output, ..failure }),
        (Route::Partition(_), None) => None,
        (Route::Partition(_), Some(output)) => Some(Failure::earlier(output)),
    };
    let data = if failure.is_some() { &record.data } else { &data };
    buffer.push(record.sequence_number, record.arrival, data, failure, None);
}
