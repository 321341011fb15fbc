//! From one parsed statement to a physical plan.
//!
//! Invariant: every table is taken from the catalog once, at one version, before anything is planned; the catalog and
//! the store are asked again only by the scans, and each scan lists once.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SQLOptions;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::resolve::resolve_table_references;
use object_store::ObjectStore;
use table_core::Metastore;
use table_core::provider::{BYTES_PER_THREAD, HiveTable};

use super::session::Engine;
use crate::error::{Error, ErrorKind, Result, Stage};
use crate::sql::CATALOG;

/// A table of the query: database, name, provider.
type QueryTable = (String, String, Arc<HiveTable>);

/// A plan that is ready to run.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) state: SessionState,
    tables: Vec<QueryTable>,
}

/// What the scans of a query select, all tables together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScanTotals {
    pub(crate) partitions: u64,
    pub(crate) partitions_total: u64,
    pub(crate) files: u64,
    pub(crate) files_total: Option<u64>,
    pub(crate) bytes_total: Option<u64>,
}

/// Plans a query over tables of `metastore`, whose files lie in `store`.
pub(crate) async fn plan(
    engine: &Engine,
    metastore: &Arc<dyn Metastore>,
    store: &Arc<dyn ObjectStore>,
    database: &str,
    statement: Parsed,
) -> Result<Planned> {
    let tables = resolve(metastore, store, database, &statement).await?;
    let state = engine.session(database, &tables)?;
    let logical = state.statement_to_plan(statement).await?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(&logical)?;
    let logical = state.optimize(&logical)?;
    let bytes = survey(&state, &logical).await?;
    let threads = usize::try_from(bytes.div_ceil(BYTES_PER_THREAD)).unwrap_or(usize::MAX).clamp(1, engine.threads());
    let config = state.config().clone().with_target_partitions(threads);
    let state = SessionStateBuilder::new_from_existing(state).with_config(config).build();
    let plan = state.query_planner().create_physical_plan(&logical, &state).await?;
    Ok(Planned { plan, state, tables })
}

impl Planned {
    pub(crate) fn totals(&self) -> ScanTotals {
        let start = ScanTotals { files_total: Some(0), bytes_total: Some(0), ..ScanTotals::default() };
        self.tables.iter().fold(start, |totals, (_, _, table)| totals.plus(table))
    }

    /// Sums a counter over all nodes of the plan.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        metric(self.plan.as_ref(), name)
    }
}

fn metric(plan: &dyn ExecutionPlan, name: &str) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name(name)).map_or(0, |value| value.as_usize() as u64);
    plan.children().into_iter().fold(own, |sum, child| sum + metric(child.as_ref(), name))
}

impl ScanTotals {
    /// A table that is scanned twice counts its partitions and files once.
    fn plus(self, table: &HiveTable) -> Self {
        let surveys = table.surveys();
        let Some(first) = surveys.first() else { return self };
        let widest = surveys.iter().max_by_key(|survey| survey.files.len()).unwrap_or(first);
        let (partitions, files) = if surveys.len() == 1 {
            (first.partitions.len() as u64, first.files.len() as u64)
        } else {
            let files: BTreeSet<_> =
                surveys.iter().flat_map(|survey| &survey.files).map(|file| &file.object_meta.location).collect();
            let partitions: BTreeSet<_> = surveys.iter().flat_map(|survey| &survey.partitions).collect();
            (partitions.len() as u64, files.len() as u64)
        };
        let add = |sum: Option<u64>, known: Option<u64>| Some(sum?.saturating_add(known?));
        Self {
            partitions: self.partitions + partitions,
            partitions_total: self.partitions_total + first.partitions_total as u64,
            files: self.files + files,
            files_total: add(self.files_total, widest.files_total),
            bytes_total: add(self.bytes_total, widest.bytes_total),
        }
    }
}

/// The tables that the statement names and the catalog knows; what it does not know, planning will refuse.
async fn resolve(
    metastore: &Arc<dyn Metastore>,
    store: &Arc<dyn ObjectStore>,
    database: &str,
    statement: &Parsed,
) -> Result<Vec<QueryTable>> {
    let (references, _) = resolve_table_references(statement, true)?;
    let mut tables = Vec::with_capacity(references.len());
    let mut seen = BTreeSet::new();
    for reference in references {
        let (database, name) = names(&reference, database)?;
        if !seen.insert((database.clone(), name.clone())) {
            continue;
        }
        let Some(def) = metastore.table(&database, &name).await? else { continue };
        let table = HiveTable::new(Arc::clone(metastore), def, Arc::clone(store)).for_one_query();
        tables.push((database, name, Arc::new(table)));
    }
    Ok(tables)
}

fn names(reference: &TableReference, database: &str) -> Result<(String, String)> {
    if let Some(catalog) = reference.catalog()
        && !catalog.eq_ignore_ascii_case(CATALOG)
    {
        let message = format!("catalog \"{catalog}\" does not exist: there is \"{CATALOG}\" only");
        return Err(Error::new(ErrorKind::NotFound, Stage::Metastore, message));
    }
    Ok((reference.schema().unwrap_or(database).to_owned(), reference.table().to_owned()))
}

/// Prunes and lists every scan, and returns the bytes that are left.
async fn survey(state: &SessionState, logical: &LogicalPlan) -> Result<u64> {
    let mut scans = Vec::new();
    logical.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            scans.push((source_as_provider(&scan.source)?, scan.filters.clone()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut bytes = 0u64;
    for (provider, filters) in scans {
        if let Some(table) = provider.downcast_ref::<HiveTable>() {
            bytes = bytes.saturating_add(table.survey(state, &filters).await?.bytes);
        }
    }
    Ok(bytes)
}
