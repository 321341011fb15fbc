//! The commit group: the unit that is written, synced and found valid again as a whole.
//!
//! All numbers are little endian. A group begins at a multiple of 512 bytes and is padded with zeros to one.
//!
//! | at | name | bytes | |
//! |---|---|---|---|
//! | 0 | magic | 4 | `JGR1` |
//! | 4 | crc | 4 | CRC32C of everything after it, padding included |
//! | 8 | journal | 16 | id of the journal (local) or of the writer (object store) |
//! | 24 | number | 8 | 1, 2, 3 ... without a gap |
//! | 32 | first | 8 | position of the first frame |
//! | 40 | mark | 8 | no position below it is ever given again by a later open |
//! | 48 | body | 4 | bytes of all frames |
//! | 52 | frames | 4 | how many |
//! | 56 | epoch | 8 | of the writer |
//! | 64 | frames | | each: length 4, span 4, body |
//!
//! The journal writes it and recovery reads it. Invariant: group n + 1 is written only once n is durable.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, Position};

/// Groups begin at multiples of this many bytes: a block is what a disk writes whole or not at all.
pub const BLOCK_BYTES: u64 = 512;

pub(crate) const GROUP_HEADER_BYTES: usize = 64;
pub(crate) const FRAME_HEADER_BYTES: usize = 8;
const MAGIC: [u8; 4] = *b"JGR1";
/// A body from this size on is written from where it lies; below, copying it into one buffer is cheaper.
const COPY_BYTES_MAX: usize = 32 << 10;

/// The id of a local journal, or of one writer of an object journal.
pub type JournalId = u128;

/// Frames that become durable together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its number: one more than the group before.
    pub number: u64,
    /// The epoch of its writer.
    pub epoch: u64,
    /// The position that the next open must not go below.
    pub mark: Position,
    /// The position of the first frame, or the next one to be given if there is none.
    pub first: Position,
    /// The frames, in order; empty for a fence.
    pub frames: Vec<Frame>,
}

impl Group {
    /// A group of these frames.
    #[must_use]
    pub fn new(number: u64, epoch: u64, first: Position, mark: Position, frames: Vec<Frame>) -> Self {
        Self { number, epoch, mark, first, frames }
    }

    /// The first position after it.
    #[must_use]
    pub fn end(&self) -> Position {
        self.frames.last().map_or(self.first, Frame::end)
    }

    /// How many bytes it takes on disk.
    #[must_use]
    pub fn encoded_bytes(&self) -> u64 {
        let frames: usize = self.frames.iter().map(|frame| FRAME_HEADER_BYTES + frame.body.len()).sum();
        padded(GROUP_HEADER_BYTES + frames)
    }
}

/// What a frame of this many bytes takes at most, alone in its group.
pub(crate) fn charge(body_bytes: usize) -> u64 {
    padded(GROUP_HEADER_BYTES + FRAME_HEADER_BYTES + body_bytes)
}

fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(BLOCK_BYTES)
}

/// A group as bytes: small pieces copied together, large bodies where they lie.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    scratch: Vec<u8>,
    /// Ends of stretches of `scratch`, each followed by a large body or by the end.
    pieces: Vec<(usize, Option<Bytes>)>,
}

impl Encoded {
    /// Encodes `group`, reusing this buffer.
    pub(crate) fn fill(&mut self, group: &Group, journal: JournalId) {
        self.scratch.clear();
        self.pieces.clear();
        let body: usize = group.frames.iter().map(|frame| FRAME_HEADER_BYTES + frame.body.len()).sum();
        self.scratch.extend_from_slice(&MAGIC);
        self.scratch.extend_from_slice(&[0; 4]);
        self.scratch.extend_from_slice(&journal.to_le_bytes());
        self.scratch.extend_from_slice(&group.number.to_le_bytes());
        self.scratch.extend_from_slice(&group.first.0.to_le_bytes());
        self.scratch.extend_from_slice(&group.mark.0.to_le_bytes());
        self.scratch.extend_from_slice(&word(body));
        self.scratch.extend_from_slice(&word(group.frames.len()));
        self.scratch.extend_from_slice(&group.epoch.to_le_bytes());
        for frame in &group.frames {
            self.scratch.extend_from_slice(&word(frame.body.len()));
            self.scratch.extend_from_slice(&frame.span.to_le_bytes());
            if frame.body.len() < COPY_BYTES_MAX {
                self.scratch.extend_from_slice(&frame.body);
            } else {
                self.pieces.push((self.scratch.len(), Some(frame.body.clone())));
            }
        }
        let unpadded = GROUP_HEADER_BYTES + body;
        let padding = usize::try_from(padded(unpadded)).unwrap_or(unpadded) - unpadded;
        self.scratch.resize(self.scratch.len() + padding, 0);
        self.pieces.push((self.scratch.len(), None));
        let crc = self.checksum();
        self.scratch[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    fn checksum(&self) -> u32 {
        let mut crc = 0;
        let mut start = 8;
        for (end, large) in &self.pieces {
            crc = crc32c::crc32c_append(crc, &self.scratch[start..*end]);
            if let Some(body) = large {
                crc = crc32c::crc32c_append(crc, body);
            }
            start = *end;
        }
        crc
    }

    /// The bytes as slices to be written one after another.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.pieces.len());
        let mut start = 0;
        for (end, large) in &self.pieces {
            slices.push(IoSlice::new(&self.scratch[start..*end]));
            if let Some(body) = large {
                slices.push(IoSlice::new(body));
            }
            start = *end;
        }
        slices
    }

    /// The bytes in one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        for slice in self.slices() {
            bytes.extend_from_slice(&slice);
        }
        bytes.freeze()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a frame is below FRAME_BYTES_MAX and a group below a segment")]
fn word(length: usize) -> [u8; 4] {
    (length as u32).to_le_bytes()
}

/// The fixed part of a group, before anything in it is believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) journal: JournalId,
    pub(crate) number: u64,
    body: u32,
}

impl Header {
    /// Reads it from the first 64 bytes; `None` if a group does not begin so.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < GROUP_HEADER_BYTES || bytes[..4] != MAGIC {
            return None;
        }
        Some(Self {
            journal: u128::from_le_bytes(bytes[8..24].try_into().ok()?),
            number: u64::from_le_bytes(bytes[24..32].try_into().ok()?),
            body: u32::from_le_bytes(bytes[48..52].try_into().ok()?),
        })
    }

    /// The bytes of the whole group, padding included.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        (GROUP_HEADER_BYTES as u64 + u64::from(self.body)).next_multiple_of(BLOCK_BYTES)
    }
}

/// Reads a whole group; `None` if its checksum does not match what it holds. The frames share one buffer.
pub(crate) fn decode(bytes: &[u8]) -> Option<Group> {
    let header = Header::parse(bytes)?;
    if header.encoded_bytes() != bytes.len() as u64 {
        return None;
    }
    let stored = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
    if stored != crc32c::crc32c(&bytes[8..]) {
        return None;
    }
    let number_at = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
    let first = Position(number_at(32)?);
    let count = u32::from_le_bytes(bytes[52..56].try_into().ok()?);
    let body_end = GROUP_HEADER_BYTES + header.body as usize;
    let body = Bytes::copy_from_slice(&bytes[GROUP_HEADER_BYTES..body_end]);
    let mut frames = Vec::with_capacity((count as usize).min(body.len() / FRAME_HEADER_BYTES));
    let mut at = 0;
    let mut position = first;
    for _ in 0..count {
        let head = body.get(at..at + FRAME_HEADER_BYTES)?;
        let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
        let span = u32::from_le_bytes(head[4..].try_into().ok()?);
        at += FRAME_HEADER_BYTES;
        if at + length > body.len() {
            return None;
        }
        let frame = Frame::new(position, span, body.slice(at..at + length));
        at += length;
        position = frame.end();
        frames.push(frame);
    }
    (at == body.len()).then_some(Group {
        number: header.number,
        epoch: number_at(56)?,
        mark: Position(number_at(40)?),
        first,
        frames,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(bodies: &[&[u8]]) -> Group {
        let mut position = Position(40);
        let mut frames = Vec::new();
        for body in bodies {
            let frame = Frame::new(position, 3, Bytes::copy_from_slice(body));
            position = frame.end();
            frames.push(frame);
        }
        Group::new(7, 2, Position(40), Position(1000), frames)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let large = vec![9_u8; COPY_BYTES_MAX + 1];
        for bodies in [vec![], vec![&b""[..]], vec![b"a", b"", b"ccc"], vec![b"a", &large, b"b", &large]] {
            let group = group(&bodies);
            let mut encoded = Encoded::default();
            encoded.fill(&group, 11);
            let bytes = encoded.to_bytes();
            assert_eq!(bytes.len() as u64, group.encoded_bytes());
            assert_eq!(bytes.len() % 512, 0);
            assert_eq!(decode(&bytes).unwrap(), group);
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut encoded = Encoded::default();
        encoded.fill(&group(&[b"one", b"two"]), 11);
        let bytes = encoded.to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_none(), "bit {bit}");
        }
    }
}
