//! One pass over the whole input before the first event is sent: which columns there are, what each holds, how many rows.
//!
//! Invariant: what a column holds does not depend on the order of the files or rows.

use std::collections::{HashMap, HashSet};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use table_core::partition_path;

use super::file::InputFile;
use super::kind::{Cell, Kind};
use super::record::{Cells, Record, RecordReader};
use super::row::Column;
use crate::failure::{Failure, Result};

/// The most columns an input may have.
pub const COLUMNS_MAX: usize = 1_000;

/// What the pass over the input found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// The columns of all files, in the order of their first appearance.
    pub columns: Vec<Column>,
    /// What each file holds, in the input's order.
    pub files: Vec<FileSurvey>,
    /// What the columns to partition by hold.
    pub partitions: Partitions,
}

/// What the columns to partition by hold, all together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    /// How many combinations of values there are, or one more than [`PARTITIONS_MAX`].
    pub count: usize,
    /// The longest value, as it stands in a folder's name, if it is longer than [`FOLDER_BYTES_MAX`].
    pub too_long: Option<String>,
}

/// The most combinations of values that an input may be partitioned by: each is a folder, and a file of its own.
pub const PARTITIONS_MAX: usize = 5_000;

/// The longest name of a folder, in bytes: file systems take 255, and the column's name stands there too.
pub const FOLDER_BYTES_MAX: usize = 120;

/// What one file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSurvey {
    /// Its rows, malformed ones too.
    pub rows: u64,
    /// Its rows that cannot be read.
    pub malformed: u64,
    /// A checksum of its columns and all its rows, in hexadecimal.
    pub checksum: String,
    /// The same over as many rows as were noted before, if it has as many.
    pub checksum_of_noted: Option<String>,
}

/// What is remembered of a file from before its rows go into the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// How many rows it had.
    pub rows: u64,
    /// The checksum of those.
    pub checksum: String,
}

impl Survey {
    /// Reads all files once. `noted` gives what is remembered of a file, `partition_by` names the columns to partition by as
    /// they were asked for, and `on_rows` hears of rows as they are read.
    ///
    /// # Errors
    /// A file cannot be read, a header is wrong, or there are more than [`COLUMNS_MAX`] columns.
    pub fn of(
        files: &[InputFile],
        noted: impl Fn(&InputFile) -> Option<Noted>,
        partition_by: &[String],
        mut on_rows: impl FnMut(u64),
    ) -> Result<Self> {
        let partition_by = partition_by.iter().map(|name| super::record::plain_name(name)).collect();
        let mut columns = Columns { partition_by, ..Columns::default() };
        let mut surveyed = Vec::with_capacity(files.len());
        for file in files {
            surveyed.push(survey_file(file, noted(file), &mut columns, &mut on_rows)?);
        }
        let partitions = Partitions { count: columns.combinations.len(), too_long: columns.too_long.take() };
        Ok(Self { columns: columns.finish(), files: surveyed, partitions })
    }

    /// All rows of all files.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }
}

/// How many rows pass between two reports of progress.
const REPORTED_ROWS: u64 = 1_000;

fn survey_file(
    file: &InputFile,
    noted: Option<Noted>,
    columns: &mut Columns,
    on_rows: &mut impl FnMut(u64),
) -> Result<FileSurvey> {
    let mut reader = RecordReader::open(file)?;
    let mut sum = Md5::new();
    for name in reader.header() {
        columns.find_or_add(name, file, 1)?;
        sum.update(name);
        sum.update(b",");
    }
    let (mut rows, mut malformed, mut checksum_of_noted) = (0, 0, None);
    let noted_rows = noted.map(|noted| noted.rows);
    while let Some(Record { line, cells, .. }) = reader.next_record()? {
        add(&mut sum, &cells);
        match cells {
            Ok(cells) => columns.learn(&cells, file, line)?,
            Err(_) => malformed += 1,
        }
        rows += 1;
        if noted_rows == Some(rows) {
            checksum_of_noted = Some(hexadecimal(&sum));
        }
        if rows.is_multiple_of(REPORTED_ROWS) {
            on_rows(REPORTED_ROWS);
        }
    }
    on_rows(rows % REPORTED_ROWS);
    let checksum = hexadecimal(&sum);
    Ok(FileSurvey { rows, malformed, checksum, checksum_of_noted })
}

fn add(sum: &mut Md5, cells: &Cells) {
    sum.update(b"\n");
    match cells {
        Err(unreadable) => sum.update(&unreadable.shown),
        Ok(cells) => {
            for (name, cell) in cells {
                match cell {
                    Cell::Null => sum.update(b"\0"),
                    Cell::Written(text) => sum.update(text),
                    Cell::Typed(value) => {
                        sum.update(name);
                        sum.update(value.to_string());
                    }
                }
                sum.update(b",");
            }
        }
    }
}

fn hexadecimal(sum: &Md5) -> String {
    sum.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The columns found so far; the kind is `None` while only nulls were seen.
#[derive(Default)]
struct Columns {
    found: Vec<(String, Option<Kind>)>,
    by_name: HashMap<String, usize>,
    partition_by: Vec<String>,
    combinations: HashSet<Vec<String>>,
    too_long: Option<String>,
}

impl Columns {
    fn find_or_add(&mut self, name: &str, file: &InputFile, line: u64) -> Result<usize> {
        if let Some(&index) = self.by_name.get(name) {
            return Ok(index);
        }
        if self.found.len() == COLUMNS_MAX {
            let file = file.name();
            return Err(Failure::new(format!(
                "{file}, line {line}: column `{name}` is one more than the {COLUMNS_MAX} columns an input may have"
            )));
        }
        self.found.push((name.to_owned(), None));
        self.by_name.insert(name.to_owned(), self.found.len() - 1);
        Ok(self.found.len() - 1)
    }

    fn learn(&mut self, cells: &[(String, Cell)], file: &InputFile, line: u64) -> Result<()> {
        for (position, (name, cell)) in cells.iter().enumerate() {
            let index = match self.found.get(position) {
                Some((known, _)) if known == name => position,
                _ => self.find_or_add(name, file, line)?,
            };
            let kind = &mut self.found[index].1;
            if *kind != Some(Kind::Text) {
                *kind = match (*kind, Kind::of(cell)) {
                    (Some(known), Some(new)) => Some(known.join(new)),
                    (known, new) => known.or(new),
                };
            }
        }
        self.learn_partition(cells);
        Ok(())
    }

    /// Remembers the values to partition by, until there are too many.
    fn learn_partition(&mut self, cells: &[(String, Cell)]) {
        if self.partition_by.is_empty() || self.combinations.len() > PARTITIONS_MAX {
            return;
        }
        let value = |name: &String| match cells.iter().find(|(known, _)| known == name) {
            None | Some((_, Cell::Null)) => String::new(),
            Some((_, Cell::Written(text))) => text.clone(),
            Some((_, Cell::Typed(Value::String(text)))) => text.clone(),
            Some((_, Cell::Typed(value))) => value.to_string(),
        };
        let values: Vec<String> = self.partition_by.iter().map(value).collect();
        let folder_bytes = |value: &String| partition_path::encode([("", Some(value.as_str()))]).len();
        if let Some(long) = values.iter().find(|value| folder_bytes(value) > FOLDER_BYTES_MAX) {
            self.too_long.get_or_insert_with(|| long.clone());
        }
        self.combinations.insert(values);
    }

    /// A column without a value anywhere is text.
    fn finish(self) -> Vec<Column> {
        self.found.into_iter().map(|(name, kind)| Column { name, kind: kind.unwrap_or(Kind::Text) }).collect()
    }
}

/// The index of the column that `asked` names (an option's value, as `--key`), in any case.
///
/// # Errors
/// There is no such column: the failure names the input, the nearest name and all columns there are.
pub fn column_named(columns: &[Column], asked: &str, option: &str, input: &str) -> Result<usize> {
    let wanted = super::record::plain_name(asked);
    if let Some(index) = columns.iter().position(|column| column.name == wanted) {
        return Ok(index);
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let near = nearest(&wanted, &names).map_or_else(|| ".".to_owned(), |name| format!("; did you mean `{name}`?"));
    let listed = names.join(", ");
    Err(Failure::new(format!("{option} {asked}: {input} has no such column{near} Its columns are: {listed}")))
}

/// The name that is fewest edits away, if it is near enough to be a slip.
fn nearest<'a>(wanted: &str, names: &[&'a str]) -> Option<&'a str> {
    let (distance, name) = names.iter().map(|name| (edits(wanted, name), *name)).min()?;
    (distance <= 1 + wanted.chars().count() / 3).then_some(name)
}

/// Levenshtein's distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, &to) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn survey(files: &[(&str, &str)], noted: Option<&Noted>) -> Result<Survey> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Survey::of(&super::super::find(folder.path()).unwrap(), |_| noted.cloned(), &["City".to_owned()], |_| ())
    }

    #[test]
    fn one_column_has_one_kind_in_all_files() {
        let found = survey(
            &[("a.csv", "id,Delay Min\n1,5\n2,NA\n"), ("b.jsonl", "{\"id\":\"x\",\"delay_min\":2.5,\"new\":null}\n")],
            None,
        );
        let columns: Vec<_> = found.unwrap().columns.into_iter().map(|column| (column.name, column.kind)).collect();
        let expected = [("id", Kind::Text), ("delay_min", Kind::Double), ("new", Kind::Text)];
        assert_eq!(columns, expected.map(|(name, kind)| (name.to_owned(), kind)));
    }

    #[test]
    fn rows_added_at_the_end_keep_what_was_noted() {
        let before = survey(&[("a.csv", "id\n1\n2\n")], None).unwrap().files[0].clone();
        let noted = Some(Noted { rows: before.rows, checksum: before.checksum.clone() });
        let grown = survey(&[("a.csv", "id\n1\n2\n3\n")], noted.as_ref()).unwrap().files[0].clone();
        assert_eq!(grown.checksum_of_noted, Some(before.checksum.clone()));
        for edited in ["id\n1\n9\n3\n", "id\n7\n2\n", "id,new\n1,\n2,\n", "id\n1\n"] {
            let edited = survey(&[("a.csv", edited)], noted.as_ref()).unwrap().files[0].clone();
            assert_ne!(edited.checksum_of_noted, Some(before.checksum.clone()));
        }
    }

    #[test]
    fn partitions_are_counted_and_long_values_found() {
        let long = "x".repeat(FOLDER_BYTES_MAX);
        let text = format!("id,city\n1,Rome\n2,Oslo\n3,Rome\n4,\n5,{long}\n");
        let found = survey(&[("a.csv", text.as_str())], None).unwrap().partitions;
        assert_eq!(found, Partitions { count: 4, too_long: Some(long) });
        let many: String = (0..6_000).map(|id| format!("{id},{id}\n")).collect();
        let found = survey(&[("a.csv", format!("id,city\n{many}").as_str())], None).unwrap().partitions;
        assert_eq!(found.count, PARTITIONS_MAX + 1);
    }

    #[test]
    fn a_wrong_header_is_told_with_file_and_line() {
        let told = survey(&[("a.csv", "id,ID\n1,2\n")], None).unwrap_err().to_string();
        assert!(told.contains("a.csv, line 1: column 2 is named `id` like one before it"), "{told}");
        assert!(survey(&[("a.csv", "")], None).unwrap_err().to_string().contains("a.csv is empty"));
    }

    #[test]
    fn an_unknown_column_is_told_with_the_nearest_and_all() {
        let columns = ["tailnum", "month", "day"].map(|name| Column { name: name.to_owned(), kind: Kind::Text });
        let told = column_named(&columns, "tailnumber", "--key", "flights.csv").unwrap_err().to_string();
        assert_eq!(
            told,
            "--key tailnumber: flights.csv has no such column; did you mean `tailnum`? Its columns are: tailnum, month, day"
        );
        assert!(!column_named(&columns, "altitude", "--key", "f").unwrap_err().to_string().contains("did you mean"));
        assert_eq!(column_named(&columns, "Month", "--key", "f").unwrap(), 1);
    }
}
