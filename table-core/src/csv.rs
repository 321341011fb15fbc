//! Files of delimited text: columns found by header name, file by file, or by position.
//!
//! Invariant: a table's properties say all that a reader must know ([`CsvSettings::to_properties`]), so that every reader of
//! a crawled table reads the same. A file whose header orders its columns differently is read right.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::csv::{ByteRecord, Reader, ReaderBuilder};
use arrow::datatypes::SchemaRef;

use crate::json::unreadable;
use crate::rows::{BATCH_BYTES, BATCH_ROWS, Decoded, Misfit, Origin, ROW_BYTES_MAX, RowDecoder};
use crate::{Error, ErrorKind, Result};

/// Property: the delimiter, one character.
pub const DELIMITER: &str = "delimiter";
/// Property: the quote character, or empty for none.
pub const QUOTE: &str = "quote";
/// Property: the escape character; absent means that a quote is escaped by doubling it.
pub const ESCAPE: &str = "escape";
/// Property: `1` if the first line names the columns.
pub const SKIP_HEADER: &str = "skip.header.line.count";
/// Property: `header` or `position`.
pub const COLUMNS_BY: &str = "columns.by";
/// Property: a JSON array of texts that mean NULL in columns that are not text.
pub const NULL_TOKENS: &str = "null.tokens";
/// Property: `reject` or `fill`.
pub const RAGGED_ROWS: &str = "ragged.rows";

/// How a file's columns find the table's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnsBy {
    /// By the names in the file's own header, without regard to case.
    #[default]
    Header,
    /// By their place.
    Position,
}

/// What becomes of a row with more or fewer fields than its file has columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ragged {
    /// It is rejected.
    #[default]
    Reject,
    /// Missing fields are NULL and surplus fields are dropped, as Hive does.
    Fill,
}

/// How delimited text is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvSettings {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
    header: bool,
    columns_by: ColumnsBy,
    null_tokens: BTreeSet<String>,
    ragged: Ragged,
    misfit: Misfit,
    batch_rows: usize,
}

impl Default for CsvSettings {
    /// Commas, double quotes, a header that names the columns, empty text is NULL in columns that are not text.
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            header: true,
            columns_by: ColumnsBy::Header,
            null_tokens: BTreeSet::from([String::new()]),
            ragged: Ragged::Reject,
            misfit: Misfit::Null,
            batch_rows: BATCH_ROWS,
        }
    }
}

impl CsvSettings {
    /// The byte between fields.
    #[must_use]
    pub fn with_delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// The byte around fields, if any.
    #[must_use]
    pub fn with_quote(mut self, quote: Option<u8>) -> Self {
        self.quote = quote;
        self
    }

    /// The byte that makes a quote within quotes ordinary; `None`: a doubled quote does.
    #[must_use]
    pub fn with_escape(mut self, escape: Option<u8>) -> Self {
        self.escape = escape;
        self
    }

    /// Whether the first record names the columns. Without one, columns are found by position.
    #[must_use]
    pub fn with_header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// How a file's columns find the table's.
    #[must_use]
    pub fn with_columns_by(mut self, columns_by: ColumnsBy) -> Self {
        self.columns_by = columns_by;
        self
    }

    /// The texts that mean NULL in columns that are not text.
    #[must_use]
    pub fn with_null_tokens<T: Into<String>>(mut self, tokens: impl IntoIterator<Item = T>) -> Self {
        self.null_tokens = tokens.into_iter().map(Into::into).collect();
        self
    }

    /// What becomes of rows of another length.
    #[must_use]
    pub fn with_ragged(mut self, ragged: Ragged) -> Self {
        self.ragged = ragged;
        self
    }

    /// What becomes of values that are none of their column's type.
    #[must_use]
    pub fn with_misfit(mut self, misfit: Misfit) -> Self {
        self.misfit = misfit;
        self
    }

    /// The most rows of a batch; at least 1. [`BATCH_BYTES`] bounds it too.
    #[must_use]
    pub fn with_batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// The byte between fields.
    #[must_use]
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The byte around fields, if any.
    #[must_use]
    pub fn quote(&self) -> Option<u8> {
        self.quote
    }

    /// Whether the first record names the columns.
    #[must_use]
    pub fn has_header(&self) -> bool {
        self.header
    }

    /// The settings as table properties.
    #[must_use]
    pub fn to_properties(&self) -> BTreeMap<String, String> {
        let by = if self.columns_by == ColumnsBy::Header { "header" } else { "position" };
        let ragged = if self.ragged == Ragged::Reject { "reject" } else { "fill" };
        let text = |byte: u8| char::from(byte).to_string();
        let tokens = serde_json::Value::from_iter(self.null_tokens.iter().cloned());
        let mut properties = BTreeMap::from([
            (DELIMITER.to_owned(), text(self.delimiter)),
            (QUOTE.to_owned(), self.quote.map(text).unwrap_or_default()),
            (SKIP_HEADER.to_owned(), if self.header { "1" } else { "0" }.to_owned()),
            (COLUMNS_BY.to_owned(), by.to_owned()),
            (NULL_TOKENS.to_owned(), tokens.to_string()),
            (RAGGED_ROWS.to_owned(), ragged.to_owned()),
        ]);
        if let Some(escape) = self.escape {
            properties.insert(ESCAPE.to_owned(), text(escape));
        }
        properties
    }

    /// The settings of a table. What is not said is as plain Hive DDL means it: columns by position, no header, rows filled.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a property that cannot be understood.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Result<Self> {
        let property = |name: &str| properties.get(name).map(String::as_str);
        let byte = |name: &str| property(name).map(|text| one_byte(name, text)).transpose();
        let mut settings = Self {
            delimiter: byte(DELIMITER)?.flatten().unwrap_or(b','),
            quote: byte(QUOTE)?.unwrap_or(Some(b'"')),
            escape: byte(ESCAPE)?.flatten(),
            ..Self::default()
        };
        settings.header = match property(SKIP_HEADER) {
            None | Some("0") => false,
            Some("1") => true,
            Some(other) => return Err(unknown(SKIP_HEADER, other, "0 or 1")),
        };
        settings.columns_by = match property(COLUMNS_BY) {
            None | Some("position") => ColumnsBy::Position,
            Some("header") => ColumnsBy::Header,
            Some(other) => return Err(unknown(COLUMNS_BY, other, "header or position")),
        };
        settings.ragged = match property(RAGGED_ROWS) {
            None | Some("fill") => Ragged::Fill,
            Some("reject") => Ragged::Reject,
            Some(other) => return Err(unknown(RAGGED_ROWS, other, "reject or fill")),
        };
        if let Some(tokens) = property(NULL_TOKENS) {
            settings.null_tokens = serde_json::from_str(tokens)
                .map_err(|error| unknown(NULL_TOKENS, tokens, "a JSON array of texts").with_source(error))?;
        }
        Ok(settings)
    }

    /// A reader of the records of `input`, header included, whatever their lengths.
    pub fn records<R: Read>(&self, input: R) -> Reader<R> {
        self.reader(8 * 1024).from_reader(input)
    }

    /// A reader with a buffer of so many bytes.
    fn reader(&self, buffer_bytes: usize) -> ReaderBuilder {
        let mut builder = ReaderBuilder::new();
        builder.buffer_capacity(buffer_bytes.max(1));
        builder.has_headers(false).flexible(true).delimiter(self.delimiter);
        builder.quoting(self.quote.is_some()).quote(self.quote.unwrap_or(b'"'));
        builder.escape(self.escape).double_quote(self.escape.is_none());
        builder
    }
}

fn one_byte(name: &str, text: &str) -> Result<Option<u8>> {
    match text.as_bytes() {
        [] => Ok(None),
        [byte] => Ok(Some(*byte)),
        b"\\t" => Ok(Some(b'\t')),
        _ => Err(unknown(name, text, "one ASCII character")),
    }
}

fn unknown(name: &str, value: &str, expected: &str) -> Error {
    Error::invalid(format!("table property \"{name}\" is \"{value}\": give {expected}"))
}

/// Decodes rows of delimited text that come one by one: a column is the field at its place.
///
/// ```
/// use std::sync::Arc;
/// use table_core::Origin;
/// use table_core::arrow::datatypes::{DataType, Field, Schema};
/// use table_core::csv::{CsvRows, CsvSettings};
///
/// # fn main() -> table_core::Result<()> {
/// let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("city", DataType::Utf8, true)]);
/// let mut rows = CsvRows::new(Arc::new(schema), CsvSettings::default())?;
/// assert!(rows.push(b"1,\"Oslo, Norway\"", Origin::default()));
/// assert!(!rows.push(b"2,Bergen\n3,Hamar", Origin::default()));
/// let decoded = rows.finish()?;
/// assert_eq!(decoded.batch.num_rows(), 1);
/// assert_eq!(decoded.rejects[0].reason, "there are 2 rows where one is expected");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CsvRows {
    settings: CsvSettings,
    rows: RowDecoder,
    /// The row's field for each column of the schema.
    fields: Vec<Option<usize>>,
    /// How many fields a row has.
    width: usize,
    is_text: Vec<bool>,
}

impl CsvRows {
    /// A decoder to a schema.
    ///
    /// # Errors
    ///
    /// As [`RowDecoder::new`]; `InvalidInput` for a nested column.
    pub fn new(schema: SchemaRef, settings: CsvSettings) -> Result<Self> {
        if let Some(nested) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            return Err(Error::invalid(format!(
                "column \"{}\" is nested: delimited text has no nested values",
                nested.name()
            )));
        }
        let is_text = schema.fields().iter().map(|field| field.data_type().is_string()).collect();
        let width = schema.fields().len();
        let rows = RowDecoder::new(schema)?.with_misfit(settings.misfit);
        Ok(Self { settings, rows, fields: (0..width).map(Some).collect(), width, is_text })
    }

    /// The columns are the fields at these places, from 0, of rows of `width` fields.
    #[must_use]
    pub fn with_fields(mut self, places: &[usize], width: usize) -> Self {
        self.fields = (0..self.fields.len()).map(|column| places.get(column).copied()).collect();
        self.width = width;
        self
    }

    /// The schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    /// Takes the one row that these bytes are, with or without a line's end. Returns whether it was taken; if not, a
    /// reject says why.
    pub fn push(&mut self, row: &[u8], origin: Origin<'_>) -> bool {
        if row.len() > ROW_BYTES_MAX {
            let reason = format!("the row has {} bytes, at most {ROW_BYTES_MAX} are read", row.len());
            return self.rows.reject(row, origin, None, reason);
        }
        let (mut reader, mut first, mut other) =
            (self.settings.reader(row.len()).from_reader(row), ByteRecord::new(), ByteRecord::new());
        // Reading from memory fails never.
        if !matches!(reader.read_byte_record(&mut first), Ok(true)) {
            return self.rows.reject(row, origin, None, "there is no row");
        }
        let mut count = 1;
        while matches!(reader.read_byte_record(&mut other), Ok(true)) {
            count += 1;
        }
        if count > 1 {
            return self.rows.reject(row, origin, None, format!("there are {count} rows where one is expected"));
        }
        self.push_record(&first, origin)
    }

    /// The rows and rejects since the last batch; the decoder starts again empty.
    ///
    /// # Errors
    ///
    /// As [`RowDecoder::finish`].
    pub fn finish(&mut self) -> Result<Decoded> {
        self.rows.finish()
    }

    fn push_record(&mut self, record: &ByteRecord, origin: Origin<'_>) -> bool {
        if record.len() != self.width && self.settings.ragged == Ragged::Reject {
            let reason = format!("the row has {} fields, not {}", record.len(), self.width);
            return self.rows.reject(&self.raw(record), origin, None, reason);
        }
        let mut texts = Vec::with_capacity(self.fields.len());
        for (field, is_text) in self.fields.iter().zip(&self.is_text) {
            let bytes = field.and_then(|field| record.get(field));
            let text = match bytes.map(std::str::from_utf8) {
                None => None,
                Some(Ok(text)) => {
                    (*is_text || !self.settings.null_tokens.contains(text)).then_some(Cow::Borrowed(text))
                }
                Some(Err(error)) => {
                    let name = self.rows.schema().fields().get(texts.len()).map(|field| field.name().clone());
                    let reason = format!("the value is no UTF-8: {error}");
                    return self.rows.reject(&self.raw(record), origin, name.as_deref(), reason);
                }
            };
            texts.push(text);
        }
        let raw = if self.settings.misfit == Misfit::RejectRow { self.raw(record) } else { Vec::new() };
        let taken = self.rows.push_texts(texts, &raw, origin);
        if !taken && raw.is_empty() {
            let raw = String::from_utf8_lossy(&self.raw(record)).into_owned();
            self.rows.amend_last_reject(raw);
        }
        taken
    }

    /// The record again as one line.
    fn raw(&self, record: &ByteRecord) -> Vec<u8> {
        record.iter().collect::<Vec<_>>().join(&self.settings.delimiter)
    }
}

/// Reads delimited text as batches of a schema: an iterator of [`Decoded`].
#[derive(Debug)]
pub struct CsvReader<R> {
    reader: Reader<Bounded<R>>,
    budget: Arc<AtomicU64>,
    rows: CsvRows,
    unknown: Vec<String>,
    source: String,
    skipped: u64,
    done: bool,
}

impl<R: Read> CsvReader<R> {
    /// Reads `input`, which `source` names in rejects. The header, if there is one, is read here.
    ///
    /// # Errors
    ///
    /// As [`RowDecoder::new`]; `InvalidInput` for a nested column, or a header that names none of the columns;
    /// `Unavailable` if the input cannot be read.
    pub fn new(input: R, source: impl Into<String>, schema: SchemaRef, settings: CsvSettings) -> Result<Self> {
        let source = source.into();
        let rows = CsvRows::new(schema, settings)?;
        let budget = Arc::new(AtomicU64::new(ROW_BYTES_MAX as u64));
        let mut input = BufReader::new(input);
        let skipped = skip_mark(&mut input)?;
        let reader = rows.settings.records(Bounded { input, budget: Arc::clone(&budget) });
        let mut csv = Self { reader, budget, rows, unknown: Vec::new(), source, skipped, done: false };
        if csv.rows.settings.header {
            csv.read_header()?;
        }
        Ok(csv)
    }

    /// Names in the header that the schema does not have: their fields are not read.
    #[must_use]
    pub fn unknown_columns(&self) -> &[String] {
        &self.unknown
    }

    fn read_header(&mut self) -> Result<()> {
        let mut header = ByteRecord::new();
        if !self.read(&mut header)? {
            self.done = true;
            return Ok(());
        }
        self.rows.width = header.len();
        if self.rows.settings.columns_by == ColumnsBy::Position {
            return Ok(());
        }
        let names: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name).trim().to_lowercase()).collect();
        let schema = Arc::clone(self.rows.schema());
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().to_lowercase()).collect();
        self.rows.fields = columns.iter().map(|column| names.iter().position(|name| name == column)).collect();
        self.unknown = names.into_iter().filter(|name| !columns.contains(name)).collect();
        if self.rows.fields.iter().all(Option::is_none) {
            let source = &self.source;
            return Err(Error::invalid(format!(
                "the header of \"{source}\" names none of the columns {columns:?}: is it a header?"
            )));
        }
        Ok(())
    }

    fn read(&mut self, record: &mut ByteRecord) -> Result<bool> {
        self.budget.store(ROW_BYTES_MAX as u64, Ordering::Relaxed);
        self.reader.read_byte_record(record).map_err(|error| {
            let line = self.reader.position().line();
            let kind = if self.budget.load(Ordering::Relaxed) == 0 {
                ErrorKind::LimitExceeded
            } else {
                ErrorKind::Unavailable
            };
            Error::new(kind, format!("\"{}\" could not be read past line {line}", self.source)).with_source(error)
        })
    }

    fn batch(&mut self) -> Result<Option<Decoded>> {
        let mut record = ByteRecord::new();
        let (mut seen, start) = (0, self.reader.position().byte());
        while seen < self.rows.settings.batch_rows && self.reader.position().byte() - start < BATCH_BYTES {
            if !self.read(&mut record)? {
                self.done = true;
                break;
            }
            self.push(&record);
            seen += 1;
        }
        if seen == 0 { Ok(None) } else { self.rows.finish().map(Some) }
    }

    fn push(&mut self, record: &ByteRecord) {
        let place = record.position();
        let origin = Origin {
            source: &self.source,
            line: place.map(::csv::Position::line),
            offset: place.map(|place| place.byte() + self.skipped),
        };
        self.rows.push_record(record, origin);
    }
}

impl<R: Read> Iterator for CsvReader<R> {
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

/// Skips a byte order mark.
fn skip_mark<R: Read>(input: &mut BufReader<R>) -> Result<u64> {
    let marked = input.fill_buf().map_err(unreadable)?.starts_with(b"\xEF\xBB\xBF");
    if marked {
        input.consume(3);
    }
    Ok(if marked { 3 } else { 0 })
}

/// Ends in an error when one record takes more than its budget: an open quote must not swallow the file into memory.
#[derive(Debug)]
struct Bounded<R> {
    input: BufReader<R>,
    budget: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        let left = self.budget.load(Ordering::Relaxed).saturating_sub(read as u64);
        self.budget.store(left, Ordering::Relaxed);
        if left == 0 {
            return Err(std::io::Error::other(format!(
                "a record is longer than {ROW_BYTES_MAX} bytes: is a quote left open?"
            )));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]))
    }

    fn read(text: &str, settings: CsvSettings) -> Decoded {
        CsvReader::new(text.as_bytes(), "t.csv", schema(), settings).unwrap().map(Result::unwrap).next().unwrap()
    }

    #[test]
    fn a_file_is_read_by_its_own_header() {
        let decoded =
            read("\u{feff}\"B\",x,a\nn,9,1\n\"m\nn\",9,NA\n", CsvSettings::default().with_null_tokens(["", "NA"]));
        assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        assert_eq!(decoded.batch.column(1).as_string::<i32>().value(1), "m\nn");
        assert!(decoded.nulled.is_empty() && decoded.rejects.is_empty());
    }

    #[test]
    fn ragged_rows_are_rejected_with_their_place_or_filled() {
        let text = "a,b\n1,x\n2\n3,y,z\n";
        let decoded = read(text, CsvSettings::default());
        let rejects: Vec<_> =
            decoded.rejects.iter().map(|r| (r.line.unwrap(), r.offset.unwrap(), r.raw.as_str())).collect();
        assert_eq!(rejects, [(3, 8, "2"), (4, 10, "3,y,z")]);
        assert_eq!(read(text, CsvSettings::default().with_ragged(Ragged::Fill)).batch.num_rows(), 3);
    }

    #[test]
    fn properties_carry_the_settings() {
        let settings = CsvSettings::default().with_delimiter(b'\t').with_quote(None).with_null_tokens(["", "\\N"]);
        assert_eq!(CsvSettings::from_properties(&settings.to_properties()).unwrap(), settings);
        let bad = BTreeMap::from([(COLUMNS_BY.to_owned(), "name".to_owned())]);
        assert!(CsvSettings::from_properties(&bad).unwrap_err().message().contains("header or position"));
    }

    #[test]
    fn a_batch_ends_at_its_bytes_however_few_rows_it_has() {
        let text = format!("a,b\n{}", format!("1,{}\n", "x".repeat(ROW_BYTES_MAX / 2)).repeat(5));
        let batches = CsvReader::new(text.as_bytes(), "t.csv", schema(), CsvSettings::default()).unwrap();
        let rows: Vec<_> = batches.map(|decoded| decoded.unwrap().batch.num_rows()).collect();
        assert_eq!(rows, [2, 2, 1]);
    }

    #[test]
    fn an_open_quote_ends_in_an_error_not_in_all_of_memory() {
        let input = std::io::Cursor::new(b"a,b\n1,\"".to_vec()).chain(std::io::repeat(b'x').take(1 << 30));
        let mut reader = CsvReader::new(input, "t.csv", schema(), CsvSettings::default()).unwrap();
        assert_eq!(reader.next().unwrap().unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert!(reader.next().is_none());
    }
}
