//! JSON to Parquet by partitions, beside DuckDB and pyarrow at the same job.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kinesis_core::Kinesis;
use kinesis_core::firehose::{
    DeliverySettings, DeliveryStream, OutputFormat, PUT_RECORD_BATCH_MAX, ParquetCompression, ParquetFormat,
    PartitionColumns,
};
use object_store::local::LocalFileSystem;

use crate::percentile::ratio;

/// How often the year of flights is taken.
const YEARS: usize = 10;
const PARTITIONS: usize = 8;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/firehose.py");
const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/data/flights.csv.gz");

/// Time that a job took: on the clock, and on all cores together.
#[derive(Clone, Copy, Debug)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

pub(crate) async fn run(dir: &Path) {
    let lines = flights();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    println!(
        "firehose: {} flights, {} MB of JSON, to zstd Parquet in {PARTITIONS} partitions",
        lines.len(),
        bytes / 1_000_000
    );
    let input = dir.join("flights.json");
    std::fs::write(&input, lines.join(&b'\n')).unwrap();
    let mut ours: Option<Took> = None;
    let mut peers: Vec<(&str, Option<Took>)> = vec![("duckdb", None), ("pyarrow", None)];
    // In turn, the best of three each.
    for _ in 0..3 {
        let took = deliver(&dir.join("ours"), &lines).await;
        ours = Some(best(ours, took));
        for (name, before) in &mut peers {
            if let Some(took) = peer(name, &input, &dir.join(name)) {
                *before = Some(best(*before, took));
            }
        }
    }
    let Some(ours) = ours else { return };
    let show = |name: &str, took: Took| {
        let per_second = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
        println!(
            "  {name}: {:.0} MB/s on the clock, {:.0} MB/s of a core",
            per_second(took.wall),
            per_second(took.cpu)
        );
    };
    show("ours, put to delivered", ours);
    for (name, took) in peers {
        let Some(took) = took else {
            println!("  {name}: python3 has it not");
            continue;
        };
        show(name, took);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let cpu = ratio(micros(took.cpu), micros(ours.cpu));
        println!("    ours is {:.2} x of a core's", cpu);
    }
}

fn best(before: Option<Took>, took: Took) -> Took {
    before.filter(|before| before.cpu <= took.cpu).unwrap_or(took)
}

/// Flights as lines of JSON, each in one of the partitions.
fn flights() -> Vec<Bytes> {
    let file = BufReader::new(flate2::read::MultiGzDecoder::new(std::fs::File::open(FLIGHTS).unwrap()));
    let mut rows = file.lines().map(Result::unwrap);
    let header = rows.next().unwrap();
    let names: Vec<&str> = header.split(',').collect();
    let mut lines = Vec::new();
    for (number, row) in rows.enumerate() {
        let mut object = serde_json::Map::new();
        object.insert("part".to_owned(), (number % PARTITIONS).into());
        for (name, value) in names.iter().zip(row.split(',')) {
            let value = match value.parse::<i64>() {
                Ok(number) => number.into(),
                Err(_) if value.is_empty() || value == "NA" => continue,
                Err(_) => value.into(),
            };
            object.insert((*name).to_owned(), value);
        }
        lines.push(Bytes::from(serde_json::to_vec(&object).unwrap()));
    }
    (0..YEARS).flat_map(|_| lines.clone()).collect()
}

async fn deliver(dir: &Path, lines: &[Bytes]) -> Took {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    let kinesis = Kinesis::memory().open().await.unwrap();
    let format =
        ParquetFormat::new().with_compression(ParquetCompression::Zstd).with_partition_columns(PartitionColumns::Omit);
    let settings = DeliverySettings::new()
        .with_buffer_bytes(16 << 20)
        .with_partition_by(["part"])
        .with_prefix("part=!{partitionKeyFromQuery:part}/")
        .with_error_output_prefix("errors/!{firehose:error-output-type}/")
        .with_format(OutputFormat::Parquet(format));
    let store = Arc::new(LocalFileSystem::new_with_prefix(dir).unwrap());
    let delivery =
        DeliveryStream::direct("bench", kinesis.clone(), store).with_settings(settings).open().await.unwrap();
    let (begun, cpu) = (Instant::now(), cpu_time());
    for batch in lines.chunks(PUT_RECORD_BATCH_MAX) {
        delivery.put_record_batch(batch.to_vec()).await.unwrap();
    }
    delivery.flush().await.unwrap();
    let took = Took { wall: begun.elapsed(), cpu: cpu_time().saturating_sub(cpu) };
    let metrics = delivery.metrics();
    assert_eq!((metrics.delivered_rows, metrics.rejected_records), (lines.len() as u64, 0));
    delivery.close().await.unwrap();
    kinesis.close().await.unwrap();
    took
}

/// The job in Python; none if it does not have the library.
fn peer(name: &str, input: &Path, dir: &Path) -> Option<Took> {
    let _ = std::fs::remove_dir_all(dir);
    let output = Command::new("python3").arg(SCRIPT).arg(name).arg(input).arg(dir).output().ok()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut seconds =
        told.split_whitespace().map(|seconds| Duration::try_from_secs_f64(seconds.parse().unwrap()).unwrap());
    Some(Took { wall: seconds.next()?, cpu: seconds.next()? })
}

/// What this process has used of all cores.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // Linux gives them in hundredths of a second.
    Duration::from_millis(ticks * 10)
}
