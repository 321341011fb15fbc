//! Hive types as Arrow types, and back.
//!
//! Invariant: `HiveType::from_arrow(&t.to_arrow())` is `t`, except that `varchar` and `char` come back as `string`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use crate::hive_type::DECIMAL_PRECISION_MAX;
use crate::{Error, HiveType, Result};

impl HiveType {
    /// The Arrow type that holds it. Timestamps are microseconds without a zone; every nested field is nullable.
    #[must_use]
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::TinyInt => DataType::Int8,
            Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
            Self::String | Self::Varchar(_) | Self::Char(_) => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Binary => DataType::Binary,
            Self::Array(item) => DataType::List(Arc::new(Field::new_list_field(item.to_arrow(), true))),
            Self::Map(key, value) => {
                let entries =
                    vec![Field::new("key", key.to_arrow(), false), Field::new("value", value.to_arrow(), true)];
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
            }
            Self::Struct(fields) => {
                let fields = fields.iter().map(|(name, hive_type)| Field::new(name, hive_type.to_arrow(), true));
                DataType::Struct(fields.collect())
            }
        }
    }

    /// The narrowest Hive type that holds every value of an Arrow type: `UInt32` becomes `bigint`, `UInt64`
    /// `decimal(20,0)`; any timestamp becomes `timestamp`; a column of nulls becomes `string`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what Hive has no type for: times of day, durations, intervals, unions, decimals past 38 digits.
    pub fn from_arrow(arrow: &DataType) -> Result<Self> {
        Ok(match arrow {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::TinyInt,
            DataType::Int16 | DataType::UInt8 => Self::SmallInt,
            DataType::Int32 | DataType::UInt16 => Self::Int,
            DataType::Int64 | DataType::UInt32 => Self::BigInt,
            DataType::UInt64 => Self::Decimal(20, 0),
            DataType::Float16 | DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => decimal(*precision, *scale)?,
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::String,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Binary
            }
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item) => Self::Array(Box::new(Self::from_arrow(item.data_type())?)),
            DataType::Struct(fields) => Self::Struct(struct_fields(fields)?),
            DataType::Map(entries, _) => map(entries)?,
            DataType::Dictionary(_, value) => Self::from_arrow(value)?,
            DataType::RunEndEncoded(_, value) => Self::from_arrow(value.data_type())?,
            other => {
                return Err(Error::invalid(format!("hive has no type for arrow's {other}: cast the column first")));
            }
        })
    }
}

fn decimal(precision: u8, scale: i8) -> Result<HiveType> {
    let fits = precision <= DECIMAL_PRECISION_MAX && u8::try_from(scale).is_ok_and(|scale| scale <= precision);
    if fits {
        Ok(HiveType::Decimal(precision, scale))
    } else {
        Err(Error::invalid(format!(
            "decimal({precision},{scale}) is past hive's decimal(38,38): cast the column first"
        )))
    }
}

fn struct_fields(fields: &Fields) -> Result<Vec<(String, HiveType)>> {
    fields.iter().map(|field| Ok((field.name().clone(), HiveType::from_arrow(field.data_type())?))).collect()
}

fn map(entries: &Field) -> Result<HiveType> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::invalid("an arrow map's entries are not a struct"));
    };
    let [key, value] = fields.as_ref() else {
        return Err(Error::invalid("an arrow map's entries are not a key and a value"));
    };
    Ok(HiveType::Map(
        Box::new(HiveType::from_arrow(key.data_type())?),
        Box::new(HiveType::from_arrow(value.data_type())?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_types_widen_to_the_next_that_holds_them() {
        let pairs = [(DataType::UInt8, "smallint"), (DataType::UInt32, "bigint"), (DataType::UInt64, "decimal(20,0)")];
        for (arrow, hive) in pairs {
            assert_eq!(HiveType::from_arrow(&arrow).unwrap().to_string(), hive);
        }
    }

    #[test]
    fn a_time_of_day_is_refused_by_name() {
        let error = HiveType::from_arrow(&DataType::Time64(TimeUnit::Microsecond)).unwrap_err();
        assert!(error.message().contains("Time64"), "{error}");
    }
}
