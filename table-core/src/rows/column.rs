//! Columns under construction: cells in, one Arrow array out.
//!
//! Invariant: every column of a batch has as many values as every other; a cell of another shape than the column's, which
//! is a bug of its maker, is appended as NULL rather than shifting the rows.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int8Builder, Int16Builder, Int32Builder, Int64Builder, LargeStringBuilder, ListArray, MapArray, NullBufferBuilder,
    StringBuilder, StructArray, TimestampMicrosecondBuilder, TimestampMillisecondBuilder, TimestampNanosecondBuilder,
    TimestampSecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::Cell;
use crate::{Error, Result};

#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringBuilder),
    LargeText(LargeStringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Second(TimestampSecondBuilder),
    Millisecond(TimestampMillisecondBuilder),
    Microsecond(TimestampMicrosecondBuilder),
    Nanosecond(TimestampNanosecondBuilder),
    List(Nested, FieldRef),
    Map(Nested, FieldRef),
    Struct(Nested, Fields),
}

/// Children of a nested column, with the rows' validity and, for lists and maps, where each row ends.
#[derive(Debug)]
pub(super) struct Nested {
    children: Vec<ColumnBuilder>,
    valid: NullBufferBuilder,
    ends: Vec<i32>,
    items: i32,
}

impl Nested {
    fn new<'a>(fields: impl IntoIterator<Item = &'a FieldRef>) -> Result<Self> {
        let children = fields.into_iter().map(|field| ColumnBuilder::new(field)).collect::<Result<_>>()?;
        Ok(Self { children, valid: NullBufferBuilder::new(0), ends: vec![0], items: 0 })
    }

    /// Ends a row of so many items.
    fn end(&mut self, items: usize, valid: bool) {
        // A row is at most ROW_BYTES_MAX bytes and a batch some thousand rows: items stay within `i32`.
        self.items = self.items.saturating_add(i32::try_from(items).unwrap_or(i32::MAX));
        self.ends.push(self.items);
        self.valid.append(valid);
    }

    fn push(&mut self, child: usize, cell: Cell<'_>) {
        if let Some(child) = self.children.get_mut(child) {
            child.push(cell);
        }
    }

    fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.children.iter_mut().map(ColumnBuilder::finish).collect()
    }

    fn offsets(&mut self) -> OffsetBuffer<i32> {
        self.items = 0;
        OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])))
    }
}

impl ColumnBuilder {
    /// # Errors
    ///
    /// `InvalidInput` for a type that text is not decoded to.
    pub(super) fn new(field: &Field) -> Result<Self> {
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int8 => Self::Int8(Int8Builder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::UInt8 => Self::UInt8(UInt8Builder::new()),
            DataType::UInt16 => Self::UInt16(UInt16Builder::new()),
            DataType::UInt32 => Self::UInt32(UInt32Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => {
                Self::Decimal(Decimal128Builder::new().with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::LargeUtf8 => Self::LargeText(LargeStringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(unit, zone) => Self::timestamp(*unit, zone.clone()),
            DataType::List(item) => Self::List(Nested::new([item])?, Arc::clone(item)),
            DataType::Struct(fields) => Self::Struct(Nested::new(fields)?, fields.clone()),
            DataType::Map(entries, false) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => Self::Map(Nested::new(pair)?, Arc::clone(entries)),
                _ => return Err(undecodable(field)),
            },
            _ => return Err(undecodable(field)),
        })
    }

    fn timestamp(unit: TimeUnit, zone: Option<Arc<str>>) -> Self {
        match unit {
            TimeUnit::Second => Self::Second(TimestampSecondBuilder::new().with_timezone_opt(zone)),
            TimeUnit::Millisecond => Self::Millisecond(TimestampMillisecondBuilder::new().with_timezone_opt(zone)),
            TimeUnit::Microsecond => Self::Microsecond(TimestampMicrosecondBuilder::new().with_timezone_opt(zone)),
            TimeUnit::Nanosecond => Self::Nanosecond(TimestampNanosecondBuilder::new().with_timezone_opt(zone)),
        }
    }

    pub(super) fn push(&mut self, cell: Cell<'_>) {
        match self {
            Self::Boolean(column) => column.append_option(match cell {
                Cell::Boolean(value) => Some(value),
                _ => None,
            }),
            Self::Int8(column) => column.append_option(integer(&cell)),
            Self::Int16(column) => column.append_option(integer(&cell)),
            Self::Int32(column) => column.append_option(integer(&cell)),
            Self::Int64(column) => column.append_option(integer(&cell)),
            Self::UInt8(column) => column.append_option(integer(&cell)),
            Self::UInt16(column) => column.append_option(integer(&cell)),
            Self::UInt32(column) => column.append_option(integer(&cell)),
            #[expect(clippy::cast_possible_truncation, reason = "the cell was made from an f32")]
            Self::Float32(column) => column.append_option(real(&cell).map(|real| real as f32)),
            Self::Float64(column) => column.append_option(real(&cell)),
            Self::Decimal(column) => column.append_option(match cell {
                Cell::Decimal(value) => Some(value),
                _ => None,
            }),
            Self::Text(column) => column.append_option(text(&cell)),
            Self::LargeText(column) => column.append_option(text(&cell)),
            Self::Binary(column) => column.append_option(text(&cell)),
            Self::Date(column) => column.append_option(integer(&cell)),
            Self::Second(column) => column.append_option(integer(&cell)),
            Self::Millisecond(column) => column.append_option(integer(&cell)),
            Self::Microsecond(column) => column.append_option(integer(&cell)),
            Self::Nanosecond(column) => column.append_option(integer(&cell)),
            Self::List(nested, _) => push_list(nested, cell),
            Self::Map(nested, _) => push_map(nested, cell),
            Self::Struct(nested, _) => push_struct(nested, cell),
        }
    }

    /// The array of all values so far; the column starts again empty.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(column) => Arc::new(column.finish()),
            Self::Int8(column) => Arc::new(column.finish()),
            Self::Int16(column) => Arc::new(column.finish()),
            Self::Int32(column) => Arc::new(column.finish()),
            Self::Int64(column) => Arc::new(column.finish()),
            Self::UInt8(column) => Arc::new(column.finish()),
            Self::UInt16(column) => Arc::new(column.finish()),
            Self::UInt32(column) => Arc::new(column.finish()),
            Self::Float32(column) => Arc::new(column.finish()),
            Self::Float64(column) => Arc::new(column.finish()),
            Self::Decimal(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
            Self::LargeText(column) => Arc::new(column.finish()),
            Self::Binary(column) => Arc::new(column.finish()),
            Self::Date(column) => Arc::new(column.finish()),
            Self::Second(column) => Arc::new(column.finish()),
            Self::Millisecond(column) => Arc::new(column.finish()),
            Self::Microsecond(column) => Arc::new(column.finish()),
            Self::Nanosecond(column) => Arc::new(column.finish()),
            Self::List(nested, item) => finish_list(nested, item)?,
            Self::Map(nested, entries) => finish_map(nested, entries)?,
            Self::Struct(nested, fields) => finish_struct(nested, fields)?,
        })
    }
}

fn undecodable(field: &Field) -> Error {
    Error::invalid(format!("column \"{}\": text is not decoded to arrow's {}", field.name(), field.data_type()))
}

fn integer<T: TryFrom<i64>>(cell: &Cell<'_>) -> Option<T> {
    if let Cell::Int(value) = cell { T::try_from(*value).ok() } else { None }
}

fn real(cell: &Cell<'_>) -> Option<f64> {
    if let Cell::Real(value) = cell { Some(*value) } else { None }
}

fn text<'a>(cell: &'a Cell<'_>) -> Option<&'a str> {
    if let Cell::Text(value) = cell { Some(value) } else { None }
}

fn push_list(nested: &mut Nested, cell: Cell<'_>) {
    let Cell::List(items) = cell else { return nested.end(0, false) };
    let count = items.len();
    for item in items {
        nested.push(0, item);
    }
    nested.end(count, true);
}

fn push_map(nested: &mut Nested, cell: Cell<'_>) {
    let Cell::Map(entries) = cell else { return nested.end(0, false) };
    let count = entries.len();
    for (key, value) in entries {
        nested.push(0, key);
        nested.push(1, value);
    }
    nested.end(count, true);
}

fn push_struct(nested: &mut Nested, cell: Cell<'_>) {
    let (mut cells, valid) = match cell {
        Cell::Struct(cells) => (cells.into_iter(), true),
        _ => (Vec::new().into_iter(), false),
    };
    for child in &mut nested.children {
        child.push(cells.next().unwrap_or(Cell::Null));
    }
    nested.valid.append(valid);
}

fn finish_list(nested: &mut Nested, item: &FieldRef) -> Result<ArrayRef> {
    let (offsets, valid) = (nested.offsets(), nested.valid.finish());
    let values = nested.finish()?.pop().ok_or_else(|| Error::invalid("a list without items"))?;
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, valid)?))
}

fn finish_map(nested: &mut Nested, entries: &FieldRef) -> Result<ArrayRef> {
    let (offsets, valid) = (nested.offsets(), nested.valid.finish());
    let DataType::Struct(pair) = entries.data_type() else { return Err(Error::invalid("a map without entries")) };
    let pairs = StructArray::try_new(pair.clone(), nested.finish()?, None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, valid, false)?))
}

fn finish_struct(nested: &mut Nested, fields: &Fields) -> Result<ArrayRef> {
    let length = nested.valid.len();
    let valid = nested.valid.finish();
    let children = nested.finish()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, valid, length)?))
}
