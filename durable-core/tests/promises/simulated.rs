//! A local journal on a simulated disk, driven without threads, beside a model of what it must still hold.
//!
//! The model knows what was acknowledged and what was under way when the disk died. A recovery agrees with it if it
//! holds every acknowledged frame at or after its checkpoint, then nothing or the whole group that was under way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::dir::{DirAllocator, DirCheckpoints, DirRecovery, DirWriter};
use durable_core::journal::{Checkpoint, Frame, Group, PartChange, Position};
use durable_core::{Disk, Result};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use testkit::disk::SimDisk;
use testkit::seeds::Violation;

pub(crate) const DIR: &str = "/journal";

/// How many positions a group reserves ahead.
const STRIDE: u64 = 1000;

/// An open journal.
pub(crate) struct Open {
    pub(crate) writer: DirWriter,
    pub(crate) allocator: DirAllocator,
    pub(crate) checkpoints: DirCheckpoints,
}

/// What a recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) next: Position,
}

/// What the journal must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    acked: Vec<Frame>,
    under_way: Vec<Frame>,
    /// No later open may give a position below it.
    mark: Position,
    checkpoint: Checkpointed,
    /// Those that failed since: one of them may be in force.
    maybe_checkpoints: Vec<Checkpointed>,
    /// What they would have changed: the next one names it again.
    dirty: BTreeMap<String, Option<Bytes>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Checkpointed {
    at: Position,
    parts: BTreeMap<String, Bytes>,
}

/// Reads the journal to its end.
pub(crate) fn read(disk: Arc<dyn Disk>, segment_bytes: u64) -> Result<(DirRecovery, Recovered)> {
    let mut recovery = DirRecovery::open(disk, Path::new(DIR), segment_bytes, 7)?;
    let mut frames = Vec::new();
    while let Some(group) = recovery.next_frames()? {
        frames.extend(group);
    }
    let recovered = Recovered { checkpoint: recovery.checkpoint().cloned(), frames, next: recovery.next_position() };
    Ok((recovery, recovered))
}

/// Starts writing.
pub(crate) fn start(recovery: DirRecovery) -> Result<Open> {
    let (writer, allocator, checkpoints) = recovery.start()?;
    Ok(Open { writer, allocator, checkpoints })
}

impl Open {
    /// The next group with frames of these bodies.
    pub(crate) fn group(&self, bodies: Vec<Bytes>) -> Group {
        let first = self.writer.next_position();
        let mut frames: Vec<Frame> = Vec::new();
        for (body, span) in bodies.into_iter().zip([1, 3, 2].into_iter().cycle()) {
            frames.push(Frame::new(frames.last().map_or(first, Frame::end), span, body));
        }
        let mark = Position(frames.last().map_or(first, Frame::end).0 + STRIDE);
        Group::new(self.writer.next_group(), self.writer.epoch(), first, mark, frames)
    }

    /// Makes it durable, in a new segment if need be; allocates ahead as the driver does.
    pub(crate) fn commit(&mut self, group: &Group) -> Result<()> {
        if self.writer.wants_segment() {
            // A failure is met by the next group that has no room.
            let _ = self.allocator.allocate();
        }
        while self.writer.left().max(self.writer.room()) < group.encoded_bytes() {
            self.allocator.allocate()?;
        }
        self.writer.commit(group)
    }
}

impl Model {
    /// Commits a group of random frames; the model knows it as under way, then as acknowledged.
    pub(crate) fn append(&mut self, open: &mut Open, rng: &mut StdRng) -> Result<()> {
        let bodies = (0..rng.random_range(1..4)).map(|_| random_bytes(rng, 900)).collect();
        let group = open.group(bodies);
        self.under_way.clone_from(&group.frames);
        open.commit(&group)?;
        self.acked.append(&mut self.under_way);
        self.mark = group.mark;
        Ok(())
    }

    /// Checkpoints everything acknowledged, with random changes of a few parts.
    pub(crate) fn checkpoint(&mut self, open: &mut Open, rng: &mut StdRng) -> Result<()> {
        for _ in 0..rng.random_range(0..4) {
            let name = format!("part-{}", rng.random_range(0..5));
            self.dirty.insert(name, rng.random_bool(0.8).then(|| random_bytes(rng, 300)));
        }
        let changes: Vec<PartChange> = self.dirty.clone().into_iter().collect();
        let mut next = Checkpointed { at: open.writer.next_position(), ..self.checkpoint.clone() };
        for (name, body) in changes.iter().cloned() {
            match body {
                Some(body) => next.parts.insert(name, body),
                None => next.parts.remove(&name),
            };
        }
        self.maybe_checkpoints.push(next.clone());
        open.checkpoints.checkpoint(next.at, changes)?;
        self.maybe_checkpoints.clear();
        self.dirty.clear();
        self.checkpoint = next;
        Ok(())
    }

    /// Checks what a recovery found, and takes it as what there is from now on.
    pub(crate) fn agree(&mut self, recovered: Recovered) -> Result<usize, Violation> {
        let found = recovered
            .checkpoint
            .map_or_else(Checkpointed::default, |found| Checkpointed { at: found.at, parts: found.parts });
        if let Some(maybe) = self.maybe_checkpoints.drain(..).find(|maybe| found == *maybe) {
            self.checkpoint = maybe;
        }
        if found != self.checkpoint {
            return Err(format!(
                "the checkpoint at {} is not the one acknowledged at {}",
                found.at, self.checkpoint.at
            ));
        }
        let at = found.at;
        self.acked.retain(|frame| frame.position >= at);
        let (acked, frames) = (self.acked.len(), recovered.frames);
        if frames.len() < acked || frames[..acked] != self.acked {
            return Err(format!(
                "{acked} frames were acknowledged since {at}, {} came back or they differ",
                frames.len()
            ));
        }
        if frames.len() > acked && frames[acked..] != self.under_way {
            return Err("frames came back that nobody appended, or half of a group".to_owned());
        }
        if recovered.next < self.mark {
            return Err(format!("positions from {} on would be given again, up to {}", recovered.next, self.mark));
        }
        self.mark = recovered.next;
        self.acked = frames;
        self.under_way.clear();
        self.dirty.clear();
        Ok(acked)
    }
}

/// A journal of one segment of about `bytes`, and its frames group by group.
pub(crate) fn one_segment(rng: &mut StdRng, bytes: u64, sealed: bool) -> (SimDisk, Vec<Vec<Frame>>) {
    let disk = SimDisk::new(0);
    let (recovery, _) = read(Arc::new(disk.clone()), bytes).unwrap();
    let mut open = start(recovery).unwrap();
    open.allocator.allocate().unwrap();
    let mut groups = Vec::new();
    loop {
        let bodies = (0..rng.random_range(1..5)).map(|_| random_bytes(rng, 1200)).collect();
        let group = open.group(bodies);
        if !groups.is_empty() && open.writer.left() < group.encoded_bytes() {
            break;
        }
        open.writer.commit(&group).unwrap();
        groups.push(group.frames);
    }
    if sealed {
        open.writer.seal().unwrap();
    } else {
        // Leave as after a kill: locks are gone, the spare segments stay.
        drop(open);
    }
    disk.kill();
    (disk, groups)
}

/// The only segment that holds groups: the last one of its disk.
pub(crate) fn written_segment(disk: &SimDisk) -> PathBuf {
    let groups = |file: &PathBuf| disk.bytes(file).is_some_and(|bytes| bytes.get(512..516) == Some(b"JGR1"));
    disk.files().into_iter().rfind(groups).unwrap()
}

/// Makes the group at `begin` check out whatever it now holds: what a journal without checksums would believe.
pub(crate) fn forge(segment: &mut [u8], begin: usize) {
    let body = u32::from_le_bytes(segment[begin + 48..begin + 52].try_into().unwrap()) as usize;
    let end = (begin + 64 + body).next_multiple_of(512).min(segment.len());
    let crc = crc32c::crc32c(&segment[begin + 8..end]);
    segment[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Where the groups of a segment begin.
pub(crate) fn begins(segment: &[u8]) -> Vec<usize> {
    (512..segment.len()).step_by(512).filter(|at| segment[*at..].starts_with(b"JGR1")).collect()
}

/// Random bytes, up to `most` of them.
pub(crate) fn random_bytes(rng: &mut StdRng, most: usize) -> Bytes {
    let mut bytes = vec![0; rng.random_range(0..=most)];
    rng.fill_bytes(&mut bytes);
    bytes.into()
}
