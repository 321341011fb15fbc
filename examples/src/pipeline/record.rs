//! What an event of the input looks like in the stream.
//!
//! | record | is |
//! |---|---|
//! | `{"month":1,...}` | an event: one JSON object |
//! | `["malformed",{"file":...,"line":...,"reason":...,"row":...}]` | a row that cannot be one, to be put aside by the delivery |
//!
//! Invariant: an event is always an object, so that no user's data can look like a malformed row.

use bytes::Bytes;
use serde_json::Value;

use crate::failure::{Doing, Result};
use crate::input::{Column, Content, Malformed, Row};

const MARK: &str = "malformed";

/// The most bytes of an event: a record of a stream, less its key.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024 - 256;

/// The partition key of an event whose key column is null, and of malformed rows.
const KEY_OF_NULL: &str = "null";

/// The longest partition key, in characters.
const KEY_CHARS_MAX: usize = 256;

/// What a record of the stream holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// An event.
    Event(serde_json::Map<String, Value>),
    /// A row to be put aside.
    Malformed(Malformed),
}

/// The record's bytes of a row of `file`. A row too large for a record is malformed.
///
/// # Errors
/// None in practice: rows are JSON already.
pub fn encode(file: &str, row: &Row, columns: &[Column]) -> Result<Bytes> {
    let encoded = match &row.content {
        Content::Event(event) => {
            let json = event.to_json(columns).doing(|| format!("cannot write line {} of {file} as JSON", row.line))?;
            if json.len() <= EVENT_BYTES_MAX {
                return Ok(json.into());
            }
            let reason =
                format!("the event is {} bytes as JSON, more than the {EVENT_BYTES_MAX} of a record", json.len());
            let shown = String::from_utf8_lossy(&json[..1024]).into_owned();
            serde_json::to_vec(&(MARK, Malformed { file: file.to_owned(), line: row.line, reason, row: shown }))
        }
        Content::Malformed(malformed) => serde_json::to_vec(&(MARK, malformed)),
    };
    Ok(encoded.doing(|| format!("cannot write line {} of {file} as JSON", row.line))?.into())
}

/// What the bytes of a record hold.
///
/// # Errors
/// The bytes are not a record of this pipeline.
pub fn decode(data: &[u8]) -> Result<Decoded> {
    let doing = || format!("a record of the stream is not one of this pipeline's: {}", shown(data));
    if data.first() == Some(&b'[') {
        let (_, malformed): (String, Malformed) = serde_json::from_slice(data).doing(doing)?;
        return Ok(Decoded::Malformed(malformed));
    }
    serde_json::from_slice(data).map(Decoded::Event).doing(doing)
}

/// The partition key of a row: its key column's value, or, without a key column, the row itself, which spreads evenly.
#[must_use]
pub fn partition_key(row: &Row, key: Option<usize>) -> String {
    let Some(column) = key else { return row.number.to_string() };
    let text = match &row.content {
        Content::Malformed(_) => String::new(),
        Content::Event(event) => match event.value(column) {
            Value::Null => String::new(),
            Value::String(text) => text.chars().take(KEY_CHARS_MAX).collect(),
            value => value.to_string(),
        },
    };
    if text.is_empty() { KEY_OF_NULL.to_owned() } else { text }
}

fn shown(data: &[u8]) -> String {
    String::from_utf8_lossy(&data[..data.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_row_comes_back_as_it_went_in() {
        let malformed = Malformed { file: "a.csv".into(), line: 7, reason: "3 fields".into(), row: "1,2,3".into() };
        let row = Row { number: 5, line: 7, content: Content::Malformed(malformed.clone()) };
        let data = encode("a.csv", &row, &[]).unwrap();
        assert_eq!(decode(&data).unwrap(), Decoded::Malformed(malformed));
        assert_eq!(partition_key(&row, Some(0)), "null");
        assert_eq!(partition_key(&row, None), "5");
    }

    #[test]
    fn bytes_of_others_are_refused_with_what_they_are() {
        assert!(decode(b"hello").unwrap_err().to_string().ends_with("not one of this pipeline's: hello"));
    }
}
