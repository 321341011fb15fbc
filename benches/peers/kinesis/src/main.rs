//! Streams of kinesis-core beside what they are held against, in one run on one machine: a bare disk, a bare group commit,
//! and other servers that speak Kinesis.
//!
//! In this folder: `cargo run --release -- all`, or one of `latency`, `ingest`, `replay`, `shards`, `stalled`, `firehose`, `http`, `soak`. For
//! `http` a peer is any server that is running: `--peer ferrokinesis=http://127.0.0.1:4570`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measuring program tells and stops"
)]

mod bare;
mod client;
mod firehose;
mod freshness;
mod http;
mod ingest;
mod latency;
mod pace;
mod percentile;
mod replay;
mod shards;
mod soak;
mod stalled;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// How many write at once, unless told otherwise.
const WRITERS: [usize; 3] = [1, 16, 1024];
/// The tail that is sealed while they do, unless told otherwise.
const TAIL_MIB: usize = 64;

/// Figures of streams, beside what they are held against.
#[derive(Debug, Parser)]
#[command(max_term_width = 110)]
struct Options {
    /// A folder on the disk to measure on [default: the system's temporary folder]
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
    /// Seconds of each measurement
    #[arg(long, global = true, default_value_t = 5)]
    secs: u64,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// From put to a waiting reader, at 10,000 records of 1 KiB a second
    Latency,
    /// Durable records a second
    Ingest {
        /// How many write at once
        #[arg(long, value_delimiter = ',', default_values_t = WRITERS)]
        writers: Vec<usize>,
        /// MiB of the tail; also measured with one so large that nothing is sealed meanwhile
        #[arg(long, default_value_t = TAIL_MIB)]
        tail_mib: usize,
    },
    /// Reading history again
    Replay {
        /// MiB of history
        #[arg(long, default_value_t = 2048)]
        mib: u64,
    },
    /// Memory of 10,000 idle shards
    Shards,
    /// What one consumer that stands still costs nine others
    Stalled,
    /// JSON to Parquet by partitions, beside DuckDB and pyarrow; the age of records that are delivered each second
    Firehose,
    /// Over HTTP, beside other servers
    Http {
        /// NAME=URL of a server that is running
        #[arg(long = "peer")]
        peers: Vec<String>,
    },
    /// Memory over 10 minutes of puts, reads and retention
    Soak {
        /// How long
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// Batches of 500 records in the life of a stream: few make many streams
        #[arg(long, default_value_t = 400)]
        batches: u64,
    },
    /// All but the soak
    All,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let dir = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let (dir, secs) = (dir.path(), options.secs);
    match options.what {
        What::Latency => latency::run(dir, secs).await,
        What::Ingest { writers, tail_mib } => ingest::run(dir, secs, &writers, tail_mib).await,
        What::Replay { mib } => replay::run(dir, mib).await,
        What::Shards => shards::run(dir).await,
        What::Stalled => stalled::run(dir, secs).await,
        What::Firehose => {
            firehose::run(dir).await;
            freshness::run(dir, secs).await;
        }
        What::Http { peers } => http::run(dir, secs, &peers).await,
        What::Soak { minutes, batches } => soak::run(dir, minutes, batches).await,
        What::All => {
            latency::run(dir, secs).await;
            ingest::run(dir, secs, &WRITERS, TAIL_MIB).await;
            replay::run(dir, 2048).await;
            shards::run(dir).await;
            stalled::run(dir, secs).await;
            firehose::run(dir).await;
            freshness::run(dir, secs).await;
            http::run(dir, secs, &[]).await;
        }
    }
}
