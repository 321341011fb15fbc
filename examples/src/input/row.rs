//! Rows: a file's records as events, each value of its column's kind, or as the malformed row they are.
//!
//! Invariant: a row that does not fit its columns is malformed as a whole; no value is dropped or nulled to make it fit.

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::InputFile;
use super::kind::{Cell, Kind};
use super::lines::SHOWN_BYTES_MAX;
use super::record::{Record, RecordReader};
use crate::failure::Result;

/// A column of the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, in lower case.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// One row of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// From 0, in the file, counting malformed rows too.
    pub number: u64,
    /// The line it begins at, from 1.
    pub line: u64,
    /// The event, or why it is none.
    pub content: Content,
}

/// What a row is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A well-formed row.
    Event(Event),
    /// A row to be set aside.
    Malformed(Malformed),
}

/// A typed row: a value, or null, for each column of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    values: Vec<Value>,
}

/// A row that cannot be an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Malformed {
    /// The file it came from.
    pub file: String,
    /// The line it begins at, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
    /// Its text, cut and with what is not UTF-8 replaced.
    pub row: String,
}

impl Event {
    /// The value of the column with this index; null if there is none.
    #[must_use]
    pub fn value(&self, column: usize) -> &Value {
        self.values.get(column).unwrap_or(&Value::Null)
    }

    /// The event as one JSON object, its members in the columns' order.
    ///
    /// # Errors
    /// None in practice: every value is JSON already.
    pub fn to_json(&self, columns: &[Column]) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = Vec::with_capacity(32 * columns.len());
        let mut writer = serde_json::Serializer::new(&mut json);
        let mut map = writer.serialize_map(Some(self.values.len()))?;
        for (column, value) in columns.iter().zip(&self.values) {
            map.serialize_entry(&column.name, value)?;
        }
        map.end()?;
        Ok(json)
    }
}

/// Reads the rows of one file.
#[derive(Debug)]
pub struct Rows<'a> {
    file: String,
    columns: &'a [Column],
    reader: RecordReader,
}

impl<'a> Rows<'a> {
    /// Opens the file; `columns` are those of the whole input.
    ///
    /// # Errors
    /// The file cannot be opened or its header cannot be read.
    pub fn open(file: &InputFile, columns: &'a [Column]) -> Result<Self> {
        Ok(Self { file: file.name(), columns, reader: RecordReader::open(file)? })
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// The disk failed.
    pub fn next_row(&mut self) -> Result<Option<Row>> {
        let Some(Record { number, line, cells }) = self.reader.next_record()? else { return Ok(None) };
        let content = match cells {
            Err(unreadable) => self.malformed(line, unreadable.reason, unreadable.shown),
            Ok(cells) => {
                self.event(&cells).map_or_else(|reason| self.malformed(line, reason, shown(&cells)), Content::Event)
            }
        };
        Ok(Some(Row { number, line, content }))
    }

    fn event(&self, cells: &[(String, Cell)]) -> Result<Event, String> {
        let mut values = vec![Value::Null; self.columns.len()];
        for (position, (name, cell)) in cells.iter().enumerate() {
            let column = self
                .index(position, name)
                .ok_or_else(|| format!("column `{name}` is new since this file was surveyed"))?;
            values[column] = self.columns[column]
                .kind
                .convert(cell)
                .map_err(|reason| format!("column `{name}`: {reason}, which the column is in this store"))?;
        }
        Ok(Event { values })
    }

    /// Most files have the columns in the same order: the place is tried before the search.
    fn index(&self, position: usize, name: &str) -> Option<usize> {
        match self.columns.get(position) {
            Some(column) if column.name == name => Some(position),
            _ => self.columns.iter().position(|column| column.name == name),
        }
    }

    fn malformed(&self, line: u64, reason: String, row: String) -> Content {
        Content::Malformed(Malformed { file: self.file.clone(), line, reason, row })
    }
}

/// A row that was read but does not fit, as JSON.
fn shown(cells: &[(String, Cell)]) -> String {
    let value = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Written(text) => Value::from(text.as_str()),
        Cell::Typed(value) => value.clone(),
    };
    let row: serde_json::Map<_, _> = cells.iter().map(|(name, cell)| (name.clone(), value(cell))).collect();
    Value::Object(row).to_string().chars().take(SHOWN_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, text: &str, kinds: &[(&str, Kind)]) -> Vec<Row> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let columns: Vec<_> = kinds.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect();
        let mut rows = Rows::open(&InputFile::at(&path).unwrap(), &columns).unwrap();
        std::iter::from_fn(|| rows.next_row().unwrap()).collect()
    }

    fn json(row: &Row, kinds: &[(&str, Kind)]) -> String {
        let columns: Vec<_> = kinds.iter().map(|&(name, kind)| Column { name: name.to_owned(), kind }).collect();
        match &row.content {
            Content::Event(event) => String::from_utf8(event.to_json(&columns).unwrap()).unwrap(),
            Content::Malformed(malformed) => malformed.reason.clone(),
        }
    }

    #[test]
    fn values_are_typed_and_members_keep_the_columns_order() {
        let kinds = [("flight", Kind::Text), ("delay", Kind::Integer), ("share", Kind::Double)];
        let rows = rows("a.csv", "delay,flight,share\n-3,007,2\nNA,,0.5\n", &kinds);
        assert_eq!(json(&rows[0], &kinds), r#"{"flight":"007","delay":-3,"share":2.0}"#);
        assert_eq!(json(&rows[1], &kinds), r#"{"flight":null,"delay":null,"share":0.5}"#);
    }

    #[test]
    fn malformed_rows_keep_their_number_line_and_text() {
        let kinds = [("id", Kind::Integer), ("name", Kind::Text)];
        let rows =
            rows("a.jsonl", "{\"id\":1}\n{\"id\":\n\n[1]\n{\"id\":\"x\"}\n{\"id\":2,\"name\":{\"a\":[1]}}\n", &kinds);
        let told: Vec<_> = rows.iter().map(|row| (row.number, row.line, json(row, &kinds))).collect();
        assert_eq!(told[0], (0, 1, r#"{"id":1,"name":null}"#.to_owned()));
        assert!(told[1].2.starts_with("the line is not JSON: EOF"), "{told:?}");
        assert_eq!(told[2], (2, 4, "the line is JSON but not an object".to_owned()));
        assert_eq!(
            told[3],
            (3, 5, "column `id`: `\"x\"` is not an integer, which the column is in this store".to_owned())
        );
        assert_eq!(told[4], (4, 6, r#"{"id":2,"name":"{\"a\":[1]}"}"#.to_owned()));
        let Content::Malformed(malformed) = &rows[1].content else { panic!("row 1 is malformed") };
        assert!(malformed.file.ends_with("a.jsonl"));
        assert_eq!((malformed.line, malformed.row.as_str()), (2, "{\"id\":"));
    }
}
