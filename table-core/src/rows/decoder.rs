//! Rows in, batches out: the one place where a row is taken whole or rejected whole.
//!
//! Invariant: a rejected row leaves no trace in any column, since its cells are all made before the first is appended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use super::column::ColumnBuilder;
use super::json_cell::{self, Slots};
use super::{Cell, Decoded, Misfit, Origin, ROW_BYTES_MAX};
use crate::{Reject, Result};

/// Decodes rows to a schema. Not shared: one decoder for one thread.
///
/// ```
/// use std::sync::Arc;
/// use table_core::arrow::datatypes::{DataType, Field, Schema};
/// use table_core::{Origin, RowDecoder};
///
/// # fn main() -> table_core::Result<()> {
/// let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("city", DataType::Utf8, true)]);
/// let mut rows = RowDecoder::new(Arc::new(schema))?;
/// let origin = Origin { source: "events.json", ..Origin::default() };
/// rows.push_json(br#"{"id": 1, "city": "Oslo"}"#, origin);
/// rows.push_json(br#"{"id": "one"}"#, origin);
/// rows.push_json(b"not json", origin);
/// let decoded = rows.finish()?;
/// assert_eq!(decoded.batch.num_rows(), 2);
/// assert_eq!(decoded.nulled["id"], 1);
/// assert_eq!(decoded.rejects.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RowDecoder {
    schema: SchemaRef,
    columns: Vec<ColumnBuilder>,
    slots: Slots,
    misfit: Misfit,
    rows: usize,
    nulled: Vec<u64>,
    rejects: Vec<Reject>,
}

impl RowDecoder {
    /// A decoder to a schema.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the schema has a type that text is not decoded to; every type of
    /// [`HiveType::to_arrow`](crate::HiveType::to_arrow) is.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        let columns: Result<Vec<_>> = schema.fields().iter().map(|field| ColumnBuilder::new(field)).collect();
        Ok(Self {
            columns: columns?,
            slots: Slots::new(schema.fields()),
            misfit: Misfit::default(),
            rows: 0,
            nulled: vec![0; schema.fields().len()],
            rejects: Vec::new(),
            schema,
        })
    }

    /// What becomes of values that are none of their column's type.
    #[must_use]
    pub fn with_misfit(mut self, misfit: Misfit) -> Self {
        self.misfit = misfit;
        self
    }

    /// The schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows taken since the last batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row was taken since the last batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes one JSON object; keys are matched without regard to case. Returns whether it was taken; if not, a reject says
    /// why.
    pub fn push_json(&mut self, row: &[u8], origin: Origin<'_>) -> bool {
        if row.len() > ROW_BYTES_MAX {
            return self.reject(
                row,
                origin,
                None,
                format!("the row has {} bytes, at most {ROW_BYTES_MAX} are read", row.len()),
            );
        }
        let text = match simdutf8::compat::from_utf8(row) {
            Ok(text) => text,
            Err(error) => return self.reject(row, origin, None, format!("the row is no UTF-8: {error}")),
        };
        let values = match self.slots.split(text) {
            Ok(values) => values,
            Err(error) => return self.reject(row, origin, None, format!("the row is no JSON object: {error}")),
        };
        let schema = Arc::clone(&self.schema);
        let mut cells = Vec::with_capacity(values.len());
        let mut misfits = vec![0; values.len()];
        for ((field, raw), misfits) in schema.fields().iter().zip(values).zip(&mut misfits) {
            cells.push(raw.map_or(Cell::Null, |raw| json_cell::cell(raw, field.data_type(), misfits)));
        }
        self.take(row, origin, cells, &misfits)
    }

    /// Takes one row of text values, one for each column of the schema; `None` is NULL. Returns whether it was taken; if
    /// not, a reject keeps `raw` and says why.
    pub fn push_texts<'a>(
        &mut self,
        texts: impl IntoIterator<Item = Option<Cow<'a, str>>>,
        raw: &[u8],
        origin: Origin<'_>,
    ) -> bool {
        let schema = Arc::clone(&self.schema);
        let mut texts = texts.into_iter();
        let mut cells = Vec::with_capacity(schema.fields().len());
        let mut misfits = vec![0; schema.fields().len()];
        for (field, misfits) in schema.fields().iter().zip(&mut misfits) {
            let cell = match texts.next().flatten() {
                None => Cell::Null,
                Some(text) => Cell::from_text(text, field.data_type()).unwrap_or_else(|| {
                    *misfits = 1;
                    Cell::Null
                }),
            };
            cells.push(cell);
        }
        self.take(raw, origin, cells, &misfits)
    }

    /// Counts a row as rejected for a reason of the caller's.
    pub fn reject(&mut self, raw: &[u8], origin: Origin<'_>, column: Option<&str>, reason: impl Into<String>) -> bool {
        let mut reject = Reject::new(origin.source, raw, reason).at(origin.line, origin.offset);
        reject.column = column.map(str::to_owned);
        self.rejects.push(reject);
        false
    }

    /// Gives the last reject its row's text, which is costly to make for rows that are taken.
    pub(crate) fn amend_last_reject(&mut self, raw: String) {
        if let Some(reject) = self.rejects.last_mut() {
            reject.raw = raw;
        }
    }

    fn take(&mut self, raw: &[u8], origin: Origin<'_>, cells: Vec<Cell<'_>>, misfits: &[u64]) -> bool {
        let schema = Arc::clone(&self.schema);
        for ((field, cell), misfits) in schema.fields().iter().zip(&cells).zip(misfits) {
            let name = Some(field.name().as_str());
            if *misfits > 0 && self.misfit == Misfit::RejectRow {
                return self.reject(raw, origin, name, format!("the value is no {}", type_name(field.data_type())));
            }
            if *cell == Cell::Null && !field.is_nullable() {
                return self.reject(raw, origin, name, "the column may not be NULL");
            }
        }
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        for (sum, misfits) in self.nulled.iter_mut().zip(misfits) {
            *sum += misfits;
        }
        self.rows += 1;
        true
    }

    /// The rows, rejects and counts since the last batch; the decoder starts again empty.
    ///
    /// # Errors
    ///
    /// `Corrupt` if a nested field that may not be NULL is.
    pub fn finish(&mut self) -> Result<Decoded> {
        let arrays: Result<Vec<_>> = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays?, &options)?;
        let names = self.schema.fields().iter().map(|field| field.name().clone());
        let nulled: BTreeMap<String, u64> =
            names.zip(self.nulled.iter().copied()).filter(|(_, count)| *count > 0).collect();
        self.nulled.fill(0);
        Ok(Decoded { batch, rejects: std::mem::take(&mut self.rejects), nulled })
    }
}

fn type_name(data_type: &DataType) -> String {
    crate::HiveType::from_arrow(data_type).map_or_else(|_| data_type.to_string(), |hive_type| hive_type.to_string())
}
