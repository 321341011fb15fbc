//! Values of headers and arguments: AMQP 0-9-1's field table, every type of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};

/// A table of named values: headers of a message, arguments of a binding.
pub type Table = BTreeMap<String, Value>;

/// Tables and lists nest at most this deep.
pub const NESTING_MAX: usize = 32;

/// One value of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// No value; in the arguments of a headers binding: the header need only be there.
    Void,
    /// A truth value.
    Bool(bool),
    /// 8 bits, signed.
    I8(i8),
    /// 8 bits, unsigned.
    U8(u8),
    /// 16 bits, signed.
    I16(i16),
    /// 16 bits, unsigned.
    U16(u16),
    /// 32 bits, signed.
    I32(i32),
    /// 32 bits, unsigned.
    U32(u32),
    /// 64 bits, signed.
    I64(i64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// `value / 10^scale`.
    Decimal {
        /// How many of the digits stand behind the point.
        scale: u8,
        /// The digits.
        value: i32,
    },
    /// UTF-8 text.
    Text(String),
    /// Any bytes.
    Bytes(Bytes),
    /// Seconds since 1970.
    Timestamp(u64),
    /// Values in order.
    List(Vec<Value>),
    /// A table within the table.
    Table(Table),
}

impl Value {
    fn depth(&self) -> usize {
        match self {
            Self::List(values) => 1 + values.iter().map(Self::depth).max().unwrap_or(0),
            Self::Table(table) => 1 + table.values().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Bytes in memory, roughly: for accounting.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Bytes(bytes) => bytes.len(),
                Self::List(values) => values.iter().map(Self::weight).sum(),
                Self::Table(table) => weight(table),
                _ => 0,
            }
    }

    fn encode(&self, to: &mut Writer) {
        match self {
            Self::Void => to.u8(0),
            Self::Bool(value) => to.fixed([1, u8::from(*value)]),
            Self::I8(value) => to.fixed([2, value.cast_unsigned()]),
            Self::U8(value) => to.fixed([3, *value]),
            Self::I16(value) => number(to, 4, i64::from(*value)),
            Self::U16(value) => number(to, 5, i64::from(*value)),
            Self::I32(value) => number(to, 6, i64::from(*value)),
            Self::U32(value) => number(to, 7, i64::from(*value)),
            Self::I64(value) => number(to, 8, *value),
            Self::F32(value) => {
                to.u8(9);
                to.fixed(value.to_le_bytes());
            }
            Self::F64(value) => {
                to.u8(10);
                to.fixed(value.to_le_bytes());
            }
            Self::Decimal { scale, value } => {
                to.fixed([11, *scale]);
                to.signed(i64::from(*value));
            }
            Self::Text(text) => {
                to.u8(12);
                to.text(text);
            }
            Self::Bytes(bytes) => {
                to.u8(13);
                to.bytes(bytes);
            }
            Self::Timestamp(seconds) => {
                to.u8(14);
                to.varint(*seconds);
            }
            Self::List(values) => {
                to.u8(15);
                to.size(values.len());
                values.iter().for_each(|value| value.encode(to));
            }
            Self::Table(table) => {
                to.u8(16);
                encode_table(table, to);
            }
        }
    }

    fn decode(from: &mut Reader<'_>, depth: usize) -> Result<Self> {
        if depth > NESTING_MAX {
            return Err(Error::corrupt(format!("a value nests deeper than {NESTING_MAX}")));
        }
        Ok(match from.u8()? {
            0 => Self::Void,
            1 => Self::Bool(from.u8()? != 0),
            2 => Self::I8(from.u8()?.cast_signed()),
            3 => Self::U8(from.u8()?),
            4 => Self::I16(narrow(from)?),
            5 => Self::U16(narrow(from)?),
            6 => Self::I32(narrow(from)?),
            7 => Self::U32(narrow(from)?),
            8 => Self::I64(from.signed()?),
            9 => Self::F32(f32::from_le_bytes(from.fixed()?)),
            10 => Self::F64(f64::from_le_bytes(from.fixed()?)),
            11 => Self::Decimal { scale: from.u8()?, value: narrow(from)? },
            12 => Self::Text(from.text()?.into()),
            13 => Self::Bytes(Bytes::copy_from_slice(from.bytes()?)),
            14 => Self::Timestamp(from.varint()?),
            15 => {
                let count = from.count(1)?;
                Self::List((0..count).map(|_| Self::decode(from, depth + 1)).collect::<Result<_>>()?)
            }
            16 => Self::Table(decode_nested(from, depth + 1)?),
            other => return Err(Error::corrupt(format!("a value has the unknown type {other}"))),
        })
    }
}

fn number(to: &mut Writer, kind: u8, value: i64) {
    to.u8(kind);
    to.signed(value);
}

fn narrow<T: TryFrom<i64>>(from: &mut Reader<'_>) -> Result<T> {
    T::try_from(from.signed()?).map_err(|_| Error::corrupt("a number in a value is out of its type's range"))
}

/// Refuses a table that no reader would take back.
pub(crate) fn check(table: &Table, what: &str) -> Result<()> {
    if table.values().any(|value| value.depth() >= NESTING_MAX) {
        return Err(Error::invalid(format!("{what} nest deeper than {NESTING_MAX}")));
    }
    Ok(())
}

pub(crate) fn weight(table: &Table) -> usize {
    table.iter().map(|(name, value)| name.len() + size_of::<String>() + value.weight()).sum()
}

pub(crate) fn encode_table(table: &Table, to: &mut Writer) {
    to.size(table.len());
    for (name, value) in table {
        to.text(name);
        value.encode(to);
    }
}

pub(crate) fn decode_table(from: &mut Reader<'_>) -> Result<Table> {
    decode_nested(from, 0)
}

fn decode_nested(from: &mut Reader<'_>, depth: usize) -> Result<Table> {
    let count = from.count(2)?;
    let mut table = Table::new();
    for _ in 0..count {
        table.insert(from.text()?.into(), Value::decode(from, depth)?);
    }
    Ok(table)
}

macro_rules! from {
    ($($rust:ty => $variant:ident),+) => {
        $(impl From<$rust> for Value {
            fn from(value: $rust) -> Self {
                Self::$variant(value.into())
            }
        })+
    };
}
from!(bool => Bool, i32 => I32, u32 => U32, i64 => I64, f64 => F64, &str => Text, String => Text, Bytes => Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_comes_back() {
        let inner = Table::from([("x".to_owned(), Value::F64(-0.5)), ("y".to_owned(), Value::Void)]);
        let values = vec![
            Value::Void,
            Value::Bool(true),
            Value::I8(-3),
            Value::U8(200),
            Value::I16(i16::MIN),
            Value::U16(u16::MAX),
            Value::I32(i32::MIN),
            Value::U32(u32::MAX),
            Value::I64(i64::MIN),
            Value::F32(1.5),
            Value::Decimal { scale: 2, value: -1999 },
            Value::Text("naïve".into()),
            Value::Bytes(Bytes::from_static(&[0, 255])),
            Value::Timestamp(u64::MAX),
            Value::Table(inner),
        ];
        let table = Table::from([("all".to_owned(), Value::List(values))]);
        let mut writer = Writer::default();
        encode_table(&table, &mut writer);
        assert_eq!(decode_table(&mut Reader::new(&writer.finish())).unwrap(), table);
    }

    #[test]
    fn nesting_is_bounded_both_ways() {
        let mut value = Value::Void;
        for _ in 0..NESTING_MAX {
            value = Value::List(vec![value]);
        }
        let table = Table::from([("deep".to_owned(), value)]);
        assert_eq!(check(&table, "headers").unwrap_err().message(), "headers nest deeper than 32");
    }
}
