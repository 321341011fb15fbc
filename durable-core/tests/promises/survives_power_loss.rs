//! Nothing acknowledged is lost when the power fails at any call, any subset of what was not synced persisting.

use std::path::PathBuf;
use std::sync::Arc;

use durable_core::{Disk, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::disk::{Sabotage, Sabotaged, SimDisk};
use testkit::seeds::{self, Violation};

use crate::simulated::{self, Model, Open};

const SEEDS: u64 = 5_000;
/// How often the power fails, or in some cases only the process is killed, before the last time.
const CRASHES: u32 = 5;

/// What one seed went through.
#[derive(Default)]
struct Seen {
    acked: usize,
    discarded: u64,
    died_opening: u64,
    kills: u64,
    checkpoints: u64,
    failed_checkpoints: u64,
    /// Files of segments that were let go and became others.
    reused: u64,
}

/// Runs a journal on the disk, `CRASHES` times until the power fails.
fn check(seed: u64, disk: &SimDisk, seen_by_journal: &Arc<dyn Disk>) -> Result<Seen, Violation> {
    let mut rng = StdRng::seed_from_u64(seed);
    let segment_bytes = [8 << 10, 16 << 10, 64 << 10][rng.random_range(0..3)];
    let (mut model, mut seen) = (Model::default(), Seen::default());
    for _ in 0..CRASHES {
        // The power fails at a random call, which may well be in the middle of the opening.
        if rng.random_bool(0.9) {
            disk.fail_calls_from(rng.random_range(0..200), std::io::ErrorKind::Other);
        } else if rng.random_bool(0.5) {
            disk.fail_call(rng.random_range(0..100));
        }
        match open(&mut model, seen_by_journal, segment_bytes)? {
            Some(mut open) => work(&mut model, &mut open, disk, &mut rng, &mut seen),
            None => seen.died_opening += 1,
        }
        // Where only the process dies, its writes stay to be seen, also those that no sync has saved.
        if rng.random_bool(0.3) {
            seen.kills += 1;
            disk.kill();
        } else {
            disk.crash();
        }
    }
    disk.crash();
    let (_, recovered) = simulated::read(seen_by_journal.clone(), segment_bytes).map_err(|error| error.to_string())?;
    seen.acked = model.agree(recovered)?;
    seen.discarded = disk.counts().discarded;
    Ok(seen)
}

/// Opens the journal; `None` if the power failed meanwhile.
fn open(model: &mut Model, disk: &Arc<dyn Disk>, segment_bytes: u64) -> Result<Option<Open>, Violation> {
    let dead = |error: durable_core::Error| match error.kind() {
        durable_core::ErrorKind::Unavailable => Ok(None),
        _ => Err(format!("the journal does not open: {error:?}")),
    };
    match simulated::read(disk.clone(), segment_bytes) {
        Ok((recovery, recovered)) => {
            // What was read is only safe once the journal has started.
            let mut read = model.clone();
            read.agree(recovered)?;
            match simulated::start(recovery) {
                Ok(open) => {
                    *model = read;
                    Ok(Some(open))
                }
                Err(error) => dead(error),
            }
        }
        Err(error) => dead(error),
    }
}

/// Appends and checkpoints until enough was done or the power failed. A checkpoint may fail by itself and be followed
/// by more: only a failed commit ends a journal.
fn work(model: &mut Model, open: &mut Open, disk: &SimDisk, rng: &mut StdRng, seen: &mut Seen) {
    let is_free = |file: &PathBuf| file.extension().is_some_and(|end| end == "free");
    for _ in 0..rng.random_range(0..40) {
        let had_free = disk.files().iter().any(is_free);
        match rng.random_range(0..10) {
            0 => {
                if rng.random_bool(0.3) {
                    disk.fail_call(rng.random_range(0..10));
                }
                match model.checkpoint(open, rng) {
                    Ok(()) => seen.checkpoints += 1,
                    Err(_) => seen.failed_checkpoints += 1,
                }
            }
            1 => drop(open.allocator.allocate()),
            _ => {
                if model.append(open, rng).is_err() {
                    return;
                }
            }
        }
        seen.reused += u64::from(had_free && !disk.files().iter().any(is_free));
    }
    if rng.random_bool(0.3) {
        // Whether the seal was written does not matter: nothing follows.
        let _ = open.writer.seal();
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let seen = seeds::check_all(0..SEEDS, |seed| {
        let disk = SimDisk::new(seed);
        check(seed, &disk, &(Arc::new(disk.clone()) as Arc<dyn Disk>))
    });
    if seen.len() < 1000 {
        return; // a replay of single seeds
    }
    assert!(seen.iter().map(|seen| seen.acked).sum::<usize>() > 50_000);
    let lossy = seen.iter().filter(|seen| seen.discarded > 0).count();
    assert!(lossy > 4_000, "only {lossy} seeds lost anything that was not synced");
    assert!(seen.iter().map(|seen| seen.died_opening).sum::<u64>() > 500);
    assert!(seen.iter().map(|seen| seen.kills).sum::<u64>() > 5_000);
    assert!(seen.iter().map(|seen| seen.checkpoints).sum::<u64>() > 5_000);
    assert!(seen.iter().map(|seen| seen.failed_checkpoints).sum::<u64>() > 2_000);
    assert!(seen.iter().map(|seen| seen.reused).sum::<u64>() > 1_000);
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    for seed in 0..10 {
        let run = || {
            let disk = SimDisk::new(seed);
            check(seed, &disk, &(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
            disk.files().into_iter().map(|file| (disk.bytes(&file), file)).collect::<Vec<_>>()
        };
        assert!(run() == run(), "seed {seed}");
    }
}

#[test]
fn a_journal_that_does_not_sync_is_caught() {
    for (sabotage, least) in [(Sabotage::NoSync, 0.99), (Sabotage::NoFileSync, 0.9), (Sabotage::NoDirSync, 0.9)] {
        let caught = seeds::share_caught(0..500, |seed| {
            let disk = SimDisk::new(seed);
            check(seed, &disk, &(Arc::new(Sabotaged::new(disk.clone(), sabotage)) as Arc<dyn Disk>))
        });
        assert!(caught >= least, "{sabotage:?}: {caught} of the seeds were caught");
    }
}
