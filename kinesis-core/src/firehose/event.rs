//! What a delivery stream tells about its work.
//!
//! Invariant: `Delivered`, `Accepted` and `Rejected` are told after the object exists, or the records were accepted, and
//! before the stream forgets it, so a listener hears of every object at least once, across crashes too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use object_store::path::Path;

use super::error_output::ErrorOutputType;
use crate::stream::ShardId;

/// The values of a dynamic partition, by key. Empty without dynamic partitioning.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct PartitionKeys(Arc<BTreeMap<String, String>>);

impl PartitionKeys {
    /// These keys with these values.
    pub fn new<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Arc::new(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is none: the destination is not partitioned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DeliveryEvent {
    /// An object is in the store.
    Delivered(Delivered),
    /// A destination that is no object store has accepted records.
    Accepted(Accepted),
    /// Records that failed are in the store, under the error output prefix.
    Rejected(Rejected),
    /// A put failed, or a destination refused records, and it will be tried again.
    Retrying(Retrying),
    /// The schema was found, or a later buffer needed a wider one; files written before keep the old one.
    SchemaChanged {
        /// The one in use from now on.
        schema: SchemaRef,
    },
    /// A restart found objects that were sealed but not delivered; they follow as `Delivered`.
    Recovering {
        /// How many.
        objects: usize,
    },
    /// Retention took records before they were read: they are lost to this delivery.
    Expired {
        /// The shard they were in.
        shard: ShardId,
    },
}

/// An object in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// Its path within the store.
    pub path: Path,
    /// The dynamic partition it belongs to.
    pub partition: PartitionKeys,
    /// Rows in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many puts it took.
    pub attempts: u32,
    /// It was there already: an earlier put had been applied although it seemed to fail, or a restart came between.
    pub existed: bool,
}

/// Records that a destination has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The id of the request.
    pub request_id: String,
    /// Records that were accepted of it.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many attempts were made.
    pub attempts: u32,
}

/// Failed records in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The object's path within the store.
    pub path: Path,
    /// The kind of failure.
    pub output: ErrorOutputType,
    /// Records in it.
    pub records: u64,
    /// Why the first of them failed.
    pub first_reason: String,
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retrying {
    /// The object's path within the store, or the id of the request.
    pub target: String,
    /// Which attempt failed, from 1.
    pub attempt: u32,
    /// How long it waits before the next.
    pub wait: Duration,
    /// Why it failed.
    pub reason: String,
}

/// What is called with each event, and awaited before the stream forgets the object.
pub(super) type Listener = Arc<dyn Fn(DeliveryEvent) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where events go: the awaited listener, and whoever follows.
#[derive(Clone)]
pub(super) struct Announcer {
    pub(super) listener: Option<Listener>,
    pub(super) followers: tokio::sync::broadcast::Sender<DeliveryEvent>,
}

impl Announcer {
    /// Tells everybody; resolves once the listener has.
    pub(super) async fn announce(&self, event: DeliveryEvent) {
        // Nobody follows: that is no error.
        let _ = self.followers.send(event.clone());
        if let Some(listener) = &self.listener {
            listener(event).await;
        }
    }
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer").field("listener", &self.listener.is_some()).finish_non_exhaustive()
    }
}
