//! Delimited text, record by record, strictly: a quote that is never closed costs its own line, not the rest of the file.
//!
//! The `csv` crate reads such a quote to the end of the file as one field and takes text after a closing quote as part of it,
//! which is right for a reader that must return something and wrong for one that must name the damaged line.
//!
//! Invariant: every line of the file is part of exactly one record or one rejection.

use std::collections::VecDeque;
use std::io;

use super::lines::{Line, Lines, SHOWN_BYTES_MAX, Unreadable};

/// A quoted field may run over this many lines; a quote open for longer was never closed.
const RECORD_LINES_MAX: usize = 64;

/// One record, or why its first line is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimited {
    /// The line the record begins at, from 1.
    pub line: u64,
    /// Its fields, as many as asked for.
    pub fields: Result<Vec<String>, Unreadable>,
}

/// Reads records one after the other.
#[derive(Debug)]
pub struct Records {
    lines: Lines,
    ahead: VecDeque<Line>,
}

impl Records {
    /// Over the lines of a file.
    #[must_use]
    pub fn new(lines: Lines) -> Self {
        Self { lines, ahead: VecDeque::new() }
    }

    /// The next record; `width` is how many fields it must have, if that is known. Empty lines are passed over.
    ///
    /// # Errors
    /// The disk failed.
    pub fn next_record(&mut self, width: Option<usize>) -> io::Result<Option<Delimited>> {
        let first = loop {
            match self.line_ahead(0)? {
                None => return Ok(None),
                Some(Line { text: Ok(text), .. }) if text.is_empty() => drop(self.ahead.pop_front()),
                Some(line) => break line.clone(),
            }
        };
        let (fields, used) = match first.text {
            Ok(text) => self.record_from(&text, width)?,
            Err(unreadable) => (Err(unreadable), 1),
        };
        self.ahead.drain(..used);
        Ok(Some(Delimited { line: first.number, fields }))
    }

    /// The record that begins with this text and how many lines it took; a rejection takes one.
    fn record_from(
        &mut self,
        first: &str,
        width: Option<usize>,
    ) -> io::Result<(Result<Vec<String>, Unreadable>, usize)> {
        let mut text = first.to_owned();
        let mut used = 1;
        let reason = loop {
            match split(&text) {
                Ok(fields) if width.is_none_or(|width| width == fields.len()) => return Ok((Ok(fields), used)),
                Ok(fields) => {
                    break format!("{} fields where the header has {}", fields.len(), width.unwrap_or_default());
                }
                Err(Fault::TextAfterQuote { field }) => break format!("text after the closing quote of field {field}"),
                Err(Fault::OpenQuote { field }) => match self.continued(used)? {
                    Some(more) => {
                        text.push_str(&more);
                        used += 1;
                    }
                    None => break format!("the quote that opens field {field} is not closed"),
                },
            }
        };
        let shown = first.chars().take(SHOWN_BYTES_MAX).collect();
        Ok((Err(Unreadable { reason, shown }), 1))
    }

    /// The end of the last of the lines used and the text of the one that a quoted field runs on into, if it may.
    fn continued(&mut self, used: usize) -> io::Result<Option<String>> {
        if used >= RECORD_LINES_MAX {
            return Ok(None);
        }
        let end = self.line_ahead(used - 1)?.map(|line| line.end).unwrap_or_default();
        Ok(self.line_ahead(used)?.and_then(|line| line.text.as_ref().ok()).map(|text| format!("{end}{text}")))
    }

    fn line_ahead(&mut self, index: usize) -> io::Result<Option<&Line>> {
        while self.ahead.len() <= index {
            match self.lines.next_line()? {
                Some(line) => self.ahead.push_back(line),
                None => return Ok(None),
            }
        }
        Ok(self.ahead.get(index))
    }
}

/// Why a text is not a record; fields count from 1.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    OpenQuote { field: usize },
    TextAfterQuote { field: usize },
}

/// The fields of one record: commas between, double quotes around what holds commas, quotes (doubled) or ends of lines.
/// A quote inside a field that does not begin with one is text: `6" pipe`.
fn split(text: &str) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let field = fields.len() + 1;
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted).ok_or(Fault::OpenQuote { field })?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(value);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err(Fault::TextAfterQuote { field }),
        }
    }
}

/// The value up to the closing quote, and what follows it.
fn quoted_field(mut rest: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    loop {
        let quote = rest.find('"')?;
        value.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Some((value, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, width: usize) -> Vec<(u64, Result<Vec<String>, String>)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let mut records = Records::new(Lines::open(&path, false).unwrap());
        std::iter::from_fn(|| records.next_record(Some(width)).unwrap())
            .map(|record| (record.line, record.fields.map_err(|unreadable| unreadable.reason)))
            .collect()
    }

    fn fields(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn quotes_commas_and_ends_of_lines_inside_a_field() {
        let read = records("a,\"b,\"\"c\"\"\nd\",e\n6\" pipe,,\n", 3);
        assert_eq!(read[0], (1, Ok(fields(&["a", "b,\"c\"\nd", "e"]))));
        assert_eq!(read[1], (3, Ok(fields(&["6\" pipe", "", ""]))));
    }

    #[test]
    fn ends_of_lines_inside_a_field_stay_as_they_are() {
        let read = records("a,\"b\r\nc\n\r\r\nd\"\r\n1,2\r\n", 2);
        assert_eq!(read, [(1, Ok(fields(&["a", "b\r\nc\n\r\r\nd"]))), (5, Ok(fields(&["1", "2"])))]);
    }

    #[test]
    fn a_quote_never_closed_costs_one_line() {
        let read = records("1,2\n\"open,2\n3,4\n5,6\n", 2);
        assert_eq!(read.len(), 4);
        assert_eq!(read[1], (2, Err("the quote that opens field 1 is not closed".to_owned())));
        assert_eq!(read[2], (3, Ok(fields(&["3", "4"]))));
    }

    #[test]
    fn a_quote_closed_by_a_later_one_costs_one_line() {
        let read = records("\"open,2\n3,4\n\"x\",6\n", 2);
        assert_eq!(read[0].0, 1);
        assert_eq!(read[0].1, Err("text after the closing quote of field 1".to_owned()));
        assert_eq!(read[1], (2, Ok(fields(&["3", "4"]))));
        assert_eq!(read[2], (3, Ok(fields(&["x", "6"]))));
    }

    #[test]
    fn a_wrong_number_of_fields_is_told() {
        assert_eq!(records("1,2,3\n", 2)[0].1, Err("3 fields where the header has 2".to_owned()));
    }

    #[test]
    fn well_formed_records_read_as_the_csv_crate_reads_them() {
        let text = "a,b\n\"x\ny\",\"\"\"\"\n,\n\" \",z \n\n\"c\r\nd\",e\r\n1,2";
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let expected: Vec<_> =
            reader.records().map(|record| Ok(record.unwrap().iter().map(str::to_owned).collect::<Vec<_>>())).collect();
        let read: Vec<_> = records(text, 2).into_iter().map(|(_, record)| record).collect();
        assert_eq!(read, expected);
    }
}
