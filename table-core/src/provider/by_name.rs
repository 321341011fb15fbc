//! Columns of a file found by name, whatever their case, and read as the table's type.
//!
//! Invariant: a column that the file lacks is NULL; one that it holds narrower is widened as Hive does. An exact name
//! wins over one that differs in case; among those the first in the file wins.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapter, PhysicalExprAdapter, PhysicalExprAdapterFactory};

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
        if names.is_empty() {
            return Ok(Arc::new(DefaultPhysicalExprAdapter::new(table, file)));
        }
        let renamed = table.fields().iter().map(|field| {
            let name = names.iter().find(|(of_table, _)| of_table == field.name()).map(|(_, of_file)| of_file);
            name.map_or_else(|| field.as_ref().clone(), |name| field.as_ref().clone().with_name(name))
        });
        let renamed = Arc::new(Schema::new(renamed.collect::<Vec<_>>()));
        Ok(Arc::new(Renaming { names, inner: DefaultPhysicalExprAdapter::new(renamed, file) }))
    }
}

/// What the file calls a column, if not by exactly its name.
fn name_in_file(file: &Schema, name: &str) -> Option<String> {
    if file.index_of(name).is_ok() {
        return None;
    }
    file.fields().iter().find(|field| field.name().to_lowercase() == name).map(|field| field.name().clone())
}

/// Renames the table's columns to the file's, then adapts as usual.
#[derive(Debug)]
struct Renaming {
    names: Vec<(String, String)>,
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
        self.inner.rewrite(renamed.data()?)
    }
}
