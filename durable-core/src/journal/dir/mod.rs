//! The local journal: a core over [`Disk`], without threads, locks between threads aside.
//!
//! | file | what | who writes | who reads |
//! |---|---|---|---|
//! | `lock` | held while the journal is open | open | open |
//! | `identity` | the journal's id, in an envelope `JIDENT01` | the first open, after the first segment is durable | open |
//! | `{number:020}.segment` | see `segment` | the writer | recovery |
//! | `{number:020}.free` | the file of a segment that was let go, to become another | checkpoints | the allocator; open removes it |
//! | `checkpoint-{number:020}`, `parts-{number:020}` | see `checkpoint` | checkpoints | recovery |
//! | `seal` | the number of the last group, in an envelope `JSEAL001` | a clean close | open, which removes it before the first append |
//!
//! [`DirRecovery`] reads; its [`start`](DirRecovery::start) cuts the torn tail, syncs what was recovered, and gives the
//! three parts that a driver may use from different threads: writer, allocator, checkpoints.
//!
//! A group that does not check out ends the journal if no whole group of a later number lies behind it: it is the torn
//! tail and was never acknowledged. Any other damage refuses to open and says where. After a clean close every damage
//! is damage.

mod checkpoints;
mod files;
mod recovery;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use checkpoints::DirCheckpoints;
pub use recovery::DirRecovery;
pub use writer::{DirAllocator, DirWriter};

use super::frame::Position;
use super::group::{self, JournalId};
use super::segment::SEGMENT_HEADER_BYTES;
use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock};

/// A frame may take up to this share of a segment, so that the waste at a segment's end has a bound.
const SEGMENT_SHARE: u64 = 4;
/// The smallest segment.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 8 << 10;

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: JournalId,
    segment_bytes: u64,
    segments: Mutex<Segments>,
    _lock: Box<dyn DiskLock>,
}

/// Which segments there are, oldest first.
#[derive(Debug, Default)]
struct Segments {
    written: VecDeque<Extent>,
    spare: VecDeque<(u64, Box<dyn DiskFile>)>,
    /// The name of a file to make the next segment of.
    free: Option<String>,
    next: u64,
    mark: Position,
    last_group: u64,
    /// The bytes left in the segment that is being written.
    left: u64,
}

/// What one segment holds.
#[derive(Clone, Copy, Debug)]
struct Extent {
    number: u64,
    first_group: u64,
    end: Position,
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> u64 {
        let waste = frame_share(self.segment_bytes);
        let capacity = self.segment_bytes - SEGMENT_HEADER_BYTES;
        let segments = self.segments();
        segments.left.saturating_sub(waste) + segments.spare.len() as u64 * (capacity - waste)
    }

    fn io(&self, doing: &str, name: &str, error: std::io::Error) -> Error {
        Error::io(format!("{doing} {}", self.dir.join(name).display()), error)
    }
}

/// The largest frame in segments of this size.
pub(crate) fn frame_bytes_max(segment_bytes: u64) -> u64 {
    frame_share(segment_bytes) - group::charge(0)
}

fn frame_share(segment_bytes: u64) -> u64 {
    let share = (segment_bytes - SEGMENT_HEADER_BYTES) / SEGMENT_SHARE;
    share - share % group::BLOCK_BYTES
}
