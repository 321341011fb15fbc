//! Delimited text: which delimiter, whether there is a header, what each column holds.
//!
//! Invariant: hypotheses are weighed on the same rows, and the answer does not depend on the order in which they are tried.

use csv::ByteRecord;
use table_core::csv::CsvSettings;
use table_core::infer::Observed;
use table_core::{COLUMNS_MAX, HiveType};

use super::profile::{Content, Delimited, Header, Profile};

/// Delimiters that are tried; of equals, the first.
const DELIMITERS: [u8; 5] = [b',', b'\t', b'|', b';', 1];
/// The delimiter is decided on so many bytes and rows.
const SAMPLE_BYTES: usize = 1 << 20;
const SAMPLE_ROWS: usize = 1000;
/// The longest name of a column in a header.
const NAME_CHARS_MAX: usize = 150;

/// Profiles a whole file, or as much of it as `bytes` has.
pub(super) fn profile(bytes: &[u8], source: &str) -> Profile {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let delimiter = delimiter(bytes);
    let mut records = CsvSettings::default().with_delimiter(delimiter).records(bytes);
    let mut record = ByteRecord::new();
    let mut notes = Vec::new();
    if !matches!(records.read_byte_record(&mut record), Ok(true)) {
        return Profile::unknown("no row can be read");
    }
    if record.len() > COLUMNS_MAX {
        return Profile::unknown(format!("the first row has {} fields, at most {COLUMNS_MAX} are read", record.len()));
    }
    let first: Vec<String> = record.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect();
    let mut tally =
        Tally { body: vec![Observed::default(); first.len()], recurs: false, rows: 0, ragged: 0, garbled: 0 };
    while let Ok(true) = records.read_byte_record(&mut record) {
        tally.add(&record, &first, source);
    }
    if tally.ragged > 0 {
        notes.push(format!(
            "{} rows have another number of fields than the first and will be rejected when read",
            tally.ragged
        ));
    }
    if tally.garbled > 0 {
        notes.push(format!("{} values are no UTF-8: their rows will be rejected when read", tally.garbled));
    }
    if tally.ragged > tally.rows {
        return Profile::unknown("no delimiter makes rows of equal length: not a table");
    }
    let header = tally.header(&first);
    let delimited = Delimited { delimiter, first, header, body: tally.body, body_rows: tally.rows };
    Profile { notes, ..Profile::new(Content::Csv(delimited)) }
}

struct Tally {
    body: Vec<Observed>,
    /// Whether a value of the first row comes again in its column.
    recurs: bool,
    rows: u64,
    ragged: u64,
    garbled: u64,
}

impl Tally {
    fn add(&mut self, record: &ByteRecord, first: &[String], source: &str) {
        if record.len() != first.len() {
            self.ragged += 1;
            return;
        }
        self.rows += 1;
        for ((field, observed), first) in record.iter().zip(&mut self.body).zip(first) {
            match std::str::from_utf8(field) {
                Ok(text) => {
                    self.recurs |= !text.is_empty() && text == first;
                    observed.text(text, source);
                }
                Err(_) => self.garbled += 1,
            }
        }
    }

    fn header(&self, first: &[String]) -> Header {
        let mut names: Vec<String> = first.iter().map(|name| name.to_lowercase()).collect();
        names.sort_unstable();
        names.dedup();
        let legal = |name: &String| !name.is_empty() && name.chars().count() < NAME_CHARS_MAX && is_text(name);
        if names.len() < first.len() || !first.iter().all(legal) {
            return Header::No;
        }
        if self.body.iter().any(|observed| !observed.hive_type().is_text()) {
            return Header::Sure;
        }
        let named = |name: &String| name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !self.recurs && first.iter().all(named) { Header::Maybe } else { Header::No }
    }
}

fn is_text(text: &str) -> bool {
    let mut observed = Observed::default();
    observed.text(text, "");
    observed.hive_type() == HiveType::String && !table_core::infer::is_null_token(text)
}

/// The delimiter that cuts most rows into the same number of fields, of at least two; a comma if there is none.
fn delimiter(bytes: &[u8]) -> u8 {
    let sample = match bytes.get(..SAMPLE_BYTES) {
        // The last row of a cut is no evidence.
        Some(cut) => cut.iter().rposition(|byte| *byte == b'\n').and_then(|end| cut.get(..=end)).unwrap_or(cut),
        None => bytes,
    };
    let mut best = (0.6, b',');
    for delimiter in DELIMITERS {
        let score = score(sample, delimiter);
        if score > best.0 {
            best = (score, delimiter);
        }
    }
    best.1
}

/// The share of rows of the commonest length, a little more for longer rows; 0 if that is one field.
fn score(sample: &[u8], delimiter: u8) -> f64 {
    let mut records = CsvSettings::default().with_delimiter(delimiter).records(sample);
    let mut record = ByteRecord::new();
    let mut widths = std::collections::BTreeMap::<usize, u32>::new();
    let mut rows = 0;
    while rows < SAMPLE_ROWS && matches!(records.read_byte_record(&mut record), Ok(true)) {
        *widths.entry(record.len()).or_default() += 1;
        rows += 1;
    }
    let Some((width, count)) = widths.into_iter().max_by_key(|(width, count)| (*count, *width)) else { return 0.0 };
    if width < 2 {
        return 0.0;
    }
    let share = |part: u32, whole: usize| f64::from(part) / f64::from(u32::try_from(whole).unwrap_or(u32::MAX));
    share(count, rows) * (1.0 + 0.1 * (1.0 - share(1, width)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Delimited {
        match profile(text.as_bytes(), "f").content {
            Content::Csv(delimited) => delimited,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_delimiter_is_the_one_that_makes_a_table() {
        for (text, delimiter) in
            [("a,b\n1,2\n", b','), ("a;b\n1,5;2\n3,5;4\n", b';'), ("a\tb\n1\t2\n", b'\t'), ("a\n1\n", b',')]
        {
            assert_eq!(csv(text).delimiter, delimiter, "{text}");
        }
    }

    #[test]
    fn a_header_is_told_from_data() {
        assert_eq!(csv("zip,n\n00501,1\n").header, Header::Sure);
        assert_eq!(csv("name,city\nann,rome\nbob,oslo\n").header, Header::Maybe);
        assert_eq!(csv("a,b\n").header, Header::Maybe);
        assert_eq!(csv("ann,rome\nbob,rome\n").header, Header::No);
        assert_eq!(csv("1,2\n3,4\n").header, Header::No);
        assert_eq!(csv("a,a\n3,4\n").header, Header::No);
    }

    #[test]
    fn any_bytes_give_a_profile() {
        for bytes in [&b"\"\"\"\"\"\n\""[..], b"\xff\xfe\n\xff", b",,,\n,\n", b"\r\r\n\n"] {
            let _ = profile(bytes, "f");
        }
    }
}
