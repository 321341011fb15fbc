//! The scan: extents spread over partitions, each read in order.
//!
//! Invariant: every extent is read by one partition, and a partition holds one stretch at a time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow_schema::SchemaRef;
use datafusion::arrow::compute::take;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::stream;

use super::columns::{RecordColumn, column};
use super::decode::Decoder;
use super::format::Undecodable;
use super::provider::StreamTable;
use crate::engine::log::ShardState;
use crate::engine::scan::Extent;
use crate::error::Error;
use crate::stream::ShardId;

/// What a record of the tail counts as, in bytes, when work is spread.
const TAIL_RECORD_BYTES: u64 = 1024;

/// Reads extents of a stream.
#[derive(Debug)]
pub(super) struct StreamScan {
    table: Arc<StreamTable>,
    /// Places in the table's schema.
    columns: Vec<usize>,
    schema: SchemaRef,
    partitions: Vec<Vec<Extent>>,
    /// Extents before pruning.
    all: usize,
    limit: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl StreamScan {
    pub(super) fn new(
        table: StreamTable,
        columns: Vec<usize>,
        extents: Vec<Extent>,
        all: usize,
        threads: usize,
        limit: Option<usize>,
    ) -> Result<Self> {
        let schema = Arc::new(table.schema.project(&columns)?);
        let partitions = spread(extents, threads);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            table: Arc::new(table),
            columns,
            schema,
            partitions,
            all,
            limit,
            metrics: ExecutionPlanMetricsSet::new(),
            properties: Arc::new(properties),
        })
    }

    fn extents(&self) -> impl Iterator<Item = &Extent> {
        self.partitions.iter().flatten()
    }
}

/// Spreads extents, in their order, over at most `threads` partitions of about the same bytes; at least one.
fn spread(extents: Vec<Extent>, threads: usize) -> Vec<Vec<Extent>> {
    let weight = |extent: &Extent| extent.bytes.max(extent.records * TAIL_RECORD_BYTES * u64::from(!extent.is_sealed));
    let threads = threads.clamp(1, extents.len().max(1));
    let total: u64 = extents.iter().map(weight).sum();
    let share = (total / threads as u64).max(1);
    let mut partitions = vec![Vec::new()];
    let mut filled = 0;
    for extent in extents {
        if filled >= share * partitions.len() as u64 && partitions.len() < threads {
            partitions.push(Vec::new());
        }
        filled += weight(&extent);
        if let Some(partition) = partitions.last_mut() {
            partition.push(extent);
        }
    }
    partitions
}

impl DisplayAs for StreamScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = self.extents().filter(|extent| extent.is_sealed).count();
        let shards: std::collections::BTreeSet<ShardId> = self.extents().map(|extent| extent.shard.stamp.id).collect();
        let format = self.table.format.as_ref().map_or("none", |format| format.name());
        write!(
            f,
            "StreamScan: stream={}, shards={}, segments={sealed}, tails={}, pruned={}, format={format}",
            self.table.stream.name(),
            shards.len(),
            self.extents().count() - sealed,
            self.all - self.extents().count(),
        )?;
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for StreamScan {
    fn name(&self) -> &'static str {
        "StreamScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(extents) = self.partitions.get(partition) else {
            return internal_err!("a scan of {} partitions has no partition {partition}", self.partitions.len());
        };
        let decoder = match &self.table.format {
            Some(format) => {
                let own = RecordColumn::ALL.len();
                let wanted: Vec<usize> = self.columns.iter().filter_map(|column| column.checked_sub(own)).collect();
                let decoder = Decoder::new(format, &wanted, self.table.undecodable);
                (!wanted.is_empty()).then_some(decoder).transpose().map_err(external)?
            }
            None => None,
        };
        let reader = Reader {
            table: Arc::clone(&self.table),
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            decoder,
            extents: extents.clone().into(),
            scanned: VecDeque::new(),
            left: self.limit.unwrap_or(usize::MAX),
            metrics: BaselineMetrics::new(&self.metrics, partition),
        };
        let batches = stream::try_unfold(reader, |mut reader| async move {
            let batch = reader.next().await?;
            Ok(batch.map(|batch| (batch, reader)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let records: u64 = match args.partition() {
            Some(partition) => self.partitions.get(partition).into_iter().flatten().map(|extent| extent.records).sum(),
            None => self.extents().map(|extent| extent.records).sum(),
        };
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        statistics.num_rows = match self.limit {
            Some(limit) => Precision::Inexact(records.min(limit)),
            None => Precision::Exact(records),
        };
        Ok(Arc::new(statistics))
    }
}

/// One partition on its way.
struct Reader {
    table: Arc<StreamTable>,
    columns: Vec<usize>,
    schema: SchemaRef,
    decoder: Option<Decoder>,
    extents: VecDeque<Extent>,
    scanned: VecDeque<(Arc<ShardState>, RecordBatch)>,
    left: usize,
    metrics: BaselineMetrics,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.left > 0 {
            if let Some((shard, batch)) = self.scanned.pop_front() {
                let timer = self.metrics.elapsed_compute().clone();
                let _timed = timer.timer();
                let batch = batch.slice(0, batch.num_rows().min(self.left));
                self.left -= batch.num_rows();
                let batch = self.columns_of(&shard, &batch)?;
                self.metrics.output_rows().add(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some(extent) = self.extents.pop_front() else { break };
            let stream = &self.table.stream;
            let scanned = stream.engine().scan(stream.state(), &extent.shard, extent.indices.clone());
            let Some((batches, next)) = scanned.await.map_err(external)? else { continue };
            self.scanned.extend(batches.iter().flat_map(pieces).map(|batch| (Arc::clone(&extent.shard), batch)));
            if next <= *extent.indices.end() {
                self.extents.push_front(Extent { indices: next..=*extent.indices.end(), ..extent });
            }
        }
        Ok(None)
    }

    /// The wanted columns of scanned records.
    fn columns_of(&mut self, shard: &ShardState, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut decoded = match &mut self.decoder {
            Some(decoder) => {
                let payloads = column(batch, "data")?.as_binary::<i32>();
                let decoded = decoder.decode(payloads).map_err(external)?;
                if let Some((place, why)) = decoded.bad.first().filter(|_| self.table.undecodable == Undecodable::Fail)
                {
                    return Err(external(self.undecodable(shard, batch, *place, why)?));
                }
                let bad: Vec<usize> = decoded.bad.iter().map(|(place, _)| *place).collect();
                with_nulls(decoded.batch.columns(), &bad, payloads.len())?
            }
            None => Vec::new(),
        }
        .into_iter();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            arrays.push(match RecordColumn::ALL.get(*column) {
                Some(own) => own.array(shard.stamp, batch)?,
                None => decoded.next().ok_or_else(|| DataFusionError::Internal("a column is missing".to_owned()))?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }

    fn undecodable(&self, shard: &ShardState, batch: &RecordBatch, place: usize, why: &str) -> Result<Error> {
        let number = RecordColumn::SequenceNumber.array(shard.stamp, &batch.slice(place, 1))?;
        let format = self.table.format.as_ref().map_or("", |format| format.name());
        Ok(Error::invalid(format!(
            "record {} of {} in stream '{}' is no {format} of the table's schema: {why}; leave it out by its \
             sequence_number, or read such records as NULL with Undecodable::Null",
            number.as_string::<i32>().value(0),
            shard.stamp.id,
            self.table.stream.name(),
        )))
    }
}

/// The rows with a row of NULLs at each of the `bad` places, `rows` in all.
fn with_nulls(columns: &[ArrayRef], bad: &[usize], rows: usize) -> Result<Vec<ArrayRef>> {
    if bad.is_empty() {
        return Ok(columns.to_vec());
    }
    let mut next = 0;
    let places: UInt64Array = (0..rows)
        .map(|row| {
            bad.binary_search(&row).is_err().then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    columns.iter().map(|column| Ok(take(column, &places, None)?)).collect()
}

/// A batch in pieces of the usual size.
fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = table_core::BATCH_ROWS;
    (0..batch.num_rows()).step_by(rows).map(|from| batch.slice(from, rows.min(batch.num_rows() - from))).collect()
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
