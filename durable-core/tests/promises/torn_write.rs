//! Wherever a write was torn, the journal opens with the longest whole prefix, and goes on from there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable_core::journal::Frame;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use testkit::disk::{SECTOR, SimDisk};
use testkit::seeds::{self, Violation};

use crate::simulated;

const LOG_BYTES: usize = 64 << 10;
const STRETCHES: u64 = 64;

/// Opens the log with `bytes` as its segment and checks that exactly the first `whole` groups come back.
fn check(disk: &SimDisk, segment: &Path, bytes: &[u8], groups: &[Vec<Frame>], whole: usize) -> Result<(), Violation> {
    disk.install(segment, bytes);
    let opened = simulated::read(Arc::new(disk.clone()), LOG_BYTES as u64);
    let (_, recovered) = opened.map_err(|error| format!("it does not open: {error:?}"))?;
    let expected: Vec<Frame> = groups[..whole].concat();
    if recovered.frames == expected {
        Ok(())
    } else {
        Err(format!("{} frames came back instead of {}", recovered.frames.len(), expected.len()))
    }
}

/// Where each group ends in the segment.
fn ends(bytes: &[u8], groups: usize) -> Vec<usize> {
    let begins = simulated::begins(bytes);
    assert_eq!(begins.len(), groups, "no body begins like a group at a block boundary");
    let last = begins[groups - 1];
    let body = u32::from_le_bytes(bytes[last + 48..last + 52].try_into().unwrap()) as usize;
    begins[1..].iter().copied().chain([(last + 64 + body).next_multiple_of(SECTOR)]).collect()
}

#[test]
fn at_every_length_the_longest_whole_prefix_comes_back() {
    let checked = seeds::check_all(0..STRETCHES, |stretch| {
        let (disk, groups) = simulated::one_segment(&mut StdRng::seed_from_u64(1), LOG_BYTES as u64, false);
        let segment = simulated::written_segment(&disk);
        let bytes = disk.bytes(&segment).unwrap();
        let ends = ends(&bytes, groups.len());
        let stretch_bytes = LOG_BYTES / STRETCHES as usize;
        let from = stretch as usize * stretch_bytes;
        for length in from..from + stretch_bytes {
            if length < SECTOR {
                // A segment has its name only once it is whole, so a torn header is damage.
                disk.install(&segment, &bytes[..length]);
                let error = simulated::read(Arc::new(disk.clone()), LOG_BYTES as u64).map(|_| ()).unwrap_err();
                assert_eq!(error.kind(), durable_core::ErrorKind::Corrupt, "cut at {length}: {error}");
                continue;
            }
            // What a group must have is its bytes up to the padding; the padding is zeros either way.
            let mut torn = bytes[..length].to_vec();
            torn.resize(bytes.len(), 0);
            let whole = ends.iter().take_while(|end| torn[..**end] == bytes[..**end]).count();
            check(&disk, &segment, &torn, &groups, whole).map_err(|what| format!("torn at {length}: {what}"))?;
            let whole = ends.iter().take_while(|end| **end <= length).count();
            check(&disk, &segment, &bytes[..length], &groups, whole)
                .map_err(|what| format!("cut at {length}: {what}"))?;
        }
        Ok(stretch_bytes)
    });
    assert!(std::env::var_os("SEEDS").is_some() || checked.iter().sum::<usize>() == LOG_BYTES);
}

/// The last group, whose sectors reach the disk in any order, persists whole or is cut; then the journal goes on.
fn check_sectors(seed: u64, forged: bool) -> Result<bool, Violation> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (disk, groups) = simulated::one_segment(&mut rng, LOG_BYTES as u64, false);
    let segment = simulated::written_segment(&disk);
    let bytes = disk.bytes(&segment).unwrap();
    let ends = ends(&bytes, groups.len());
    let begin = ends[groups.len() - 2];
    let mut sectors: Vec<usize> = (begin..ends[groups.len() - 1]).step_by(SECTOR).skip(usize::from(forged)).collect();
    sectors.shuffle(&mut rng);
    let mut torn = bytes.clone();
    for at in sectors.iter().take(rng.random_range(0..=sectors.len())) {
        torn[*at..*at + SECTOR].fill(0);
    }
    let is_whole = torn == bytes;
    if forged {
        simulated::forge(&mut torn, begin);
    }
    let whole = groups.len() - usize::from(!is_whole);
    check(&disk, &segment, &torn, &groups, whole)?;

    let failed = |error: durable_core::Error| format!("it does not go on: {error:?}");
    let (recovery, before) = simulated::read(Arc::new(disk.clone()), LOG_BYTES as u64).map_err(failed)?;
    let mut open = simulated::start(recovery).map_err(failed)?;
    let group = open.group(vec!["after the tear".into()]);
    open.commit(&group).map_err(failed)?;
    drop(open);
    disk.crash();
    let (_, after) = simulated::read(Arc::new(disk), LOG_BYTES as u64).map_err(failed)?;
    let expected = [before.frames, group.frames].concat();
    if after.frames == expected { Ok(is_whole) } else { Err("what followed the tear did not come back".to_owned()) }
}

#[test]
fn a_group_with_any_sectors_missing_is_cut_and_the_journal_goes_on() {
    let whole = seeds::check_all(0..4096, |seed| check_sectors(seed, false));
    let torn = whole.iter().filter(|whole| !**whole).count();
    assert!(whole.len() < 4096 || (1000..4090).contains(&torn), "{torn}");
}

/// The segment that a commit wrote into, as it was before and as it is, with where they begin and end to differ.
fn written_over(before: &BTreeMap<PathBuf, Vec<u8>>, disk: &SimDisk) -> Option<(PathBuf, Vec<u8>, Range<usize>)> {
    before.iter().find_map(|(segment, old)| {
        let new = disk.bytes(segment)?;
        let differs = |place: &usize| new.get(*place) != old.get(*place);
        let within = new.len().min(old.len());
        let (first, last) = ((0..within).find(differs)?, (0..within).rev().find(differs)?);
        Some((segment.clone(), new, first..last + 1))
    })
}

/// In the file of a segment that was let go, the groups of that one show through a tear.
#[test]
fn over_older_groups_the_longest_whole_prefix_comes_back() {
    let cuts = seeds::check_all(0..8, |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let (recovery, _) = simulated::read(Arc::new(disk.clone()), 8 << 10).map_err(|error| error.to_string())?;
        let mut open = simulated::start(recovery).map_err(|error| error.to_string())?;
        let (mut groups, mut cuts) = (Vec::new(), 0);
        while cuts < 10_000 {
            if rng.random_bool(0.2) {
                open.checkpoints.checkpoint(open.writer.next_position(), Vec::new()).unwrap();
                groups.clear();
            }
            let bodies = (0..rng.random_range(1..4)).map(|_| simulated::random_bytes(&mut rng, 500)).collect();
            let group = open.group(bodies);
            let segments = disk.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "segment"));
            let before = segments.map(|file| (file.clone(), disk.bytes(&file).unwrap())).collect();
            open.commit(&group).unwrap();
            let whole = groups.len();
            groups.push(group.frames);
            let Some((segment, new, written)) = written_over(&before, &disk) else { continue };
            let old = &before[&segment];
            if old[written.clone()].iter().all(|byte| *byte == 0) {
                continue;
            }
            for cut in written.clone() {
                let torn = [&new[..cut], &old[cut..]].concat();
                check(&disk.fork(), &segment, &torn, &groups, whole)
                    .map_err(|what| format!("torn at {cut}: {what}"))?;
                cuts += 1;
            }
            check(&disk.fork(), &segment, &new, &groups, whole + 1)?;
        }
        Ok(cuts)
    });
    assert!(cuts.iter().all(|cuts| *cuts >= 10_000));
}

#[test]
fn a_journal_without_checksums_is_caught() {
    // Where only padding is missing, or a length, there is nothing to be fooled by.
    let caught = seeds::share_caught(0..400, |seed| check_sectors(seed, true));
    assert!(caught > 0.25, "{caught} of the seeds were caught");
}
