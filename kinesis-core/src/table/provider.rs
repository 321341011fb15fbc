//! The table itself: what DataFusion asks of it and the scan it gets.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::columns::RecordColumn;
use super::decode::nullable;
use super::exec::StreamScan;
use super::format::{RecordFormat, Undecodable};
use super::prune::prune;
use crate::error::{Error, Result};
use crate::stream::DataStream;

/// A stream as DataFusion queries it.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::arrow::datatypes::{DataType, Field, Schema};
/// use datafusion::prelude::SessionContext;
/// use kinesis_core::table::{RecordFormat, StreamTable};
/// use kinesis_core::{Kinesis, PutRecord};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let kinesis = Kinesis::memory().open().await?;
/// let stream = kinesis.create_stream("clicks", 4).await?;
/// stream.put_record(PutRecord::new(r#"{"user": "ann", "ms": 12}"#, "ann")).await?;
/// stream.put_record(PutRecord::new(r#"{"user": "bob", "ms": 30}"#, "bob")).await?;
///
/// let fields = vec![Field::new("user", DataType::Utf8, true), Field::new("ms", DataType::Int64, true)];
/// let format = RecordFormat::json(Arc::new(Schema::new(fields)))?;
/// let session = SessionContext::new();
/// session.register_table("clicks", Arc::new(StreamTable::new(stream).with_format(format)?))?;
/// let sql = "SELECT user, ms FROM clicks WHERE approximate_arrival_timestamp > now() - INTERVAL '1 minute' AND ms > 20";
/// let rows = session.sql(sql).await?.collect().await?;
/// assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
/// # Ok(kinesis.close().await?)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StreamTable {
    pub(super) stream: DataStream,
    pub(super) format: Option<RecordFormat>,
    pub(super) undecodable: Undecodable,
    pub(super) prefix: String,
    pub(super) schema: SchemaRef,
}

impl StreamTable {
    /// The stream's records with the columns that every record has. The table keeps the instance open.
    #[must_use]
    pub fn new(stream: DataStream) -> Self {
        let table = Self {
            stream,
            format: None,
            undecodable: Undecodable::default(),
            prefix: String::new(),
            schema: Arc::new(Schema::empty()),
        };
        let schema = Arc::new(table.columns());
        Self { schema, ..table }
    }

    /// With the payload's fields as columns.
    ///
    /// # Errors
    /// `InvalidInput` if one of them has the name of another column.
    pub fn with_format(mut self, format: RecordFormat) -> Result<Self> {
        self.format = Some(format);
        self.checked()
    }

    /// What becomes of records that are not what the format says.
    #[must_use]
    pub fn with_undecodable(mut self, undecodable: Undecodable) -> Self {
        self.undecodable = undecodable;
        self.schema = Arc::new(self.columns());
        self
    }

    /// The columns that every record has are named with this before their names, `_` for instance.
    ///
    /// # Errors
    /// `InvalidInput` if one of them then has the name of a field of the payload.
    pub fn with_record_prefix(mut self, prefix: impl Into<String>) -> Result<Self> {
        self.prefix = prefix.into();
        self.checked()
    }

    fn checked(mut self) -> Result<Self> {
        let schema = self.columns();
        for (place, field) in schema.fields().iter().enumerate() {
            if schema.fields().iter().take(place).any(|other| other.name() == field.name()) {
                return Err(Error::invalid(format!(
                    "two columns are named \"{}\"; give the record's own columns a prefix with with_record_prefix",
                    field.name()
                )));
            }
        }
        self.schema = Arc::new(schema);
        Ok(self)
    }

    fn columns(&self) -> Schema {
        let own = RecordColumn::ALL.into_iter().map(|column| Arc::new(column.field(&self.prefix)));
        let payload = self.format.as_ref().map(|format| match self.undecodable {
            Undecodable::Fail => format.schema().as_ref().clone(),
            Undecodable::Null => nullable(format.schema()),
        });
        let payload = payload.iter().flat_map(|schema| schema.fields().iter().cloned());
        Schema::new(own.chain(payload).collect::<Vec<_>>())
    }
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        let own = |name: &str| self.schema.fields().iter().take(RecordColumn::ALL.len()).any(|own| own.name() == name);
        let support = |filter: &&Expr| match filter.column_refs().iter().any(|column| own(&column.name)) {
            // Extents are left out, rows are not.
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        self.stream.check().map_err(|error| DataFusionError::External(Box::new(error)))?;
        let extents = self.stream.state().extents();
        let all = extents.len();
        let extents = prune(extents, filters, &self.prefix, &self.schema, state)?;
        let threads = state.config().target_partitions();
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        Ok(Arc::new(StreamScan::new(self.clone(), columns, extents, all, threads, limit)?))
    }
}
