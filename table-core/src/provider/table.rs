//! The table itself: what DataFusion asks of it and the scan it gets.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::TableType;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use durable_core::ErrorKind;
use object_store::ObjectStore;

use super::by_name::ByName;
use super::filter;
use super::parquet_reader::Readers;
use super::survey::{Survey, survey};
use super::text::TextSource;
use crate::{Error, Format, Metastore, TableDef};

/// Bytes that are worth a thread of their own.
pub const BYTES_PER_THREAD: u64 = 16 * 1024 * 1024;

/// A catalogued table as DataFusion queries it, at the version that its definition carries.
///
/// ```
/// # use std::sync::Arc;
/// # use datafusion::prelude::SessionContext;
/// # use object_store::memory::InMemory;
/// # use table_core::{Change, Column, Database, Format, HiveType, MemoryMetastore, Metastore, TableDef};
/// # use table_core::provider::HiveTable;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let catalog = Arc::new(MemoryMetastore::new());
/// let def = TableDef::new("lake", "trips", "trips", Format::Parquet)
///     .with_columns([Column::new("distance", HiveType::Double)])
///     .with_partition_keys([Column::new("month", HiveType::Int)]);
/// catalog.commit(Change::new().create_database(Database::new("lake")).create_table(def)).await?;
/// let def = catalog.table("lake", "trips").await?.unwrap();
///
/// let session = SessionContext::new();
/// session.register_table("trips", Arc::new(HiveTable::new(catalog, def, Arc::new(InMemory::new()))))?;
/// let rows = session.sql("select count(*) from trips where month = 7").await?.collect().await?;
/// assert_eq!(rows.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
pub struct HiveTable {
    metastore: Arc<dyn Metastore>,
    def: Arc<TableDef>,
    store: Arc<dyn ObjectStore>,
    schema: TableSchema,
    /// What was surveyed so far, when this table lives for one query only.
    surveys: Option<Mutex<Surveys>>,
}

/// Surveys by the filters that led to them.
type Surveys = Vec<(Vec<Expr>, Arc<Survey>)>;

impl fmt::Debug for HiveTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HiveTable").field("def", &self.def).field("store", &self.store).finish_non_exhaustive()
    }
}

impl HiveTable {
    /// The table of this definition; its files lie in `store`, its partitions are known to `metastore`.
    pub fn new(metastore: Arc<dyn Metastore>, def: Arc<TableDef>, store: Arc<dyn ObjectStore>) -> Self {
        let keys = def.partition_keys.iter().map(|key| Arc::new(key.to_field())).collect::<Vec<_>>();
        let schema = TableSchema::builder(file_schema(&def)).with_table_partition_cols(keys).build();
        Self { metastore, def, store, schema, surveys: None }
    }

    /// The same for one query: what was listed once is not listed again when the query is planned, and can be asked
    /// for with [`surveys`](Self::surveys).
    #[must_use]
    pub fn for_one_query(mut self) -> Self {
        self.surveys = Some(Mutex::default());
        self
    }

    /// The definition.
    #[must_use]
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// What was surveyed, if this table lives [`for_one_query`](Self::for_one_query).
    #[must_use]
    pub fn surveys(&self) -> Vec<Arc<Survey>> {
        let surveys =
            self.surveys.as_ref().map(|surveys| surveys.lock().unwrap_or_else(PoisonError::into_inner).clone());
        surveys.unwrap_or_default().into_iter().map(|(_, survey)| survey).collect()
    }

    /// What a scan under these filters will read. Dropping the future stops the listing.
    ///
    /// # Errors
    ///
    /// What the catalog or the store answers; `InvalidInput` for a table of a kind that cannot be read by its files.
    pub async fn survey(&self, session: &dyn Session, filters: &[Expr]) -> crate::Result<Arc<Survey>> {
        let filters = filters.iter().map(unqualified).collect::<Result<Vec<_>>>();
        let filters = filters
            .map_err(|error| Error::new(ErrorKind::Internal, "a filter could not be rewritten").with_source(error))?;
        if let Some(known) = self.known(&filters) {
            return Ok(known);
        }
        let found = Arc::new(survey(self.metastore.as_ref(), self.store.as_ref(), &self.def, session, &filters).await?);
        if let Some(surveys) = &self.surveys {
            surveys.lock().unwrap_or_else(PoisonError::into_inner).push((filters, Arc::clone(&found)));
        }
        Ok(found)
    }

    fn known(&self, filters: &[Expr]) -> Option<Arc<Survey>> {
        let surveys = self.surveys.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        surveys.iter().find(|(known, _)| known == filters).map(|(_, survey)| Arc::clone(survey))
    }

    /// The name under which the session finds the store: one per store, so that tables of two stores can meet.
    fn store_url(&self) -> Result<ObjectStoreUrl> {
        ObjectStoreUrl::parse(format!("table-{:x}://files", Arc::as_ptr(&self.store).cast::<()>().addr()))
    }

    fn source(&self, session: &dyn Session) -> Result<Arc<dyn FileSource>> {
        Ok(match self.def.format {
            Format::Parquet => {
                let mut options = TableParquetOptions {
                    global: session.config_options().execution.parquet.clone(),
                    ..Default::default()
                };
                // Hive's timestamps are microseconds here; as nanoseconds the old 96-bit ones overflow.
                options.global.coerce_int96 = Some("us".to_owned());
                let footers = session.runtime_env().cache_manager.get_file_metadata_cache();
                let readers = Readers::new(Arc::clone(&self.store), footers, self.def.columns.len());
                let source = ParquetSource::new(self.schema.clone()).with_table_parquet_options(options);
                Arc::new(source.with_parquet_file_reader_factory(Arc::new(readers)))
            }
            Format::Csv | Format::Json => {
                Arc::new(TextSource::new(Arc::clone(&self.def), self.schema.clone(), Arc::clone(&self.store)))
            }
        })
    }
}

/// Columns of the files. Parquet's texts are read as views, which saves a copy of each.
fn file_schema(def: &TableDef) -> SchemaRef {
    if def.format != Format::Parquet {
        return def.file_schema();
    }
    let fields = def.columns.iter().map(|column| {
        let field = column.to_field();
        match field.data_type() {
            DataType::Utf8 => Field::new(field.name(), DataType::Utf8View, true),
            DataType::Binary => Field::new(field.name(), DataType::BinaryView, true),
            _ => field,
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The filter with its columns named alone, as a scan gets it.
fn unqualified(filter: &Expr) -> Result<Expr> {
    let plain = |expr: Expr| match expr {
        Expr::Column(mut column) if column.relation.is_some() => {
            column.relation = None;
            Ok(Transformed::yes(Expr::Column(column)))
        }
        expr => Ok(Transformed::no(expr)),
    };
    filter.clone().transform(plain).data()
}

#[async_trait]
impl TableProvider for HiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if filter::is_partition_only(&self.def, filter) {
                TableProviderFilterPushDown::Exact
            } else if filter::is_plain(filter) {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let survey = self.survey(state, filters).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        if survey.files.is_empty() {
            let schema = datafusion::physical_plan::project_schema(self.schema.table_schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let url = self.store_url()?;
        state.runtime_env().register_object_store(url.as_ref(), Arc::clone(&self.store));
        let threads = state.config().target_partitions().min(threads_worth(survey.bytes)).max(1);
        let groups = FileGroup::new(survey.files.clone()).split_files(threads);
        let mut statistics = Statistics::new_unknown(self.schema.table_schema());
        statistics.total_byte_size = Precision::Inexact(usize::try_from(survey.bytes).unwrap_or(usize::MAX));
        let config = FileScanConfigBuilder::new(url, self.source(state)?)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(ByName)))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// How many threads so many bytes are worth: at least one.
fn threads_worth(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(BYTES_PER_THREAD)).unwrap_or(usize::MAX).max(1)
}

const _: fn() = || {
    fn shared<T: Any + Send + Sync>() {}
    shared::<HiveTable>();
};
