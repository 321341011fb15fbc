//! Killed at any moment and run again, the pipeline ends as if it had never been killed: no acknowledged event is missing, none
//! is there twice, in the stream, in the delivered files or among the alerts.
//!
//! Each of the moments has a store of its own, so that kills meet every step and not only the first. What is checked is read
//! without the pipeline: the Parquet files by the parquet crate, the stream by kinesis-core.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use durable_core::{Clock, DurableLocal, SystemClock};
use kinesis_core::{IteratorType, Kinesis};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::pipeline_run::{Run, count, program, run_well};

/// Rows of the input, in two files; every 40th is malformed, every 25th of the rest is an alert.
const ROWS: u64 = 12_000;
const MOMENTS: u64 = 20;

/// `id,day,dep_delay`: ids from 0, ten days in turn.
fn write_input(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, ids) in [("a.csv", 0..ROWS / 2), ("b.csv", ROWS / 2..ROWS)] {
        let mut text = String::from("id,day,dep_delay\n");
        for id in ids {
            let delay = if id % 25 == 1 { 200 } else { id % 90 };
            if id % 40 == 0 {
                writeln!(text, "{id},too,many,fields")
            } else {
                writeln!(text, "{id},{},{delay}", id % 10)
            }
            .unwrap();
        }
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn well_formed() -> impl Iterator<Item = u64> {
    (0..ROWS).filter(|id| id % 40 != 0)
}

fn arguments(input: &Path) -> Vec<String> {
    ["--input", input.to_str().unwrap(), "--table", "events", "--partition-by", "day", "--key", "id"]
        .map(str::to_owned)
        .to_vec()
}

/// What a killed run had said.
struct Killed {
    /// Rows that were acknowledged as durable.
    acknowledged: u64,
    /// The stage of its last line, if it was still at work.
    at_work_after: Option<String>,
}

/// How long a whole run takes, as far as is known, and the stages at which kills met one.
struct Moments {
    whole: Duration,
    met: BTreeMap<String, u64>,
}

impl Moments {
    /// Kills one to three runs in a row on a new store, the last of them at work.
    fn kill(&mut self, dir: &Path, input: &Path, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut kills = 0;
        std::fs::create_dir(dir).unwrap();
        while kills <= seed % 3 {
            // The first part of the whole is the start of the process.
            let moment = self.whole.mul_f64(random.random_range(0.2..1.0));
            let killed = run_and_kill(dir, input, moment);
            let kept = u64::try_from(streamed(dir).len()).unwrap();
            let acknowledged = killed.acknowledged;
            assert!(
                kept >= acknowledged,
                "SEEDS={seed}: {acknowledged} rows were acknowledged, {kept} are in the stream"
            );
            match killed.at_work_after {
                Some(stage) => *self.met.entry(stage).or_default() += 1,
                // It was faster than what was measured: the moment was none, and the store is of no more use.
                None => {
                    self.whole = self.whole.mul_f64(0.9);
                    std::fs::remove_dir_all(dir).unwrap();
                    std::fs::create_dir(dir).unwrap();
                    kills = 0;
                    continue;
                }
            }
            kills += 1;
        }
    }
}

/// Runs until the moment and kills.
fn run_and_kill(dir: &Path, input: &Path, after: Duration) -> Killed {
    let mut child = Command::new(program())
        .args(["--store", dir.join("store").to_str().unwrap()])
        .args(arguments(input))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).collect::<Vec<_>>());
    let clock = SystemClock::new();
    futures_wait(async { clock.sleep(after).await });
    let at_work = child.try_wait().unwrap().is_none();
    // SIGKILL on Unix: nothing of the process runs after it.
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    let acknowledged = lines
        .iter()
        .filter_map(|line| line.strip_prefix("ingest").and_then(|rest| rest.split_once(" of ")))
        .map(|(done, _)| done.trim().replace(',', "").parse::<u64>().unwrap());
    let stage = lines.last().map_or("start", |line| line.split_whitespace().next().unwrap_or("report"));
    Killed { acknowledged: acknowledged.max().unwrap_or(0), at_work_after: at_work.then(|| stage.to_owned()) }
}

/// Waits on a runtime of its own.
fn futures_wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How often each id is in the delivered files.
fn delivered(dir: &Path) -> BTreeMap<u64, u64> {
    let mut ids = BTreeMap::new();
    for file in files(&dir.join("store/store/delivered/events")) {
        for batch in
            ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap().build().unwrap()
        {
            let batch = batch.unwrap();
            let column = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
            for id in column.values() {
                *ids.entry(u64::try_from(*id).unwrap()).or_default() += 1;
            }
        }
    }
    ids
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// How often each id is in the stream.
fn streamed(dir: &Path) -> BTreeMap<u64, u64> {
    futures_wait(async {
        let store = Arc::new(DurableLocal::new(dir.join("store/store")).unwrap());
        let kinesis =
            Kinesis::on(store, "streams").journal_dir(dir.join("store/journal/streams")).open().await.unwrap();
        let mut ids = BTreeMap::new();
        // A run that was killed early may have left no stream.
        let stream = kinesis.stream("events").ok();
        for shard in stream.iter().flat_map(|stream| stream.list_shards().unwrap()) {
            let stream = stream.as_ref().unwrap();
            let mut next = Some(stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await.unwrap());
            while let Some(from) = next {
                let read = stream.get_records(&from, 10_000).await.unwrap();
                for record in &read.records {
                    *ids.entry(id_of(&record.data)).or_default() += 1;
                }
                next = read.next_iterator.filter(|_| !read.records.is_empty());
            }
        }
        kinesis.close().await.unwrap();
        ids
    })
}

/// The id of an event, or of the malformed row that begins with it.
fn id_of(record: &[u8]) -> u64 {
    let record: Value = serde_json::from_slice(record).unwrap();
    record["id"]
        .as_u64()
        .unwrap_or_else(|| record[1]["row"].as_str().unwrap().split(',').next().unwrap().parse().unwrap())
}

/// What must hold once a run came to its end; the reason if it does not.
fn check(dir: &Path, run: &Run) -> Result<(), String> {
    let once = |ids: &mut dyn Iterator<Item = u64>| -> BTreeMap<u64, u64> { ids.map(|id| (id, 1)).collect() };
    let differ = |what: &str, found: &BTreeMap<u64, u64>, expected: &BTreeMap<u64, u64>| {
        let missing = expected.keys().filter(|id| !found.contains_key(id)).count();
        let doubled = found.values().filter(|&&times| times > 1).count();
        format!("{what}: {missing} missing, {doubled} doubled of {}", expected.len())
    };
    let (in_stream, in_files) = (streamed(dir), delivered(dir));
    let (all, good) = (once(&mut (0..ROWS)), once(&mut well_formed()));
    if in_stream != all {
        return Err(differ("stream", &in_stream, &all));
    }
    if in_files != good {
        return Err(differ("files", &in_files, &good));
    }
    let events = u64::try_from(good.len()).unwrap();
    let alerts = well_formed().filter(|id| id % 25 == 1).count();
    let expected = json!([ROWS, events, events, ROWS - events, 10, alerts]);
    let names = ["rows", "delivered_rows", "replayed_events", "rejected", "partitions", "alerts"];
    let found = Value::from_iter(names.map(|name| run.figures[name].clone()));
    if found == expected { Ok(()) } else { Err(format!("{names:?} are {found} instead of {expected}")) }
}

fn run_to_the_end(dir: &Path, input: &Path) -> Run {
    let arguments = arguments(input);
    run_well(dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn killed_at_twenty_moments_nothing_is_missing_or_doubled() {
    let home = tempfile::tempdir().unwrap();
    let input = home.path().join("input");
    write_input(&input);

    // A run that nobody disturbs says how long one takes, so that the moments are spread over all of it.
    let clock = SystemClock::new();
    let begun = clock.monotonic();
    let undisturbed = home.path().join("undisturbed");
    std::fs::create_dir(&undisturbed).unwrap();
    let run = run_to_the_end(&undisturbed, &input);
    check(&undisturbed, &run).unwrap();
    let whole = clock.monotonic() - begun;

    let mut moments = Moments { whole, met: BTreeMap::new() };
    let mut recovered = 0;
    for seed in testkit::seeds::seeds(0..MOMENTS) {
        let dir = home.path().join(format!("moment-{seed}"));
        moments.kill(&dir, &input, seed);
        let run = run_to_the_end(&dir, &input);
        check(&dir, &run).unwrap_or_else(|broken| panic!("SEEDS={seed}: {broken}\n{}", run.stdout));
        recovered += u64::from(count(&run.figures, "recovered") + count(&run.figures, "found") > 0);
    }
    // A harness that never met the pipeline at work, or always at the same step, would prove nothing.
    let met = moments.met;
    assert!(met.len() > 1, "kills met only {met:?}");
    assert!(recovered > 0, "no run had anything to recover");
    println!("kills met a run at work after: {met:?}; {recovered} runs had something to recover");
}

#[test]
fn a_run_without_its_memory_is_caught() {
    let home = tempfile::tempdir().unwrap();
    let input = home.path().join("input");
    write_input(&input);
    run_to_the_end(home.path(), &input);

    // Sabotage 1: the same events in files of other names are new to the stream's producers, as if it had forgotten them.
    for file in files(&input) {
        std::fs::rename(&file, file.with_extension("other.csv")).unwrap();
    }
    let run = run_to_the_end(home.path(), &input);
    let broken = check(home.path(), &run).unwrap_err();
    assert_eq!(broken, format!("stream: 0 missing, {ROWS} doubled of {ROWS}"));

    // Sabotage 2: a delivered file is gone, as if it had been acknowledged before it was durable.
    let other = tempfile::tempdir().unwrap();
    let run = run_to_the_end(other.path(), &input);
    std::fs::remove_file(&files(&other.path().join("store/store/delivered/events"))[0]).unwrap();
    let broken = check(other.path(), &run).unwrap_err();
    assert!(broken.starts_with("files: ") && !broken.contains(" 0 missing"), "{broken}");
}
