//! Which extents a filter leaves: DataFusion's own pruning, on what is known of each extent.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_schema::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use super::columns::RecordColumn;
use crate::engine::scan::Extent;

/// The last moment that a sequence number can tell.
const ARRIVAL_MS_MAX: i64 = ((1 << 36) - 1) * 1000;

/// The extents that may have a row for which all filters hold.
pub(super) fn prune(
    extents: Vec<Extent>,
    filters: &[Expr],
    prefix: &str,
    schema: &SchemaRef,
    session: &dyn Session,
) -> datafusion::error::Result<Vec<Extent>> {
    let Some(filter) = conjunction(filters.iter().cloned().map(unnormalize_col)) else { return Ok(extents) };
    let named = DFSchema::try_from(Arc::clone(schema))?;
    let filter = session.create_physical_expr(filter, &named)?;
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(schema)).try_build(filter)?;
    let kept = predicate.prune(&Known { extents: &extents, prefix })?;
    Ok(extents.into_iter().zip(kept).filter_map(|(extent, kept)| kept.then_some(extent)).collect())
}

/// What is known of extents without reading them.
struct Known<'a> {
    extents: &'a [Extent],
    prefix: &'a str,
}

impl Known<'_> {
    fn column(&self, column: &Column) -> Option<RecordColumn> {
        let name = column.name.strip_prefix(self.prefix)?;
        RecordColumn::ALL.into_iter().find(|known| known.name() == name)
    }

    fn texts(&self, of: impl Fn(&Extent) -> String) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(self.extents.iter().map(of)))
    }

    fn moments(&self, of: impl Fn(&Extent) -> Option<i64>) -> ArrayRef {
        let moments: TimestampMillisecondArray = self.extents.iter().map(of).collect();
        Arc::new(moments.with_timezone("UTC"))
    }
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        match self.column(column)? {
            RecordColumn::ShardId => Some(self.texts(|extent| extent.shard.stamp.id.to_string())),
            RecordColumn::SequenceNumber => {
                Some(self.texts(|extent| extent.shard.stamp.number(*extent.indices.start(), 0).to_string()))
            }
            RecordColumn::Arrival => Some(self.moments(|extent| extent.earliest_arrival_ms)),
            _ => None,
        }
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        match self.column(column)? {
            RecordColumn::ShardId => Some(self.texts(|extent| extent.shard.stamp.id.to_string())),
            RecordColumn::SequenceNumber => {
                Some(self.texts(|extent| extent.shard.stamp.number(*extent.indices.end(), ARRIVAL_MS_MAX).to_string()))
            }
            RecordColumn::Arrival => Some(self.moments(|extent| extent.latest_arrival_ms)),
            _ => None,
        }
    }

    fn num_containers(&self) -> usize {
        self.extents.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.column(column).map(|_| Arc::new(UInt64Array::from(vec![0; self.extents.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.extents.iter().map(|extent| extent.records))))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if self.column(column)? != RecordColumn::ShardId {
            return None;
        }
        let wanted: HashSet<&str> = values.iter().filter_map(|value| value.try_as_str().flatten()).collect();
        let has = |extent: &Extent| Some(wanted.contains(extent.shard.stamp.id.to_string().as_str()));
        Some(self.extents.iter().map(has).collect())
    }
}
