//! Columns of a file, and the fields within them, found by name, whatever their case, and read as the table's type.
//!
//! Invariant: a column or field that the file lacks is NULL; one that it holds narrower is widened as Hive does. An exact
//! name wins over one that differs in case; among those the first in the file wins.

use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory};

use super::nested_names::{Renamed, holds_map_in_struct, renamed_type};

/// Adapts expressions over the table's columns to each file's own.
#[derive(Debug)]
pub(super) struct ByName;

impl PhysicalExprAdapterFactory for ByName {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let names: Vec<(String, String)> = table
            .fields()
            .iter()
            .filter_map(|field| Some((field.name().clone(), name_in_file(&file, field.name())?)))
            .collect();
        let renamed = table.fields().iter().map(|field| {
            let name = names.iter().find(|(of_table, _)| of_table == field.name()).map(|(_, of_file)| of_file);
            name.map_or_else(|| field.as_ref().clone(), |name| field.as_ref().clone().with_name(name))
        });
        let table = Arc::new(Schema::new(renamed.collect::<Vec<_>>()));
        let fields = file.fields().iter().map(|field| match table.field_with_name(field.name()) {
            Ok(wanted) => {
                Arc::new(field.as_ref().clone().with_data_type(renamed_type(field.data_type(), wanted.data_type())))
            }
            Err(_) => Arc::clone(field),
        });
        let seen = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), file.metadata().clone()));
        let nested = file.fields().iter().zip(seen.fields()).map(|(file, seen)| {
            // Parquet's reader leaves maps out of the structs that it reads in part; behind a `Renamed` it reads the whole.
            (file != seen || holds_map_in_struct(seen.data_type())).then(|| Arc::clone(seen))
        });
        Ok(Arc::new(Renaming { names, nested: nested.collect(), inner: DefaultPhysicalExprAdapter::new(table, seen) }))
    }
}

/// What the file calls a column, if not by exactly its name.
fn name_in_file(file: &Schema, name: &str) -> Option<String> {
    if file.index_of(name).is_ok() {
        return None;
    }
    file.fields().iter().find(|field| field.name().to_lowercase() == name).map(|field| field.name().clone())
}

/// Renames the table's columns to the file's and the file's nested fields to the table's, then adapts as usual.
#[derive(Debug)]
struct Renaming {
    names: Vec<(String, String)>,
    /// By column of the file: how it is seen, if it is not to be read as it stands.
    nested: Vec<Option<FieldRef>>,
    inner: DefaultPhysicalExprAdapter,
}

impl PhysicalExprAdapter for Renaming {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let renamed = expr.transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
            match self.names.iter().find(|(of_table, _)| of_table == column.name()) {
                Some((_, of_file)) => {
                    Ok(Transformed::yes(Arc::new(Column::new(of_file, column.index())) as Arc<dyn PhysicalExpr>))
                }
                None => Ok(Transformed::no(expr)),
            }
        });
        let adapted = self.inner.rewrite(renamed.data()?)?;
        let nested = adapted.transform(|expr| {
            let column = expr.downcast_ref::<Column>();
            match column.and_then(|column| self.nested.get(column.index())?.as_ref()) {
                Some(seen) => {
                    let renamed = Renamed::new(Arc::clone(&expr), Arc::clone(seen));
                    Ok(Transformed::yes(Arc::new(renamed) as Arc<dyn PhysicalExpr>))
                }
                None => Ok(Transformed::no(expr)),
            }
        });
        nested.data()
    }
}
