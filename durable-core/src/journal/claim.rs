//! Which local journal belongs to the data in a store.
//!
//! Sealed data lies in the store, what was acknowledged last lies in a journal on some machine's disk. The claim, a
//! [`VersionedCommit`] beside the data, names that journal, so that opening the data without it is refused by name.

use std::path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::JournalId;
use crate::{Clock, Error, ErrorKind, Result, VersionedCommit};

#[derive(Debug)]
pub(super) struct Claims {
    commits: VersionedCommit,
}

/// The journal that the data belongs to.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    version: u64,
    body: Body,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Body {
    /// Id of the journal, in hexadecimal.
    journal: String,
    /// Where it was opened last, for the reader of an error.
    dir: String,
    /// Rises with every opening.
    epoch: u64,
}

impl Claims {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: Path, clock: Arc<dyn Clock>) -> Self {
        Self { commits: VersionedCommit::new(store, prefix).with_clock(clock) }
    }

    pub(super) async fn newest(&self) -> Result<Option<Claim>> {
        let Some(version) = self.commits.latest().await? else { return Ok(None) };
        let body = serde_json::from_slice(&version.body).map_err(|error| {
            Error::new(ErrorKind::Corrupt, format!("version {} is no claim", version.number)).with_source(error)
        })?;
        Ok(Some(Claim { version: version.number, body }))
    }

    /// Claims the data for the journal `id`, on top of the claim that was read before.
    pub(super) async fn claim(&self, before: Option<&Claim>, id: JournalId, dir: &path::Path) -> Result<()> {
        let (version, epoch) = before.map_or((0, 0), |claim| (claim.version, claim.body.epoch));
        let body = Body { journal: format!("{id:032x}"), dir: dir.display().to_string(), epoch: epoch + 1 };
        let json = serde_json::to_vec(&body)
            .map_err(|error| Error::new(ErrorKind::Internal, "a claim is not JSON").with_source(error))?;
        let number = self.commits.commit(version, json.into()).await?;
        self.commits.trim(number).await
    }
}

impl Claim {
    /// Refuses if the journal in `dir`, of this id or none, is not the one that the data belongs to.
    pub(super) fn check(&self, found: Option<JournalId>, dir: &path::Path) -> Result<()> {
        let (claimed, there) = (&self.body.journal, &self.body.dir);
        let found = found.map(|id| format!("{id:032x}"));
        let remedy = "open it with that journal, or adopt the data and give up what only that journal holds";
        match found {
            Some(found) if found == *claimed => Ok(()),
            Some(found) => Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "the data belongs to journal {claimed}, last opened in {there}; {} holds journal {found}; {remedy}",
                    dir.display()
                ),
            )),
            None => Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "the data belongs to journal {claimed}, last opened in {there}; {} holds no journal; {remedy}",
                    dir.display()
                ),
            )),
        }
    }
}
