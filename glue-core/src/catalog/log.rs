//! What one commit holds: the change, and when it was made, as JSON.
//!
//! | field | holds |
//! |---|---|
//! | `format` | 1 |
//! | `at` | the wall time of its writer, which stamps the tables |
//! | `change` | preconditions and actions, see `table_core::Change` |

use bytes::Bytes;
use chrono::{DateTime, Utc};
use durable_core::Version;
use serde::{Deserialize, Serialize};
use table_core::{CatalogState, Change, ErrorKind};

use crate::{Error, Result};

const FORMAT: u32 = 1;

#[derive(Deserialize)]
struct Entry {
    format: u32,
    at: DateTime<Utc>,
    change: Change,
}

#[derive(Serialize)]
struct EntryRef<'a> {
    format: u32,
    at: DateTime<Utc>,
    change: &'a Change,
}

/// The entry of a change, which is known to be read again.
///
/// # Errors
/// `InvalidInput` for a change that JSON cannot hold: committed, it would end the catalog for every reader.
pub(super) fn entry(change: &Change, at: DateTime<Utc>) -> Result<Bytes> {
    let refused = |error| {
        let message = "the change cannot be kept as JSON: one of its values is nested too deep or is no JSON value";
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    };
    let entry = serde_json::to_vec(&EntryRef { format: FORMAT, at, change }).map_err(refused)?;
    serde_json::from_slice::<Entry>(&entry).map_err(refused)?;
    Ok(entry.into())
}

/// The state after a commit.
pub(super) fn replay(state: &CatalogState, version: &Version) -> Result<CatalogState> {
    let number = version.number;
    let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("commit {number} of the catalog {what}"));
    let entry: Entry =
        serde_json::from_slice(&version.body).map_err(|error| corrupt("cannot be read").with_source(error))?;
    if entry.format != FORMAT {
        return Err(corrupt(&format!("has format {}, this version reads {FORMAT}: upgrade it", entry.format)));
    }
    let next = state.apply(&entry.change, entry.at).map_err(|error| corrupt("does not apply").with_source(error))?;
    let next = next.ok_or_else(|| corrupt("changes nothing"))?;
    if next.number() == number { Ok(next) } else { Err(corrupt("is out of order")) }
}
