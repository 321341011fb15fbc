//! One file's bytes: what a read shows, what is on the medium, and every sector between the two.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

/// The bytes that reach the medium as one.
pub const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Sectors written since the last sync, with what they held in between.
    dirty: BTreeMap<usize, Dirty>,
    /// Lengths since the last sync.
    lengths: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Dirty {
    /// What the sector held after each write but the last.
    earlier: Vec<Vec<u8>>,
    /// Whether a sync failed since the last write: no later one saves the sector.
    lost: bool,
}

impl Image {
    pub(super) fn durable(bytes: &[u8]) -> Self {
        let bytes = Arc::new(bytes.to_vec());
        Self { live: Arc::clone(&bytes), durable: bytes, ..Self::default() }
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.live
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.live.len());
        let length = buffer.len().min(self.live.len() - start);
        buffer[..length].copy_from_slice(&self.live[start..start + length]);
        length
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).expect("a simulated file fits into memory");
        let end = start + bytes.len();
        if end > self.live.len() {
            self.set_len(end);
        }
        self.dirty(start, end);
        Arc::make_mut(&mut self.live)[start..end].copy_from_slice(bytes);
    }

    pub(super) fn set_len(&mut self, length: usize) {
        let before = self.live.len();
        Arc::make_mut(&mut self.live).resize(length, 0);
        if length > before && self.durable.len() > before {
            // The medium still holds what was cut off before.
            self.dirty(before, length);
        }
        self.lengths.push(length);
    }

    pub(super) fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        durable.resize(self.live.len(), 0);
        self.dirty.retain(|sector, dirty| {
            if !dirty.lost {
                dirty.earlier.clear();
                copy_sector(durable, &self.live, *sector);
            }
            dirty.lost
        });
        self.lengths.clear();
    }

    pub(super) fn fail_sync(&mut self) {
        self.dirty.values_mut().for_each(|dirty| dirty.lost = true);
    }

    pub(super) fn flip(&mut self, offset: usize, mask: u8) {
        Arc::make_mut(&mut self.live)[offset] ^= mask;
        if let Some(byte) = Arc::make_mut(&mut self.durable).get_mut(offset) {
            *byte ^= mask;
        }
    }

    /// Keeps each unsynced sector and length with probability `odds`; answers how many were kept and discarded.
    pub(super) fn crash(&mut self, rng: &mut StdRng, odds: f64) -> (u64, u64) {
        let (mut kept, mut discarded) = (0, 0);
        let mut decide = |rng: &mut StdRng| {
            let keep = rng.random_bool(odds);
            kept += u64::from(keep);
            discarded += u64::from(!keep);
            keep
        };
        let durable = Arc::make_mut(&mut self.durable);
        if !self.lengths.is_empty() && decide(rng) {
            durable.resize(self.lengths[rng.random_range(0..self.lengths.len())], 0);
        }
        for (sector, dirty) in std::mem::take(&mut self.dirty) {
            if decide(rng) {
                match dirty.earlier.get(rng.random_range(0..=dirty.earlier.len())) {
                    Some(earlier) => copy_into(durable, sector * SECTOR, earlier),
                    None => copy_sector(durable, &self.live, sector),
                }
            }
        }
        self.lengths.clear();
        self.live = Arc::clone(&self.durable);
        (kept, discarded)
    }

    fn dirty(&mut self, start: usize, end: usize) {
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            let known = self.dirty.contains_key(&sector);
            let dirty = self.dirty.entry(sector).or_default();
            if known {
                let from = (sector * SECTOR).min(self.live.len());
                dirty.earlier.push(self.live[from..(from + SECTOR).min(self.live.len())].to_vec());
            }
            dirty.lost = false;
        }
    }
}

/// Copies a sector as far as both reach.
fn copy_sector(to: &mut [u8], from: &[u8], sector: usize) {
    let start = (sector * SECTOR).min(from.len());
    copy_into(to, start, &from[start..(start + SECTOR).min(from.len())]);
}

fn copy_into(to: &mut [u8], start: usize, bytes: &[u8]) {
    let start = start.min(to.len());
    let length = bytes.len().min(to.len() - start);
    to[start..start + length].copy_from_slice(&bytes[..length]);
}
