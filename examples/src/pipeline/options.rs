//! What a stranger may say on the command line.

use std::path::{Path, PathBuf};

use clap::Parser;

/// Where the bundled flights lie.
const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.csv.gz");
/// The tables that go with them.
const BUNDLED_REFERENCE: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/airlines.csv"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/airports.csv"),
];

/// Real events in at one end, answers out at the other: streamed, delivered, discovered, queried, in one process.
///
/// Without options it takes a year of flights from New York. Run again on the same store, it takes up only what is new.
#[derive(Clone, Debug, Parser)]
#[command(name = "pipeline", max_term_width = 110)]
pub struct Options {
    /// A file or a folder of events: .csv, .json, .jsonl, .ndjson, each also .gz. Its files are known by their names (and folders
    /// within it), so whole rows added at their ends are taken up by the next run [default: the bundled flights]
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,

    /// Where everything is kept: a directory, or a URL of an object store such as s3://bucket/prefix (with that feature)
    /// [default: a directory of this user under the system's temporary folder]
    #[arg(long, value_name = "DIR|URL")]
    pub store: Option<String>,

    /// The table's name, which is also the stream's [default: the input's name]
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,

    /// The column whose value chooses an event's shard: events of one value stay in order
    /// [default: tailnum for the flights; the row itself for other input]
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,

    /// The columns that the delivered files are partitioned by [default: month,day for the flights; none for other input]
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub partition_by: Option<Vec<String>>,

    /// How many shards the stream gets when it is created [default: 4]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub shards: Option<u32>,

    /// Also write the figures of the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub figures: Option<PathBuf>,
}

impl Options {
    /// The path of the events.
    #[must_use]
    pub fn input(&self) -> PathBuf {
        self.input.clone().unwrap_or_else(|| as_seen_from_here(Path::new(BUNDLED)))
    }

    /// Whether the events are the bundled flights.
    #[must_use]
    pub fn is_bundled(&self) -> bool {
        self.input.is_none()
    }

    /// The files that become tables of their own beside the events.
    #[must_use]
    pub fn reference(&self) -> Vec<PathBuf> {
        if self.is_bundled() { BUNDLED_REFERENCE.map(PathBuf::from).to_vec() } else { Vec::new() }
    }

    /// The column that chooses the shard. An aircraft's flights are an order worth keeping, and 3,678 aircraft spread well: the
    /// carrier (16 values, three of them half of all flights) would leave shards idle.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref().or_else(|| self.is_bundled().then_some("tailnum"))
    }

    /// The columns to partition by.
    #[must_use]
    pub fn partition_by(&self) -> Vec<String> {
        let bundled = || if self.is_bundled() { vec!["month".to_owned(), "day".to_owned()] } else { Vec::new() };
        self.partition_by.clone().unwrap_or_else(bundled)
    }
}

/// The path without the current folder's, if it lies below.
fn as_seen_from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_owned()
}
