//! Which seeds a randomised test runs, and how a failure names the one that failed.
//!
//! `SEEDS=3,17 cargo test name` runs those alone. The verdict on a seed depends on the seed only, never on its
//! neighbours or on how many threads share the work.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a broken promise looks like: one line that says what was expected and what was found.
pub type Violation = String;

/// Runs `check` on each seed and panics with the first few that failed, their violations, and how to replay them.
/// Answers what the checks counted, in the order of the seeds, so that the test can assert that it saw enough.
///
/// # Panics
/// If a check fails or panics.
pub fn check_all<T: Send>(default: Range<u64>, check: impl Fn(u64) -> Result<T, Violation> + Sync) -> Vec<T> {
    let (passed, failed) = run(&seeds(default), &check);
    let replay: Vec<String> = failed.iter().take(10).map(|(seed, _)| seed.to_string()).collect();
    let first: Vec<String> = failed.iter().take(3).map(|(seed, what)| format!("seed {seed}: {what}")).collect();
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed. {}. Replay with SEEDS={}",
        failed.len(),
        failed.len() + passed.len(),
        first.join("; "),
        replay.join(",")
    );
    passed
}

/// The share of seeds, 0 to 1, on which `check` fails: a sabotaged run must come close to 1.
///
/// # Panics
/// If there are no seeds.
pub fn share_caught<T: Send>(default: Range<u64>, check: impl Fn(u64) -> Result<T, Violation> + Sync) -> f64 {
    let (passed, failed) = run(&seeds(default), &check);
    assert!(passed.len() + failed.len() > 0, "no seed was run");
    let count = |length: usize| f64::from(u32::try_from(length).expect("fewer than 2^32 seeds"));
    count(failed.len()) / count(passed.len() + failed.len())
}

/// The seeds of `SEEDS`, or else those given.
///
/// # Panics
/// If `SEEDS` is set to something other than numbers between commas.
#[must_use]
pub fn seeds(default: Range<u64>) -> Vec<u64> {
    match std::env::var("SEEDS") {
        Ok(list) => list.split(',').map(|seed| seed.trim().parse().expect("SEEDS is numbers and commas")).collect(),
        Err(_) => default.collect(),
    }
}

type Outcome<T> = (Vec<T>, Vec<(u64, Violation)>);

/// Shares the seeds among the processors; a panic counts as a violation of the seed that it happened on.
fn run<T: Send>(seeds: &[u64], check: &(impl Fn(u64) -> Result<T, Violation> + Sync)) -> Outcome<T> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = catch_unwind(AssertUnwindSafe(|| check(seed))).unwrap_or_else(|panic| Err(describe(&*panic)));
            results.lock().unwrap().push((seed, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(seed, _)| *seed);
    let mut outcome = (Vec::new(), Vec::new());
    for (seed, result) in results {
        match result {
            Ok(counted) => outcome.0.push(counted),
            Err(what) => outcome.1.push((seed, what)),
        }
    }
    outcome
}

/// The text of a caught panic.
#[must_use]
pub fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_seed_is_named_with_how_to_replay_it() {
        let check = |seed: u64| if seed == 7 { Err("seven".to_owned()) } else { Ok(seed) };
        let panic = catch_unwind(|| check_all(0..20, check)).unwrap_err();
        let text = describe(&*panic);
        assert!(text.contains("1 of 20") && text.contains("seven") && text.contains("SEEDS=7"), "{text}");
        assert!((share_caught(0..20, check) - 0.05).abs() < f64::EPSILON);
    }

    #[test]
    fn a_panic_counts_as_a_violation() {
        assert!(
            (share_caught(0..4, |seed| {
                assert!(seed % 2 == 0);
                Ok(())
            }) - 0.5)
                .abs()
                < f64::EPSILON
        );
    }
}
