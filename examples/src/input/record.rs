//! The records of one file, delimited or JSON, in one form: named cells, or the reason why there are none.
//!
//! Invariant: the n-th record of a file has number n, well-formed or not.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::delimited::{Delimited, Records};
use super::file::{InputFile, Shape};
use super::kind::Cell;
use super::lines::{Line, Lines, SHOWN_BYTES_MAX, Unreadable};
use crate::failure::{Doing, Failure, Result};

/// A record's values by column, or why it has none.
pub(super) type Cells = Result<Vec<(String, Cell)>, Unreadable>;

/// One record as the file gave it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// From 0, in the file.
    pub(super) number: u64,
    /// The line it begins at, from 1.
    pub(super) line: u64,
    /// Column name and value, or why there are none.
    pub(super) cells: Cells,
}

/// Reads a file's records one after the other.
#[derive(Debug)]
pub(super) struct RecordReader {
    file: InputFile,
    source: Source,
    next: u64,
}

#[derive(Debug)]
enum Source {
    Delimited { records: Records, header: Vec<String> },
    JsonLines(Lines),
}

impl RecordReader {
    /// Opens the file and reads its header if it has one.
    ///
    /// # Errors
    /// The file cannot be opened, or its header cannot be read or names no column or one twice.
    pub(super) fn open(file: &InputFile) -> Result<Self> {
        let lines = Lines::open(file.path(), file.gzip()).doing(|| format!("cannot open {}", file.name()))?;
        let source = match file.shape() {
            Shape::JsonLines => Source::JsonLines(lines),
            Shape::Delimited => {
                let mut records = Records::new(lines);
                let header = header(file, records.next_record(None).doing(|| format!("cannot read {}", file.name()))?)?;
                Source::Delimited { records, header }
            }
        };
        Ok(Self { file: file.clone(), source, next: 0 })
    }

    /// The header's columns, in order; none for JSON lines.
    pub(super) fn header(&self) -> &[String] {
        match &self.source {
            Source::Delimited { header, .. } => header,
            Source::JsonLines(_) => &[],
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// The disk failed.
    pub(super) fn next_record(&mut self) -> Result<Option<Record>> {
        let read = match &mut self.source {
            Source::Delimited { records, header } => records.next_record(Some(header.len())).map(|record| {
                record.map(|Delimited { line, fields }| (line, fields.map(|fields| named(header, fields))))
            }),
            Source::JsonLines(lines) => next_object(lines),
        };
        let Some((line, cells)) = read.doing(|| format!("cannot read {}", self.file.name()))? else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        Ok(Some(Record { number, line, cells }))
    }
}

/// A column's name as SQL takes it without quotes.
pub(super) fn plain_name(name: &str) -> String {
    let plain = |character: char| if character.is_alphanumeric() || character == '_' { character } else { '_' };
    name.trim().to_lowercase().chars().map(plain).collect()
}

fn header(file: &InputFile, record: Option<Delimited>) -> Result<Vec<String>> {
    let name = file.name();
    let remedy = "the first line of a .csv file must name its columns";
    let record = record.ok_or_else(|| Failure::new(format!("{name} is empty: {remedy}")))?;
    let line = record.line;
    let fields =
        record.fields.map_err(|told| Failure::new(format!("{name}, line {line}: {}: {remedy}", told.reason)))?;
    let columns: Vec<String> = fields.iter().map(|field| plain_name(field)).collect();
    let mut seen = BTreeSet::new();
    for (index, column) in columns.iter().enumerate() {
        let place = index + 1;
        if column.is_empty() {
            return Err(Failure::new(format!("{name}, line {line}: column {place} has no name: {remedy}")));
        }
        if !seen.insert(column) {
            return Err(Failure::new(format!(
                "{name}, line {line}: column {place} is named `{column}` like one before it: rename one"
            )));
        }
    }
    Ok(columns)
}

fn named(header: &[String], fields: Vec<String>) -> Vec<(String, Cell)> {
    let cell = |text: String| if text.is_empty() || text == "NA" { Cell::Null } else { Cell::Written(text) };
    header.iter().cloned().zip(fields.into_iter().map(cell)).collect()
}

fn next_object(lines: &mut Lines) -> std::io::Result<Option<(u64, Cells)>> {
    while let Some(Line { number, text }) = lines.next_line()? {
        match text {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => return Ok(Some((number, object(&text)))),
            Err(unreadable) => return Ok(Some((number, Err(unreadable)))),
        }
    }
    Ok(None)
}

fn object(text: &str) -> Cells {
    let unreadable = |reason: String| Unreadable { reason, shown: text.chars().take(SHOWN_BYTES_MAX).collect() };
    let map: Map<String, Value> = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(unreadable("the line is JSON but not an object".to_owned())),
        Err(error) => return Err(unreadable(format!("the line is not JSON: {error}"))),
    };
    let mut seen = BTreeSet::new();
    let mut cells = Vec::with_capacity(map.len());
    for (name, value) in map {
        let column = plain_name(&name);
        if column.is_empty() || !seen.insert(column.clone()) {
            return Err(unreadable(format!("the member `{name}` has no name of its own as a column")));
        }
        cells.push((column, if value.is_null() { Cell::Null } else { Cell::Typed(value) }));
    }
    Ok(cells)
}
