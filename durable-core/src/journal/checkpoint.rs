//! What a journal keeps of everything below a position, so that the frames there can go.
//!
//! A checkpoint is a set of named parts. A new one names what changed; the other parts stay as they are, so that its
//! cost follows the change, not the state. The parts that one checkpoint writes lie together in one *parts file*; a
//! manifest says where each living part lies. When more than half of the parts files is dead, the next checkpoint
//! writes all living parts anew.
//!
//! | file | body | who writes | who reads |
//! |---|---|---|---|
//! | `parts-{number}` | the parts, one after another, in an envelope `JPARTS01` | a checkpoint | recovery, the next rewrite |
//! | `checkpoint-{number}` | [`Manifest`] as JSON in an envelope `JCHECK01` | a checkpoint, after its parts are durable | recovery |
//!
//! Invariant: a part is deleted only after a durable manifest no longer names it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::frame::Position;
use crate::envelope;
use crate::{Error, ErrorKind, Result};

const MANIFEST_MAGIC: [u8; 8] = *b"JCHECK01";
const PARTS_MAGIC: [u8; 8] = *b"JPARTS01";

/// The state of everything below a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// It covers every frame below this position.
    pub at: Position,
    /// The parts by name.
    pub parts: BTreeMap<String, Bytes>,
}

/// A change of one part: its new bytes, or `None` to remove it.
pub type PartChange = (String, Option<Bytes>);

/// Where the parts lie, and which segments follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) number: u64,
    pub(crate) at: Position,
    /// The next open starts at or above it.
    pub(crate) mark: Position,
    /// The oldest segment (or log object) that recovery needs.
    pub(crate) oldest: u64,
    /// Whether that segment existed, so that its absence is damage.
    pub(crate) oldest_exists: bool,
    /// The number of the first group in it, or of the group that will be.
    pub(crate) oldest_group: u64,
    /// The number of the newest group that the checkpoint knows of.
    pub(crate) group: u64,
    pub(crate) parts: BTreeMap<String, Place>,
    /// Log objects of an object journal that are let go and may still be there: ranges, both ends included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) freed: Vec<(u64, u64)>,
}

/// Where one part lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The parts file.
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Manifest {
    pub(crate) fn to_bytes(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self)
            .map_err(|error| Error::new(ErrorKind::Internal, "a manifest is not JSON").with_source(error))?;
        envelope::seal(MANIFEST_MAGIC, &json)
    }

    pub(crate) fn parse(sealed: &Bytes, name: &str) -> Result<Self> {
        let body = envelope::open(MANIFEST_MAGIC, sealed, name)?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::new(ErrorKind::Corrupt, format!("{name}: written by a newer version?")).with_source(error)
        })
    }

    /// The parts files that it names.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.parts.values().map(|place| place.file.as_str()).collect()
    }

    fn live_bytes(&self) -> u64 {
        self.parts.values().map(|place| place.bytes).sum()
    }
}

/// Sizes of parts files, to know when most of them is dead.
#[derive(Debug, Default)]
pub(crate) struct PartsFiles {
    bytes: BTreeMap<String, u64>,
}

impl PartsFiles {
    /// The files that `manifest` names, each as large as the parts that live in it.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let mut files = Self::default();
        for place in manifest.parts.values() {
            *files.bytes.entry(place.file.clone()).or_default() += place.bytes;
        }
        files
    }

    pub(crate) fn insert(&mut self, file: String, bytes: u64) {
        self.bytes.insert(file, bytes);
    }

    pub(crate) fn forget(&mut self, file: &str) {
        self.bytes.remove(file);
    }

    /// Whether the living parts had better be written anew before `changes` come on top.
    pub(crate) fn wants_rewrite(&self, manifest: &Manifest, changes: &[PartChange]) -> bool {
        let changed: BTreeSet<&str> = changes.iter().map(|(name, _)| name.as_str()).collect();
        let staying = manifest.parts.iter().filter(|(name, _)| !changed.contains(name.as_str()));
        let live: u64 = staying.map(|(_, place)| place.bytes).sum();
        live.min(manifest.live_bytes()) * 2 < self.bytes.values().sum()
    }

    /// Forgets and answers the files that `manifest` no longer names.
    pub(crate) fn take_dead(&mut self, manifest: &Manifest) -> Vec<String> {
        let living = manifest.files();
        let dead: Vec<String> = self.bytes.keys().filter(|file| !living.contains(file.as_str())).cloned().collect();
        for file in &dead {
            self.bytes.remove(file);
        }
        dead
    }
}

/// Lays `parts` out in the parts file called `file`, and says where each lies.
pub(crate) fn lay_out(file: &str, parts: &BTreeMap<String, Bytes>) -> Result<(Bytes, BTreeMap<String, Place>)> {
    let mut body = BytesMut::new();
    let mut places = BTreeMap::new();
    for (name, part) in parts {
        let place = Place { file: file.into(), offset: body.len() as u64, bytes: part.len() as u64 };
        places.insert(name.clone(), place);
        body.extend_from_slice(part);
    }
    Ok((envelope::seal(PARTS_MAGIC, &body)?, places))
}

/// Reads the parts that `manifest` has in the parts file called `file`.
pub(crate) fn read_parts(
    manifest: &Manifest,
    file: &str,
    sealed: &Bytes,
    parts: &mut BTreeMap<String, Bytes>,
) -> Result<()> {
    let body = envelope::open(PARTS_MAGIC, sealed, file)?;
    for (name, place) in manifest.parts.iter().filter(|(_, place)| place.file == file) {
        let range = usize::try_from(place.offset)
            .ok()
            .zip(usize::try_from(place.offset + place.bytes).ok())
            .filter(|(_, end)| *end <= body.len());
        let Some((start, end)) = range else {
            let message = format!("{file}: part {name} lies outside of it; restore the file from a copy");
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        parts.insert(name.clone(), body.slice(start..end));
    }
    Ok(())
}
