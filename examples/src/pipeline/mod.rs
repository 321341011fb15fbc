//! The pipeline example's steps: a stranger's events through all crates.
//!
//! | file | step |
//! |---|---|
//! | `options`, `plan` | what was asked for, and what the table was begun with |
//! | `ingest`, `record` | rows into the stream, each once |
//! | `deliver` | the stream into partitioned Parquet files |
//! | `messages`, `alerts` | announcements and alerts as durable messages |
//! | `crawl`, `reference` | files into tables |
//! | `questions`, `answer` | tables into answers |
//! | `replay` | the stream counted again |
//! | `run`, `progress`, `report` | all of it, shown while it works and told at the end |
//!
//! Invariant: a step knows the step before it by what is stored, never by what this process remembers.

pub mod alerts;
pub mod answer;
pub mod crawl;
pub mod deliver;
pub mod ingest;
pub mod messages;
pub mod options;
pub mod plan;
pub mod progress;
pub mod questions;
pub mod record;
pub mod reference;
pub mod replay;
pub mod report;
pub mod run;

pub use answer::Answer;
pub use options::Options;
pub use report::{FlightFigures, Report};
pub use run::run;
