//! What a run did, for a stranger to read, and the same as figures for a test to compare.
//!
//! Invariant: every figure is of this run or of the store as it is now; which of the two, its name or its sentence says.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;

use super::alerts::ALERT_MINUTES;
use super::answer::Answer;
use super::deliver::{DELIVERED, ERRORS};
use super::progress::{counted, grouped};
use crate::table_text;

/// The rows of an answer that are shown.
const ROWS_SHOWN: usize = 5;

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where everything is kept, as it was named.
    pub store: String,
    /// Whether that is a directory.
    #[serde(skip)]
    pub is_directory: bool,
    /// The input, as it was named.
    pub input: String,
    /// The table's name.
    pub table: String,
    /// The columns that the files are partitioned by.
    pub partition_by: Vec<String>,
    /// Rows of the input, malformed ones too.
    pub rows: u64,
    /// Of these, rows that the stream had before this run.
    pub found: u64,
    /// Of these, rows that this run put.
    pub stored: u64,
    /// Rows that an earlier run put and this one delivered.
    pub recovered: u64,
    /// Malformed rows in the stream: all of them are under the error prefix.
    pub rejected: u64,
    /// Events in the stream, counted by reading it again.
    pub replayed_events: u64,
    /// Records of each shard.
    pub by_shard: BTreeMap<String, u64>,
    /// Rows of the table, counted by SQL.
    pub delivered_rows: u64,
    /// Files of the table.
    pub objects: u64,
    /// Partitions in the catalog.
    pub partitions: u64,
    /// The table's version in the catalog; none if nothing was delivered.
    pub table_version: Option<u64>,
    /// Whether a second crawl found anything to commit.
    pub second_crawl_committed: bool,
    /// Alerts tallied, over all runs; none if the events have no such column.
    pub alerts: Option<u64>,
    /// The questions and their answers.
    pub questions: Vec<Answer>,
    /// What the tests compare of the bundled flights.
    #[serde(flatten)]
    pub flights: Option<FlightFigures>,
}

/// Figures of the bundled flights, taken from the answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlightFigures {
    /// Flights of each month.
    pub rows_by_month: BTreeMap<String, u64>,
    /// Flights of one day.
    pub flights_on_4_july: u64,
    /// Flights of each airline, by its name.
    pub flights_by_airline: BTreeMap<String, u64>,
    /// Minutes, over all flights.
    pub sum_dep_delay: i64,
    /// Miles, over all flights.
    pub sum_distance: i64,
}

impl FlightFigures {
    /// From the answers to [`about_flights`](super::questions::about_flights); `None` if they are not of that form.
    #[must_use]
    pub fn of(answers: &[Answer]) -> Option<Self> {
        let [day, airlines, months, ..] = answers else { return None };
        let cell = |row: &athena_core::Row, column: usize| row.get(column).cloned().flatten();
        let whole = |row: &athena_core::Row, column: usize| cell(row, column)?.parse::<i64>().ok();
        let counts = |answer: &Answer| {
            answer
                .rows
                .iter()
                .map(|row| Some((cell(row, 0)?, cell(row, 1)?.parse().ok()?)))
                .collect::<Option<BTreeMap<_, _>>>()
        };
        let sum = |column: usize| months.rows.iter().map(|row| whole(row, column)).sum::<Option<i64>>();
        Some(Self {
            rows_by_month: counts(months)?,
            flights_on_4_july: cell(day.rows.first()?, 0)?.parse().ok()?,
            flights_by_airline: counts(airlines)?,
            sum_dep_delay: sum(2)?,
            sum_distance: sum(3)?,
        })
    }
}

impl Report {
    fn write_rows(&self, out: &mut String) -> fmt::Result {
        let rows = counted(self.rows, "row");
        let new = if self.stored == 0 { "nothing new".to_owned() } else { format!("{} new", grouped(self.stored)) };
        writeln!(out, "rows in     {rows} of {}: {} found in the stream, {new}", self.input, grouped(self.found))?;
        let shards: Vec<String> = self.by_shard.values().map(|&count| grouped(count)).collect();
        writeln!(
            out,
            "stream      `{}`, {}: {} records",
            self.table,
            counted(shards.len() as u64, "shard"),
            shards.join(" + ")
        )?;
        writeln!(out, "recovered   {} that an earlier run had put and not delivered", counted(self.recovered, "row"))?;
        let aside = if self.rejected == 0 {
            String::new()
        } else {
            format!(", with their reasons under {ERRORS}/{}/", self.table)
        };
        writeln!(out, "rejected    {}{aside}", counted(self.rejected, "malformed row"))?;
        let by = if self.partition_by.is_empty() {
            "not partitioned".to_owned()
        } else {
            format!("{} by {}", counted(self.partitions, "partition"), self.partition_by.join(", "))
        };
        writeln!(
            out,
            "delivered   {} in {} under {DELIVERED}/{}/, {by}",
            counted(self.delivered_rows, "row"),
            counted(self.objects, "Parquet file"),
            self.table
        )?;
        match self.alerts {
            Some(alerts) => writeln!(
                out,
                "alerts      {} of more than {ALERT_MINUTES} minutes, each tallied once",
                counted(alerts, "departure")
            ),
            None => {
                writeln!(out, "alerts      no alerts: the events have no numeric column `{}`", super::alerts::WATCHED)
            }
        }?;
        let second = if self.second_crawl_committed { "committed again" } else { "committed nothing" };
        match self.table_version {
            Some(version) => {
                writeln!(out, "table       `{}` in the catalog, version {version}; a second crawl {second}", self.table)
            }
            None => writeln!(out, "table       none: no event was delivered"),
        }
    }

    fn write_answers(&self, out: &mut String) -> fmt::Result {
        for (index, answer) in self.questions.iter().enumerate() {
            let (columns, statistics) = &answer.shown;
            writeln!(out, "\n{}. {}\n   {}", index + 1, answer.words, answer.sql)?;
            let rows = &answer.rows[..answer.rows.len().min(ROWS_SHOWN)];
            for line in table_text::table(columns, rows).lines() {
                writeln!(out, "      {line}")?;
            }
            writeln!(out, "   {}", table_text::cost(statistics))?;
        }
        Ok(())
    }

    fn write_end(&self, out: &mut String) -> fmt::Result {
        let (events, rows) = (counted(self.replayed_events, "event"), counted(self.delivered_rows, "row"));
        let by = if self.flights.is_some() { ", month by month" } else { "" };
        writeln!(out, "\nreplay      {events} read again from the stream, {rows} by SQL: the counts agree{by}")?;
        if self.store == "memory:" {
            return writeln!(out, "files       none: the store was this process's memory");
        }
        if self.is_directory {
            writeln!(out, "files       {0}/store (objects), {0}/journal (journals)", self.store)?;
        } else {
            writeln!(out, "files       {}", self.store)?;
        }
        if self.table_version.is_none() {
            return Ok(());
        }
        let (features, sql) = (features(&self.store), format!("select * from {} limit 5", self.table));
        writeln!(
            out,
            "\nAsk it yourself, now or later:\n  cargo run{features} --example query -- --store {} \"{sql}\"",
            shell(&self.store)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write_rows(&mut out)?;
        self.write_answers(&mut out)?;
        self.write_end(&mut out)?;
        f.write_str(&out)
    }
}

/// What cargo needs to be told so that the program opens this store.
fn features(store: &str) -> String {
    let feature = store.split_once("://").and_then(|(scheme, _)| crate::store::feature_of(scheme));
    feature.map_or_else(String::new, |feature| format!(" -p examples --features {feature}"))
}

/// A word as a shell takes it.
fn shell(word: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || "/._-:@%+=,~".contains(character);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_store_is_named_as_a_shell_takes_it() {
        assert_eq!(super::shell("/tmp/a-b"), "/tmp/a-b");
        assert_eq!(super::shell("/tmp/it's here"), r"'/tmp/it'\''s here'");
        assert_eq!(super::features("s3://bucket/x"), " -p examples --features s3");
        assert_eq!(super::features("/tmp/x") + &super::features("file:///x"), "");
    }
}
