//! What a table's stream was begun with: its columns, key and partitions. Kept by the stream itself, so that a later run, or the
//! run after a kill, reads the same rows in the same way.
//!
//! Invariant: a column's kind and the partition columns never change once the first event is in; new columns join at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinesis_core::DataStream;
use serde::{Deserialize, Serialize};

use super::options::Options;
use crate::failure::{Doing, Failure, Result};
use crate::input::{Column, FOLDER_BYTES_MAX, Kind, Noted, PARTITIONS_MAX, Survey, column_named};

/// The consumer under whose name the stream keeps the plan.
const KEPT_AS: &str = "plan";

/// How a table's events are read, keyed and partitioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The columns of the events.
    pub columns: Vec<Column>,
    /// The column that chooses the shard; the row itself if there is none.
    pub key: Option<String>,
    /// The columns that the delivered files are partitioned by.
    pub partition_by: Vec<String>,
    /// What is remembered of each file, by producer: noted before its first row goes in.
    pub noted: BTreeMap<String, Noted>,
}

impl Plan {
    /// The plan that the stream keeps, if it was begun.
    ///
    /// # Errors
    /// The stream cannot be read, or keeps something else.
    pub fn kept(stream: &DataStream) -> Result<Option<Self>> {
        let doing = || format!("cannot read the plan of stream {}", stream.name());
        let Some(state) = stream.consumer(KEPT_AS).doing(doing)?.and_then(|consumer| consumer.state) else {
            return Ok(None);
        };
        serde_json::from_slice(&state).map(Some).doing(doing)
    }

    /// Makes the stream keep this plan, durable on return.
    ///
    /// # Errors
    /// The stream cannot be written.
    pub async fn keep(&self, stream: &DataStream) -> Result<()> {
        let doing = || format!("cannot keep the plan of stream {}", stream.name());
        let state = Bytes::from(serde_json::to_vec(self).doing(doing)?);
        stream.commit(KEPT_AS, BTreeMap::new(), Some(state)).await.doing(doing)
    }

    /// The plan for this input: a new one, or the one begun with, to which new columns were added.
    ///
    /// # Errors
    /// An option names a column that does not exist, or contradicts what the table was begun with.
    pub fn settle(begun: Option<Self>, survey: &Survey, options: &Options, input: &str) -> Result<Self> {
        let plan = match begun {
            None => Self::begin(survey, options, input),
            Some(plan) => plan.go_on(survey, options, input),
        }?;
        plan.check_partitions(survey, input)?;
        Ok(plan)
    }

    fn check_partitions(&self, survey: &Survey, input: &str) -> Result<()> {
        let by = self.partition_by.join(",");
        if survey.partitions.count > PARTITIONS_MAX {
            return Err(Failure::new(format!(
                "--partition-by {by}: {input} has more than {PARTITIONS_MAX} different values there, and each would be a \
                 folder with files of its own: choose columns with fewer, such as a day or a country"
            )));
        }
        if let Some(value) = &survey.partitions.too_long {
            let shown: String = value.chars().take(40).collect();
            return Err(Failure::new(format!(
                "--partition-by {by}: the value `{shown}...` is too long for the name of a folder \
                 ({FOLDER_BYTES_MAX} bytes): choose columns with shorter values"
            )));
        }
        Ok(())
    }

    fn begin(survey: &Survey, options: &Options, input: &str) -> Result<Self> {
        let columns = survey.columns.clone();
        if columns.is_empty() {
            return Err(Failure::new(format!(
                "{input} holds no event: no row has a column. JSON is read as one object a line; write it so, for example \
                 with jq -c '.[]'"
            )));
        }
        let named = |asked: &str, option: &str| -> Result<String> {
            Ok(columns[column_named(&columns, asked, option, input)?].name.clone())
        };
        let key = options.key().map(|key| named(key, "--key")).transpose()?;
        let partition_by =
            options.partition_by().iter().map(|column| named(column, "--partition-by")).collect::<Result<Vec<_>>>()?;
        for (index, column) in partition_by.iter().enumerate() {
            if partition_by[..index].contains(column) {
                return Err(Failure::new(format!("--partition-by names column {column} twice: name it once")));
            }
        }
        if partition_by.len() == columns.len() {
            return Err(Failure::new("--partition-by names every column: leave at least one for the files"));
        }
        Ok(Self { columns, key, partition_by, noted: BTreeMap::new() })
    }

    fn go_on(mut self, survey: &Survey, options: &Options, input: &str) -> Result<Self> {
        for column in &survey.columns {
            if !self.columns.iter().any(|known| known.name == column.name) {
                self.columns.push(column.clone());
            }
        }
        let begun = |option: &str, with: &str| {
            Failure::new(format!(
                "this table was begun with {option} {with}: leave {option} out, or name another --table or --store"
            ))
        };
        if let Some(key) = &options.key {
            let asked = &self.columns[column_named(&self.columns, key, "--key", input)?].name;
            if self.key.as_ref() != Some(asked) {
                return Err(begun("--key", self.key.as_deref().unwrap_or("(none: the row itself)")));
            }
        }
        if let Some(asked) = &options.partition_by {
            let asked = asked
                .iter()
                .map(|column| {
                    Ok(self.columns[column_named(&self.columns, column, "--partition-by", input)?].name.clone())
                })
                .collect::<Result<Vec<_>>>()?;
            if self.partition_by != asked {
                let with = self.partition_by.join(",");
                return Err(begun("--partition-by", if with.is_empty() { "(none)" } else { &with }));
            }
        }
        Ok(self)
    }

    /// The index of the key column.
    #[must_use]
    pub fn key_index(&self) -> Option<usize> {
        let key = self.key.as_ref()?;
        self.columns.iter().position(|column| &column.name == key)
    }

    /// The columns that stand in the delivered files: all but those in their folders' names.
    pub fn file_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !self.partition_by.contains(&column.name))
    }

    /// The column of this name if it holds numbers.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<&Column> {
        let is_number = |kind| matches!(kind, Kind::Integer | Kind::LongInteger | Kind::Double);
        self.columns.iter().find(|column| column.name == name && is_number(column.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Partitions;
    use clap::Parser;

    fn survey(columns: &[(&str, Kind)]) -> Survey {
        let columns = columns.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect();
        Survey { columns, ..Survey::default() }
    }

    fn options(arguments: &[&str]) -> Options {
        Options::parse_from([&["pipeline", "--input", "x"], arguments].concat())
    }

    #[test]
    fn what_was_begun_stays_and_new_columns_join() {
        let first = survey(&[("id", Kind::Integer), ("city", Kind::Text)]);
        let plan = Plan::settle(None, &first, &options(&["--key", "City", "--partition-by", "city"]), "x").unwrap();
        assert_eq!((plan.key.as_deref(), plan.partition_by.as_slice()), (Some("city"), &["city".to_owned()][..]));
        assert_eq!(plan.file_columns().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id"]);

        let second = survey(&[("city", Kind::Text), ("id", Kind::Text), ("size", Kind::Double)]);
        let plan = Plan::settle(Some(plan), &second, &options(&[]), "x").unwrap();
        let kinds: Vec<_> = plan.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
        assert_eq!(kinds, [("id", Kind::Integer), ("city", Kind::Text), ("size", Kind::Double)]);

        let told = Plan::settle(Some(plan), &second, &options(&["--key", "id"]), "x").unwrap_err().to_string();
        assert!(told.starts_with("this table was begun with --key city: leave --key out"), "{told}");
    }

    #[test]
    fn columns_that_do_not_exist_or_leave_nothing_are_refused() {
        let found = survey(&[("id", Kind::Integer)]);
        let told = |arguments: &[&str]| Plan::settle(None, &found, &options(arguments), "x").unwrap_err().to_string();
        assert_eq!(told(&["--key", "idd"]), "--key idd: x has no such column; did you mean `id`? Its columns are: id");
        assert!(told(&["--partition-by", "id"]).contains("leave at least one"));
        assert!(told(&["--partition-by", "id,id"]).contains("twice"));
        let empty = Plan::settle(None, &survey(&[]), &options(&[]), "x.json").unwrap_err().to_string();
        assert!(empty.starts_with("x.json holds no event") && empty.contains("jq -c"), "{empty}");
    }

    #[test]
    fn what_no_folder_can_hold_is_refused_before_the_first_row() {
        let mut found = survey(&[("id", Kind::Integer), ("city", Kind::Text)]);
        let told = |found: &Survey| {
            Plan::settle(None, found, &options(&["--partition-by", "city"]), "x").unwrap_err().to_string()
        };
        found.partitions.count = PARTITIONS_MAX + 1;
        assert!(told(&found).contains("more than 5000 different values"), "{}", told(&found));
        found.partitions = Partitions { count: 1, too_long: Some("y".repeat(500)) };
        assert!(told(&found).contains("too long for the name of a folder"), "{}", told(&found));
    }
}
