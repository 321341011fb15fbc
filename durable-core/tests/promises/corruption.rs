//! Damage is found and named, never served: whatever was damaged, what comes back was written.

use std::path::PathBuf;
use std::sync::Arc;

use durable_core::ErrorKind;
use durable_core::journal::Frame;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::disk::SimDisk;
use testkit::seeds::{self, Violation};

use crate::simulated::{self, Model};

const LOG_BYTES: usize = 64 << 10;
const STRETCHES: usize = 64;
const BURSTS: u64 = 100_000;

/// How often a damaged journal answered in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answers {
    refused: usize,
    /// It lost the last group, which may have been torn.
    cut: usize,
    /// The damage hit bytes that mean nothing.
    whole: usize,
}

/// Flips each bit of a stretch of the segment in turn; a forged flip comes with a checksum that matches it.
fn flip_bits(stretch: usize, sealed: bool, forged: bool) -> Result<Answers, Violation> {
    let (disk, groups) = simulated::one_segment(&mut StdRng::seed_from_u64(2), LOG_BYTES as u64, sealed);
    let segment = simulated::written_segment(&disk);
    let original = disk.bytes(&segment).unwrap();
    let all: Vec<Frame> = groups.concat();
    let but_last = all.len() - groups.last().unwrap().len();
    let mut answers = Answers::default();
    for offset in (0..original.len()).skip(stretch * LOG_BYTES / STRETCHES).take(LOG_BYTES / STRETCHES) {
        for bit in 0..8 {
            disk.flip(&segment, offset, 1 << bit);
            if forged && let Some(begin) = simulated::begins(&original).into_iter().rfind(|begin| *begin <= offset) {
                let mut bytes = disk.bytes(&segment).unwrap();
                simulated::forge(&mut bytes, begin);
                disk.install(&segment, &bytes);
            }
            match simulated::read(Arc::new(disk.clone()), LOG_BYTES as u64) {
                Err(error) if error.kind() == ErrorKind::Corrupt => answers.refused += 1,
                Err(error) => return Err(format!("bit {bit} of byte {offset}: {error:?}")),
                Ok((_, recovered)) if recovered.frames == all => answers.whole += 1,
                Ok((_, recovered)) if recovered.frames == all[..but_last] => answers.cut += 1,
                Ok(_) => return Err(format!("bit {bit} of byte {offset}: wrong frames came back")),
            }
            disk.flip(&segment, offset, 1 << bit);
        }
    }
    Ok(answers)
}

fn flip_all(sealed: bool) -> Answers {
    let answers = seeds::check_all(0..STRETCHES as u64, |stretch| flip_bits(stretch as usize, sealed, false));
    answers.into_iter().fold(Answers::default(), |sum, next| Answers {
        refused: sum.refused + next.refused,
        cut: sum.cut + next.cut,
        whole: sum.whole + next.whole,
    })
}

#[test]
fn no_flipped_bit_is_served() {
    let answers = flip_all(false);
    if std::env::var_os("SEEDS").is_none() {
        assert_eq!(answers.refused + answers.cut + answers.whole, LOG_BYTES * 8, "{answers:?}");
        assert!(answers.refused > 450_000 && answers.cut > 1_000, "{answers:?}");
    }
}

#[test]
fn a_sealed_journal_refuses_every_flipped_bit() {
    let answers = flip_all(true);
    assert_eq!((answers.cut, answers.whole), (0, 0));
    assert!(std::env::var_os("SEEDS").is_some() || answers.refused > 450_000, "{answers:?}");
}

/// Several segments, some of them in the files of others: behind a clean close none has bytes that mean nothing.
#[test]
fn a_sealed_journal_refuses_a_flip_in_any_of_its_segments() {
    let disk = SimDisk::new(0);
    let (recovery, _) = simulated::read(Arc::new(disk.clone()), 8 << 10).unwrap();
    let mut open = simulated::start(recovery).unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    for number in 0..60 {
        if number == 30 {
            open.checkpoints.checkpoint(open.writer.next_position(), Vec::new()).unwrap();
        }
        let group = open.group(vec![simulated::random_bytes(&mut rng, 1000)]);
        open.commit(&group).unwrap();
    }
    open.writer.seal().unwrap();
    drop(open);
    // No sync may be missing: what was not synced is gone.
    disk.crash();
    let segments: Vec<_> =
        disk.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "segment")).collect();
    assert!(segments.len() > 3 && simulated::read(Arc::new(disk.clone()), 8 << 10).is_ok());
    for segment in segments {
        for offset in 0..disk.bytes(&segment).unwrap().len() {
            disk.flip(&segment, offset, 1 << (offset % 8));
            let error = simulated::read(Arc::new(disk.clone()), 8 << 10).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{} at {offset}: {error:?}", segment.display());
            disk.flip(&segment, offset, 1 << (offset % 8));
        }
    }
}

/// A journal with a checkpoint and several segments, and all that it holds.
fn rich_journal() -> (SimDisk, simulated::Recovered) {
    let (disk, mut rng) = (SimDisk::new(3), StdRng::seed_from_u64(3));
    let (recovery, _) = simulated::read(Arc::new(disk.clone()), 16 << 10).unwrap();
    let (mut model, mut open) = (Model::default(), simulated::start(recovery).unwrap());
    for step in 0..60 {
        model.append(&mut open, &mut rng).unwrap();
        if step % 20 == 10 {
            model.checkpoint(&mut open, &mut rng).unwrap();
        }
    }
    drop(open);
    disk.kill();
    let (_, recovered) = simulated::read(Arc::new(disk.clone()), 16 << 10).unwrap();
    disk.kill();
    assert!(recovered.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.parts.is_empty()));
    (disk, recovered)
}

/// Overwrites or cuts off one to four stretches of random files, and checks that what opens is a prefix of what was written.
fn damage(seeds_of_chunk: std::ops::Range<u64>) -> Result<Answers, Violation> {
    let (disk, written) = rich_journal();
    let lock = PathBuf::from(simulated::DIR).join("lock");
    let originals: Vec<(PathBuf, Vec<u8>)> = disk
        .files()
        .into_iter()
        .filter(|file| *file != lock)
        .map(|file| (file.clone(), disk.bytes(file).unwrap()))
        .collect();
    let mut answers = Answers::default();
    for seed in seeds_of_chunk {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut touched = Vec::new();
        for _ in 0..rng.random_range(1..=4) {
            let (file, original) = &originals[rng.random_range(0..originals.len())];
            let mut bytes = disk.bytes(file).unwrap();
            let from = rng.random_range(0..original.len());
            let to = (from + rng.random_range(2..100)).min(original.len());
            if rng.random_bool(0.2) {
                // Cut, in half of the cases where a group may begin.
                bytes.truncate(if rng.random_bool(0.5) { from - from % 512 } else { from });
            } else if to <= bytes.len() {
                rng.fill(&mut bytes[from..to]);
            }
            disk.install(file, &bytes);
            touched.push((file, original));
        }
        match simulated::read(Arc::new(disk.clone()), 16 << 10) {
            Err(error) if error.kind() == ErrorKind::Corrupt => answers.refused += 1,
            Err(error) => return Err(format!("seed {seed}: {error:?}")),
            Ok((_, found)) => {
                if found.checkpoint != written.checkpoint || !written.frames.starts_with(&found.frames) {
                    return Err(format!("seed {seed}: what came back was never written"));
                }
                answers.cut += usize::from(found.frames.len() < written.frames.len());
                answers.whole += usize::from(found.frames.len() == written.frames.len());
            }
        }
        for (file, original) in touched {
            disk.install(file, original);
        }
    }
    Ok(answers)
}

#[test]
fn no_damaged_stretch_is_served() {
    const CHUNK: u64 = 1_000;
    let answers = seeds::check_all(0..BURSTS / CHUNK, |chunk| damage(chunk * CHUNK..(chunk + 1) * CHUNK));
    if std::env::var_os("SEEDS").is_none() {
        let (refused, cut) = answers.iter().fold((0, 0), |sum, next| (sum.0 + next.refused, sum.1 + next.cut));
        assert!(refused > 60_000 && cut > 100, "{refused} were refused, {cut} cut");
    }
}

#[test]
fn a_journal_without_checksums_is_caught() {
    let caught = seeds::share_caught(0..STRETCHES as u64, |stretch| flip_bits(stretch as usize, true, true));
    assert!(caught > 0.9, "{caught} of the stretches were caught");
}
