//! Fields within a file's columns under the names that the table has for them.
//!
//! Invariant: only names change: no value is copied, and order, types and NULLs stay the file's.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, LargeListArray, ListArray, MapArray, RecordBatch, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

/// The file's type with the table's names for its fields, where they differ in case only.
pub(super) fn renamed_type(file: &DataType, table: &DataType) -> DataType {
    match (file, table) {
        (DataType::Struct(fields), DataType::Struct(wanted)) => DataType::Struct(renamed_fields(fields, wanted)),
        (DataType::List(item), DataType::List(wanted)) => DataType::List(renamed_within(item, wanted)),
        (DataType::LargeList(item), DataType::List(wanted)) => DataType::LargeList(renamed_within(item, wanted)),
        (DataType::Map(entries, sorted), DataType::Map(wanted, _)) => {
            let pair = match (entries.data_type(), wanted.data_type()) {
                (DataType::Struct(pair), DataType::Struct(wanted)) => {
                    pair.iter().zip(wanted).map(|(field, wanted)| renamed_within(field, wanted)).collect()
                }
                _ => return file.clone(),
            };
            DataType::Map(with_type(entries, DataType::Struct(pair)), *sorted)
        }
        _ => file.clone(),
    }
}

fn renamed_fields(fields: &Fields, wanted: &Fields) -> Fields {
    let has = |name: &str| fields.iter().any(|field| field.name() == name);
    let mut taken = vec![false; wanted.len()];
    let renamed = fields.iter().map(|field| {
        let mut places = wanted.iter().zip(&mut taken);
        let place = places.find(|(wanted, taken)| {
            let other_case = || wanted.name().to_lowercase() == field.name().to_lowercase() && !has(wanted.name());
            wanted.name() == field.name() || (!**taken && other_case())
        });
        let Some((wanted, taken)) = place else { return Arc::clone(field) };
        *taken = true;
        let field = renamed_within(field, wanted).as_ref().clone();
        Arc::new(field.with_name(wanted.name()))
    });
    renamed.collect()
}

fn renamed_within(field: &FieldRef, wanted: &Field) -> FieldRef {
    with_type(field, renamed_type(field.data_type(), wanted.data_type()))
}

fn with_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    if *field.data_type() == data_type {
        return Arc::clone(field);
    }
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// Whether a struct within the type, or the type itself, holds a map.
pub(super) fn holds_map_in_struct(data_type: &DataType) -> bool {
    let holds = if matches!(data_type, DataType::Struct(_)) { holds_map } else { holds_map_in_struct };
    children(data_type).iter().any(|field| holds(field.data_type()))
}

fn holds_map(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Map(..)) || children(data_type).iter().any(|field| holds_map(field.data_type()))
}

fn children(data_type: &DataType) -> &[FieldRef] {
    match data_type {
        DataType::Struct(fields) => fields,
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => std::slice::from_ref(item),
        _ => &[],
    }
}

/// The same values under another type of the same shape.
fn renamed(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    Ok(match data_type {
        DataType::Struct(fields) => Arc::new(renamed_struct(array.as_struct(), fields)?),
        DataType::List(item) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            let values = renamed(&values, item.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        DataType::LargeList(item) => {
            let (_, offsets, values, nulls) = array.as_list::<i64>().clone().into_parts();
            let values = renamed(&values, item.data_type())?;
            Arc::new(LargeListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        DataType::Map(entries, sorted) => {
            let (_, offsets, pairs, nulls, _) = array.as_map().clone().into_parts();
            let pairs = match entries.data_type() {
                DataType::Struct(fields) => renamed_struct(&pairs, fields)?,
                _ => pairs,
            };
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?)
        }
        _ => Arc::clone(array),
    })
}

fn renamed_struct(array: &StructArray, fields: &Fields) -> Result<StructArray> {
    let columns = array.columns().iter().zip(fields).map(|(column, field)| renamed(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())?)
}

/// A column of the file as a field with the table's names within.
#[derive(Debug, Eq)]
pub(super) struct Renamed {
    column: Arc<dyn PhysicalExpr>,
    seen: FieldRef,
}

impl Renamed {
    pub(super) fn new(column: Arc<dyn PhysicalExpr>, seen: FieldRef) -> Self {
        Self { column, seen }
    }
}

impl PartialEq for Renamed {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.seen == other.seen
    }
}

impl Hash for Renamed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.seen.hash(state);
    }
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt(f)
    }
}

impl PhysicalExpr for Renamed {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.seen.data_type().clone())
    }

    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(self.seen.is_nullable())
    }

    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::clone(&self.seen))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let column = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(renamed(&column, self.seen.data_type())?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let column = children.pop().unwrap_or_else(|| Arc::clone(&self.column));
        Ok(Arc::new(Self { column, seen: Arc::clone(&self.seen) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HiveType;

    fn check(file: &str, table: &str, expected: &str) {
        let [file, table, expected] = [file, table, expected].map(|text| text.parse::<HiveType>().unwrap().to_arrow());
        assert_eq!(renamed_type(&file, &table), expected);
    }

    #[test]
    fn names_that_differ_in_case_become_the_tables_and_an_exact_one_wins() {
        check("struct<B:int,A:int>", "struct<a:int,b:int>", "struct<b:int,a:int>");
        check("struct<A:int,a:int>", "struct<a:int>", "struct<A:int,a:int>");
        check("struct<aB:int,AB:int>", "struct<ab:int>", "struct<ab:int,AB:int>");
        check("array<map<int,struct<A:int>>>", "array<map<int,struct<a:int>>>", "array<map<int,struct<a:int>>>");
        check("struct<A:struct<B:int>,x:int>", "struct<a:int,y:int>", "struct<a:struct<B:int>,x:int>");
    }
}
