//! Checkpoints of a local journal, and trimming behind them.
//!
//! Invariant: a segment is deleted only after a durable manifest covers every frame in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shared;
use super::files::{read_file, remove, write_file};
use crate::journal::checkpoint::{self, Manifest, PartChange, PartsFiles};
use crate::journal::frame::Position;
use crate::journal::segment;
use crate::{Error, ErrorKind, Result};

pub(super) const CHECKPOINT_PREFIX: &str = "checkpoint-";
pub(super) const PARTS_PREFIX: &str = "parts-";

/// Writes checkpoints, and deletes the segments that they cover.
#[derive(Debug)]
pub struct DirCheckpoints {
    shared: Arc<Shared>,
    manifest: Manifest,
    /// The number of the last attempt, whether it succeeded or not.
    attempt: u64,
    files: PartsFiles,
}

impl DirCheckpoints {
    /// Goes on from the newest checkpoint.
    pub(super) fn new(shared: Arc<Shared>, manifest: Manifest) -> Self {
        Self { shared, attempt: manifest.number, files: PartsFiles::of(&manifest), manifest }
    }

    /// Makes the state of everything below `at` durable, then deletes the segments that hold nothing else.
    ///
    /// # Errors
    /// `InvalidInput` if `at` is below the checkpoint before; `LimitExceeded` if the disk is full: the checkpoint
    /// before stays in force; `Unavailable` as the disk reports it.
    pub fn checkpoint(&mut self, at: Position, changes: Vec<PartChange>) -> Result<()> {
        if at < self.manifest.at {
            let message = format!("a checkpoint at {at} is below the one at {}", self.manifest.at);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let (disk, dir) = (self.shared.disk.clone(), self.shared.dir.clone());
        // An attempt that failed may be found by a recovery all the same, so its number is never taken again.
        self.attempt += 1;
        let mut next = Manifest { number: self.attempt, at, ..self.manifest.clone() };
        let mut written = BTreeMap::new();
        if self.files.wants_rewrite(&self.manifest, &changes) {
            for file in self.manifest.files() {
                checkpoint::read_parts(&self.manifest, file, &read_file(disk.as_ref(), &dir, file)?, &mut written)?;
            }
        }
        for (name, body) in changes {
            next.parts.remove(&name);
            match body {
                Some(body) => written.insert(name, body),
                None => written.remove(&name),
            };
        }
        let file = format!("{PARTS_PREFIX}{:020}", next.number);
        if !written.is_empty() {
            let (sealed, places) = checkpoint::lay_out(&file, &written)?;
            self.write(&file, &sealed)?;
            next.parts.extend(places);
            self.files.insert(file.clone(), sealed.len() as u64);
        }
        let freed = self.free_below(at, &mut next);
        let name = checkpoint_name(next.number);
        if let Err(error) = self.write(&name, &next.to_bytes()?) {
            self.give_up(&name, &file);
            return Err(error);
        }
        let old = std::mem::replace(&mut self.manifest, next);
        self.delete(&old, freed)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (disk, dir) = (self.shared.disk.as_ref(), &self.shared.dir);
        let written = write_file(disk, dir, name, bytes);
        if written.is_err() {
            let free = self.shared.segments().free.take();
            // Best effort, so that a full disk gets the room back at once: the next opening sweeps what is left.
            let _ = free.map(|free| remove(disk, dir, &free));
        }
        written
    }

    /// Removes the parts that the checkpoint `name` would have added, if it is surely not there. Those of earlier
    /// attempts stay until one succeeds: what they wrote may be found by a recovery.
    fn give_up(&mut self, name: &str, parts: &str) {
        let (disk, dir) = (self.shared.disk.as_ref(), &self.shared.dir);
        if disk.list(dir).is_ok_and(|names| names.iter().all(|there| there != name)) {
            self.files.forget(parts);
            // Best effort, so that a full disk gets the room back at once: the next opening sweeps what is left.
            let _ = remove(disk, dir, parts);
        }
    }

    /// Which segments hold nothing at or above `at`; the one being written always stays.
    fn free_below(&self, at: Position, next: &mut Manifest) -> Vec<u64> {
        let segments = self.shared.segments();
        let last = segments.written.len().saturating_sub(1);
        let covered = segments.written.iter().take(last).take_while(|extent| extent.end <= at);
        let freed: Vec<u64> = covered.map(|extent| extent.number).collect();
        let oldest = segments.written.get(freed.len());
        let unwritten = segments.spare.front().map_or(segments.next, |(number, _)| *number);
        next.oldest_exists = oldest.is_some();
        next.oldest = oldest.map_or(unwritten, |extent| extent.number);
        next.oldest_group = oldest.map_or(segments.last_group + 1, |extent| extent.first_group);
        next.mark = segments.mark;
        next.group = segments.last_group;
        freed
    }

    fn delete(&mut self, old: &Manifest, freed: Vec<u64>) -> Result<()> {
        let (disk, dir) = (self.shared.disk.as_ref(), &self.shared.dir);
        if old.number > 0 {
            remove(disk, dir, &checkpoint_name(old.number))?;
        }
        for file in self.files.take_dead(&self.manifest) {
            remove(disk, dir, &file)?;
        }
        for number in freed {
            self.let_go(number)?;
            self.shared.segments().written.retain(|extent| extent.number != number);
        }
        Ok(())
    }

    /// Keeps the file of a segment to become another, or removes it.
    fn let_go(&self, number: u64) -> Result<()> {
        let (disk, dir) = (self.shared.disk.as_ref(), &self.shared.dir);
        let name = segment::name(number);
        if self.shared.segments().free.is_some() {
            return remove(disk, dir, &name);
        }
        let free = segment::free_name(number);
        disk.rename(&dir.join(&name), &dir.join(&free)).map_err(|error| self.shared.io("freeing", &name, error))?;
        self.shared.segments().free = Some(free);
        Ok(())
    }
}

pub(super) fn checkpoint_name(number: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{number:020}")
}
