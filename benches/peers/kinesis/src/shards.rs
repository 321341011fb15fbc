//! What a shard costs that nothing happens in.

use std::path::Path;
use std::time::Instant;

use kinesis_core::Kinesis;

use crate::percentile::ratio;

const STREAMS: u64 = 100;
const SHARDS: u64 = 100;

pub(crate) async fn run(dir: &Path) {
    println!("shards: {} of them, idle", STREAMS * SHARDS);
    let path = dir.join("shards");
    let kinesis = Kinesis::at(&path).open().await.unwrap();
    let before = resident_kib();
    for stream in 0..STREAMS {
        kinesis.create_stream(&format!("s-{stream}"), u32::try_from(SHARDS).unwrap_or(1)).await.unwrap();
    }
    let made = resident_kib();
    println!("  {:.2} KiB of memory each", ratio(made.saturating_sub(before), STREAMS * SHARDS));
    kinesis.close().await.unwrap();
    drop(kinesis);
    let begun = Instant::now();
    let kinesis = Kinesis::at(&path).open().await.unwrap();
    println!("  opened again in {} ms", begun.elapsed().as_millis());
    kinesis.close().await.unwrap();
}

/// The process's memory that is in use, where the system tells.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
