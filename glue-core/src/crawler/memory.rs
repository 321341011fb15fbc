//! What a crawler remembers of each file, so that an unchanged one is not read again.
//!
//! One versioned object per crawler: JSON of `{"format":1,"files":{path:{"stamp":...,"size":...,"profile":...}}}`.
//! Invariant: memory saves reading, and stands in for a file that cannot be read now. Otherwise losing it, or a part of it,
//! changes no result.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable_core::{Clock, VersionedCommit};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use serde::{Deserialize, Serialize};

use super::profile::Profile;
use crate::Result;

/// Raised when what a profile holds, or how it is made, changes: older memories are then made anew.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Remembered {
    /// The object's etag, or when it was last modified where the store has none.
    stamp: String,
    size: u64,
    pub(super) profile: Profile,
}

impl Remembered {
    pub(super) fn new(object: &ObjectMeta, profile: Profile) -> Self {
        Self { stamp: stamp(object), size: object.size, profile }
    }

    pub(super) fn is_of(&self, object: &ObjectMeta) -> bool {
        self.size == object.size && self.stamp == stamp(object)
    }
}

fn stamp(object: &ObjectMeta) -> String {
    object.e_tag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339())
}

pub(super) type Files = BTreeMap<String, Arc<Remembered>>;

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    files: BTreeMap<String, Remembered>,
}

#[derive(Serialize)]
struct StoredRef<'a> {
    format: u32,
    files: BTreeMap<&'a str, &'a Remembered>,
}

/// Where a crawler's memory is kept.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    versions: VersionedCommit,
}

impl Memory {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: Path, clock: Arc<dyn Clock>) -> Self {
        Self { versions: VersionedCommit::new(store, prefix).with_clock(clock) }
    }

    /// What is remembered, and the version that holds it. What cannot be understood is forgotten.
    pub(super) async fn load(&self) -> Result<(u64, Files)> {
        let Some(version) = self.versions.latest().await? else { return Ok((0, Files::new())) };
        let files = match serde_json::from_slice::<Stored>(&version.body) {
            Ok(Stored { format: FORMAT, files }) => {
                files.into_iter().map(|(path, file)| (path, Arc::new(file))).collect()
            }
            Ok(_) | Err(_) => Files::new(),
        };
        Ok((version.number, files))
    }

    /// Remembers these files. That it cannot is no failure of the crawl.
    pub(super) async fn save(&self, on: u64, files: &Files) {
        let files = files.iter().map(|(path, file)| (path.as_str(), file.as_ref())).collect();
        let Ok(body) = serde_json::to_vec(&StoredRef { format: FORMAT, files }) else { return };
        let saved = match self.versions.commit(on, body.into()).await {
            Ok(number) => self.versions.trim(number).await,
            Err(error) => Err(error),
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the crawler's memory was not kept: the next crawl reads more than it must");
        }
    }
}
