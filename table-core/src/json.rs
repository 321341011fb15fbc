//! Files of JSON lines: one object per line, blank lines skipped.
//!
//! Invariant: a bad line costs that line; no line is buffered past [`ROW_BYTES_MAX`].

use std::io::{BufRead, Read};

use arrow::datatypes::SchemaRef;

use crate::rows::{BATCH_BYTES, BATCH_ROWS, Decoded, Misfit, Origin, ROW_BYTES_MAX, RowDecoder};
use crate::{Error, ErrorKind, Result};

/// Reads JSON lines as batches of a schema: an iterator of [`Decoded`].
#[derive(Debug)]
pub struct JsonReader<R> {
    lines: Lines<R>,
    rows: RowDecoder,
    batch_rows: usize,
    source: String,
    done: bool,
}

impl<R: BufRead> JsonReader<R> {
    /// Reads `input`, which `source` names in rejects.
    ///
    /// # Errors
    ///
    /// As [`RowDecoder::new`].
    pub fn new(input: R, source: impl Into<String>, schema: SchemaRef) -> Result<Self> {
        let rows = RowDecoder::new(schema)?;
        Ok(Self { lines: Lines::new(input), rows, batch_rows: BATCH_ROWS, source: source.into(), done: false })
    }

    /// The most rows of a batch; at least 1. [`BATCH_BYTES`] bounds it too.
    #[must_use]
    pub fn with_batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// What becomes of values that are none of their column's type.
    #[must_use]
    pub fn with_misfit(mut self, misfit: Misfit) -> Self {
        self.rows = self.rows.with_misfit(misfit);
        self
    }

    fn batch(&mut self) -> Result<Option<Decoded>> {
        let (mut seen, start) = (0, self.lines.offset);
        while seen < self.batch_rows && self.lines.offset - start < BATCH_BYTES {
            let line = self.lines.next_line().map_err(|error| {
                Error::new(error.kind(), format!("\"{}\" could not be read", self.source)).with_source(error)
            });
            let Some(line) = line? else {
                self.done = true;
                break;
            };
            let origin = Origin { source: &self.source, line: Some(line.number), offset: Some(line.offset) };
            if line.cut {
                self.rows.reject(line.text, origin, None, format!("the line is longer than {ROW_BYTES_MAX} bytes"));
            } else if !line.text.trim_ascii().is_empty() {
                self.rows.push_json(line.text, origin);
            } else {
                continue;
            }
            seen += 1;
        }
        if self.done && seen == 0 { Ok(None) } else { self.rows.finish().map(Some) }
    }
}

impl<R: BufRead> Iterator for JsonReader<R> {
    type Item = Result<Decoded>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.batch();
        self.done |= batch.is_err();
        batch.transpose()
    }
}

/// One line without its end.
pub(crate) struct Line<'a> {
    pub(crate) text: &'a [u8],
    /// From 1.
    pub(crate) number: u64,
    /// Bytes before it.
    pub(crate) offset: u64,
    /// Whether it was longer than what is kept of it.
    pub(crate) cut: bool,
}

/// Lines of bounded length.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), number: 0, offset: 0 }
    }

    pub(crate) fn next_line(&mut self) -> Result<Option<Line<'_>>> {
        self.buffer.clear();
        let bound = ROW_BYTES_MAX as u64 + 1;
        let read = (&mut self.input).take(bound).read_until(b'\n', &mut self.buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        self.offset += read as u64;
        self.number += 1;
        let cut = self.buffer.last() != Some(&b'\n') && read as u64 == bound;
        if cut {
            self.skip_line()?;
        }
        let mut text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        text = text.strip_suffix(b"\r").unwrap_or(text);
        if offset == 0 {
            text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        }
        Ok(Some(Line { text, number: self.number, offset, cut }))
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let available = self.input.fill_buf().map_err(unreadable)?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |end| end + 1);
            let ended = end.is_some() || available.is_empty();
            self.input.consume(used);
            self.offset += used as u64;
            if ended {
                return Ok(());
            }
        }
    }
}

pub(crate) fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the input could not be read").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;

    fn schema(columns: &[(&str, &str)]) -> SchemaRef {
        let field =
            |(name, hive): &(&str, &str)| Field::new(*name, hive.parse::<crate::HiveType>().unwrap().to_arrow(), true);
        Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
    }

    fn read(text: &str, columns: &[(&str, &str)]) -> Vec<Decoded> {
        JsonReader::new(text.as_bytes(), "t", schema(columns)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn bad_lines_cost_only_themselves_and_name_their_place() {
        let text = "{\"a\":1}\n\n{\"a\":2\n[3]\r\n{\"a\":4} x\n{\"A\":5}";
        let decoded = read(text, &[("a", "bigint")]).remove(0);
        assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().values(), &[1, 5]);
        let places: Vec<_> =
            decoded.rejects.iter().map(|reject| (reject.line.unwrap(), reject.offset.unwrap())).collect();
        assert_eq!(places, [(3, 9), (4, 16), (5, 21)]);
    }

    #[test]
    fn nested_values_and_exact_numbers_survive() {
        let columns = [
            ("d", "decimal(38,2)"),
            ("s", "struct<x:array<int>,m:map<string,date>>"),
            ("raw", "string"),
            ("t", "timestamp"),
        ];
        let text = r#"{"d": 123456789012345678901234567890.5, "s": {"X": [1, null, 3.0], "m": {"k": "2024-01-01"}}, "raw": {"a": [1]}, "t": "2024-01-01T00:00:00Z"}"#;
        let decoded = read(text, &columns).remove(0);
        assert!(decoded.nulled.is_empty(), "{:?}", decoded.nulled);
        let shown = arrow::util::pretty::pretty_format_batches(&[decoded.batch]).unwrap().to_string();
        for part in [
            "123456789012345678901234567890.50",
            "x: [1, , 3]",
            "{k: 2024-01-01}",
            r#"{"a": [1]}"#,
            "2024-01-01T00:00:00",
        ] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
    }

    #[test]
    fn a_batch_ends_at_its_bytes_however_few_rows_it_has() {
        let text = format!("{{\"a\":\"{}\"}}\n", "x".repeat(ROW_BYTES_MAX / 2)).repeat(5);
        let rows: Vec<_> = read(&text, &[("a", "string")]).iter().map(|decoded| decoded.batch.num_rows()).collect();
        assert_eq!(rows, [2, 2, 1]);
    }

    #[test]
    fn values_of_another_type_are_counted_by_column() {
        let text = "{\"a\":\"x\",\"b\":[1,\"y\"]}\n{\"a\":1.5,\"b\":7}\n";
        let decoded = read(text, &[("a", "int"), ("b", "array<int>")]).remove(0);
        assert_eq!(decoded.nulled.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 2), ("b".to_owned(), 2)]);
        let rejecting =
            JsonReader::new(text.as_bytes(), "t", schema(&[("a", "int")])).unwrap().with_misfit(Misfit::RejectRow);
        let decoded: Vec<_> = rejecting.map(Result::unwrap).collect();
        assert_eq!(decoded[0].rejects.len(), 2);
        assert_eq!(decoded[0].rejects[0].column.as_deref(), Some("a"));
    }
}
