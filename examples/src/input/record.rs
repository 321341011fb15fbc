//! The records of one file, delimited or JSON, in one form: named cells, or the reason why there are none.
//!
//! Invariant: the n-th record of a file has number n, well-formed or not.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

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
    /// The file cannot be opened, or its header cannot be read, is not what separates columns by commas, or names no column or
    /// one twice.
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
            Source::JsonLines(lines) => next_object(lines, self.next == 0),
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
    let text = record.fields.as_ref().map_or_else(|told| told.shown.clone(), |fields| fields.join(","));
    if let Some(remedy) = foreign(&text) {
        return Err(Failure::new(format!("{name}, line {line}: {remedy}")));
    }
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

/// What to do about a header that shows a file written in another way, if it does.
fn foreign(header: &str) -> Option<&'static str> {
    let without_crlf = header.replace("\r\n", "\n");
    if without_crlf.ends_with('\r') {
        return Some("lines end in CR CR LF: write it with LF or CRLF");
    }
    if without_crlf.contains('\r') {
        return Some("lines end in CR only: write it with LF or CRLF");
    }
    match header {
        commas if commas.contains(',') => None,
        semicolons if semicolons.contains(';') => {
            Some("the columns seem to be separated by ;: write the file with commas")
        }
        tabs if tabs.contains('\t') => Some("the columns seem to be separated by tabs: write the file with commas"),
        _ => None,
    }
}

fn named(header: &[String], fields: Vec<String>) -> Vec<(String, Cell)> {
    let cell = |text: String| if text.is_empty() || text == "NA" { Cell::Null } else { Cell::Written(text) };
    header.iter().cloned().zip(fields.into_iter().map(cell)).collect()
}

fn next_object(lines: &mut Lines, first: bool) -> std::io::Result<Option<(u64, Cells)>> {
    while let Some(Line { number, text, .. }) = lines.next_line()? {
        let cells = match text {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => object(&text),
            Err(unreadable) => Err(unreadable),
        };
        return Ok(Some((number, if first { cells.map_err(with_remedy) } else { cells })));
    }
    Ok(None)
}

/// Adds what to do if the file's first line begins JSON that is not one object a line.
fn with_remedy(unreadable: Unreadable) -> Unreadable {
    let text = unreadable.shown.trim_start_matches('\u{feff}').trim();
    let in_list = text.strip_prefix('[').map(str::trim_start);
    let filter = match in_list {
        Some(rest) if rest.is_empty() || rest.starts_with('{') => "'.[]'",
        None if text == "{" => ".",
        _ => return unreadable,
    };
    let reason = format!("{}: write one object a line, for example with jq -c {filter}", unreadable.reason);
    Unreadable { reason, ..unreadable }
}

fn object(text: &str) -> Cells {
    cells(text).map_err(|reason| Unreadable { reason, shown: text.chars().take(SHOWN_BYTES_MAX).collect() })
}

fn cells(text: &str) -> Result<Vec<(String, Cell)>, String> {
    let Members(members) = serde_json::from_str(text).map_err(|error| no_object(text, &error))?;
    let mut seen = BTreeSet::new();
    let mut cells = Vec::with_capacity(members.len());
    for (index, (name, value)) in members.iter().enumerate() {
        let column = plain_name(name);
        if column.is_empty() || !seen.insert(column.clone()) {
            let twice = members.iter().take(index).any(|(earlier, _)| earlier == name);
            let why = if twice { "is there twice" } else { "has no name of its own as a column" };
            return Err(format!("the member `{name}` {why}"));
        }
        let cell = Cell::of_json(value).map_err(|error| format!("the member `{name}`: {}", without_place(&error)))?;
        cells.push((column, cell));
    }
    Ok(cells)
}

/// Why a text is no object.
fn no_object(text: &str, error: &serde_json::Error) -> String {
    let told = |error: &serde_json::Error| {
        format!("the line is not JSON: {} at column {}", without_place(error), error.column())
    };
    if !error.is_data() {
        return told(error);
    }
    // That it is another kind of value is told before the whole of it is read.
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => "the line is JSON but not an object".to_owned(),
        Err(error) => told(&error),
    }
}

/// The message without line and column: to the parser each text is line 1.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map(str::to_owned).unwrap_or(text)
}

/// An object's members in their order, each as often as it is there, their values as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, text: &str) -> Result<RecordReader> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        RecordReader::open(&InputFile::at(&path).unwrap())
    }

    /// Why each record of a JSON-lines file is none, or nothing.
    fn reasons(text: &str) -> Vec<String> {
        let mut reader = open("a.jsonl", text).unwrap();
        std::iter::from_fn(|| reader.next_record().unwrap())
            .map(|record| record.cells.err().map(|unreadable| unreadable.reason).unwrap_or_default())
            .collect()
    }

    #[test]
    fn a_fault_in_json_is_told_with_its_column_and_one_line() {
        assert_eq!(
            reasons("{}\n{}\n{\"a\":x}\n[1,\n{\"a\":\"\\ud800\"}\n"),
            [
                "",
                "",
                "the line is not JSON: expected value at column 6",
                "the line is not JSON: EOF while parsing a value at column 3",
                "the member `a`: unexpected end of hex escape",
            ]
        );
    }

    #[test]
    fn a_member_that_is_there_twice_makes_the_row_malformed() {
        assert_eq!(
            reasons("{\"a\":1,\"a\":2}\n{\"a b\":1,\"A_b\":2}\n{\"\":1}\n"),
            [
                "the member `a` is there twice",
                "the member `A_b` has no name of its own as a column",
                "the member `` has no name of its own as a column",
            ]
        );
    }

    #[test]
    fn json_that_is_not_one_object_a_line_is_told_with_a_remedy() {
        for (text, filter) in
            [("[\n{}\n]\n", "'.[]'"), ("[{},{}]\n", "'.[]'"), ("\n[ {},\n{}]\n", "'.[]'"), ("{\n\"a\":1\n}\n", ".")]
        {
            let told = &reasons(text)[0];
            assert!(told.ends_with(&format!(": write one object a line, for example with jq -c {filter}")), "{told}");
        }
        let long = format!("[{{\"a\":\"{}\"}}]", "x".repeat(super::super::LINE_BYTES_MAX));
        assert!(reasons(&long)[0].contains("write one object a line"));
        assert!(reasons("{}\n{\n").iter().all(|told| !told.contains("jq")), "only the first line begins the file");
        assert!(!reasons("[1,2]\n")[0].contains("jq"));
    }

    #[test]
    fn a_header_written_in_another_way_is_refused_with_a_remedy() {
        let told = |text: &str| open("a.csv", text).unwrap_err().to_string();
        let separated =
            |by: &str| format!("a.csv, line 1: the columns seem to be separated by {by}: write the file with");
        for text in ["id;city;amount\n1;Paris;2\n", "\"id\";\"city\"\n"] {
            assert!(told(text).contains(&separated(";")), "{}", told(text));
        }
        assert!(told("id\tcity\n1\tParis\n").contains(&separated("tabs")));
        assert!(told("id,city\r1,Paris\r2,Rome\r").ends_with("lines end in CR only: write it with LF or CRLF"));
        assert!(told(&"id\r".repeat(super::super::LINE_BYTES_MAX)).contains("lines end in CR only"));
        assert!(told("id,city\r\r\n1,Paris\r\r\n").contains("lines end in CR CR LF"));
        assert_eq!(open("a.csv", "id,\"a\r\nb;c\"\r\n").unwrap().header(), ["id", "a__b_c"]);
        assert_eq!(open("a.csv", "id\r\n1\r\n").unwrap().header(), ["id"]);
    }
}
