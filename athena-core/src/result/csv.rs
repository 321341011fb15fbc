//! The result file, byte for byte as the service writes it, and its reader.
//!
//! Invariant: every header and every value is quoted, an inner quote is doubled, NULL is nothing at all between two
//! commas, and the empty string is `""`. So NULL and empty are told apart, which common CSV readers do not do; hence
//! this reader of our own, which takes that one form only.

use arrow::array::RecordBatch;

use super::text::{ColumnInfo, unpacked, write_value};
use crate::error::{Error, ErrorKind, Result, Stage};

/// A row of a result: one text per column, `None` for NULL.
pub type Row = Vec<Option<String>>;

/// The line of labels.
pub(crate) fn write_header(columns: &[ColumnInfo], out: &mut Vec<u8>) {
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        quote(&column.name, out);
    }
    out.push(b'\n');
}

/// One line per row; `row_starts` hears the offset in `out` at which each begins.
pub(crate) fn write_batch(batch: &RecordBatch, out: &mut Vec<u8>, mut row_starts: impl FnMut(usize)) -> Result<()> {
    let (mut text, columns) = (String::new(), unpacked(batch)?);
    for row in 0..batch.num_rows() {
        row_starts(out.len());
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            text.clear();
            if write_value(column.as_ref(), row, &mut text)? {
                quote(&text, out);
            }
        }
        out.push(b'\n');
    }
    Ok(())
}

/// One line per row, columns apart by tabs, nothing quoted: the form of SHOW and DESCRIBE.
pub(crate) fn write_text(batch: &RecordBatch, out: &mut Vec<u8>, mut row_starts: impl FnMut(usize)) -> Result<()> {
    let (mut text, columns) = (String::new(), unpacked(batch)?);
    for row in 0..batch.num_rows() {
        row_starts(out.len());
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b'\t');
            }
            text.clear();
            write_value(column.as_ref(), row, &mut text)?;
            out.extend_from_slice(text.as_bytes());
        }
        out.push(b'\n');
    }
    Ok(())
}

fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// The rows of batches as texts.
pub(crate) fn text_rows(batches: &[RecordBatch]) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let columns = unpacked(batch)?;
        for at in 0..batch.num_rows() {
            let mut row = Vec::with_capacity(columns.len());
            for column in &columns {
                let mut text = String::new();
                row.push(write_value(column.as_ref(), at, &mut text)?.then_some(text));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The rows in `bytes`, which begins at a row and ends with one.
///
/// # Errors
/// `Corrupt` when the bytes are not of the form that [`write_batch`] writes.
pub(crate) fn read_rows(bytes: &[u8], columns: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut row = Vec::with_capacity(columns);
        loop {
            let (value, after) = read_value(rest)?;
            row.push(value);
            let Some((separator, after)) = after.split_first() else { return Err(damaged("it ends inside a row")) };
            rest = after;
            match separator {
                b',' => {}
                b'\n' => break,
                _ => return Err(damaged("a value is followed by neither a comma nor a line end")),
            }
        }
        if row.len() != columns {
            return Err(damaged(&format!("a row has {} values where {columns} are announced", row.len())));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The lines in `bytes` as rows of one value each: a text result is one column of lines.
pub(crate) fn read_text(bytes: &[u8]) -> Result<Vec<Row>> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not UTF-8"))?;
    Ok(text.lines().map(|line| vec![Some(line.to_owned())]).collect())
}

fn read_value(bytes: &[u8]) -> Result<(Option<String>, &[u8])> {
    let Some(mut rest) = bytes.strip_prefix(b"\"") else { return Ok((None, bytes)) };
    let mut value = Vec::new();
    loop {
        let Some(at) = rest.iter().position(|byte| *byte == b'"') else { return Err(damaged("a quote never closes")) };
        let (before, after) = rest.split_at(at);
        value.extend_from_slice(before);
        match after.strip_prefix(b"\"\"") {
            Some(after) => {
                value.push(b'"');
                rest = after;
            }
            None => {
                let value = String::from_utf8(value).map_err(|_| damaged("it is not UTF-8"))?;
                return Ok((Some(value), after.strip_prefix(b"\"").unwrap_or(after)));
            }
        }
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, Stage::Result, format!("the result object is damaged: {what}; run the query again"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn null_empty_quotes_and_line_ends_come_back() {
        let values = [Some("a"), None, Some(""), Some("say \"hi\", twice\nover"), Some("é")];
        let column: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let batch = RecordBatch::try_from_iter([("x", column.clone()), ("y", column)]).unwrap();
        let mut out = Vec::new();
        write_batch(&batch, &mut out, |_| ()).unwrap();
        assert!(out.starts_with(b"\"a\",\"a\"\n,\n\"\",\"\"\n\"say \"\"hi\"\", twice\nover\","));
        let rows = read_rows(&out, 2).unwrap();
        let expected: Vec<Row> = values.iter().map(|v| vec![v.map(str::to_owned); 2]).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn damage_is_named() {
        for bytes in [&b"\"a\",\"b"[..], b"\"a\"x\"b\"\n", b"\"a\"\n", b"\"a\",\"b\",\"c\"\n"] {
            assert_eq!(read_rows(bytes, 2).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
