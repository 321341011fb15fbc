//! The engine's settings, and a session for one query.
//!
//! Invariant: a session sees the tables of its query and nothing else: no host files, no other store, no other query.
//! Memory and cached footers are shared, and bounded, across the queries of one instance.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use datafusion::execution::cache::cache_manager::{CacheManager, CacheManagerConfig};
use datafusion::execution::disk_manager::{DiskManager, DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use table_core::provider::HiveTable;

use super::host_guard::RegisteredOnly;
use super::joins_yield::JoinsYield;
use crate::error::Result;
use crate::sql::CATALOG;

/// Footers kept in memory, all queries together.
const FOOTER_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a join's side up to which it is built once instead of being split among threads.
const BUILD_SIDE_BYTES: usize = 64 * 1024 * 1024;

/// Rows of a join's side, likewise.
const BUILD_SIDE_ROWS: usize = 10_000_000;

/// Largest consumers of memory that an exhausted pool names.
const CONSUMERS_NAMED: usize = 3;

/// What the engine may use.
#[derive(Clone, Debug)]
pub(crate) struct EngineSettings {
    pub(crate) memory_bytes: usize,
    pub(crate) spill: Option<(PathBuf, u64)>,
    pub(crate) threads: usize,
}

/// What the queries of one instance share.
#[derive(Debug)]
pub(crate) struct Engine {
    memory: Arc<dyn MemoryPool>,
    disk: Arc<DiskManager>,
    caches: Arc<CacheManager>,
    threads: usize,
}

impl Engine {
    pub(crate) fn new(settings: &EngineSettings) -> Result<Self> {
        let pool = FairSpillPool::new(settings.memory_bytes);
        let named = std::num::NonZeroUsize::new(CONSUMERS_NAMED).unwrap_or(std::num::NonZeroUsize::MIN);
        let disk = match &settings.spill {
            Some((dir, bytes)) => DiskManagerBuilder::default()
                .with_mode(DiskManagerMode::Directories(vec![dir.clone()]))
                .with_max_temp_directory_size(*bytes),
            None => DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        };
        let caches =
            CacheManagerConfig::default().with_list_files_cache(None).with_metadata_cache_limit(FOOTER_CACHE_BYTES);
        Ok(Self {
            memory: Arc::new(TrackConsumersPool::new(pool, named)),
            disk: Arc::new(disk.build()?),
            caches: CacheManager::try_new(&caches)?,
            threads: settings.threads,
        })
    }

    /// Threads that one query may use.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// A session that sees these tables, each as (database, name, table).
    pub(crate) fn session(&self, database: &str, tables: &[(String, String, Arc<HiveTable>)]) -> Result<SessionState> {
        let mut env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::clone(&self.memory))
            .with_object_store_registry(Arc::new(RegisteredOnly::default()))
            .build()?;
        env.disk_manager = Arc::clone(&self.disk);
        env.cache_manager = Arc::clone(&self.caches);
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(self.config(database))
            .with_runtime_env(Arc::new(env))
            .with_catalog_list(catalogs(database, tables)?)
            .with_table_factories(std::collections::HashMap::new())
            .with_physical_optimizer_rule(Arc::new(JoinsYield))
            .build();
        Ok(state)
    }

    fn config(&self, database: &str) -> SessionConfig {
        let mut config = SessionConfig::new()
            .with_target_partitions(self.threads)
            .with_default_catalog_and_schema(CATALOG, database)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(false);
        let options = config.options_mut();
        // As Trino reads them: a literal with a point is a decimal, NULL sorts last in either direction.
        options.sql_parser.parse_float_as_decimal = true;
        options.sql_parser.default_null_ordering = "nulls_last".to_owned();
        options.optimizer.hash_join_single_partition_threshold = BUILD_SIDE_BYTES;
        options.optimizer.hash_join_single_partition_threshold_rows = BUILD_SIDE_ROWS;
        config
    }
}

fn catalogs(database: &str, tables: &[(String, String, Arc<HiveTable>)]) -> Result<Arc<dyn CatalogProviderList>> {
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(database, Arc::new(MemorySchemaProvider::new()))?;
    for (database, name, table) in tables {
        let schema = match catalog.schema(database) {
            Some(schema) => schema,
            None => {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(database, Arc::clone(&schema))?;
                schema
            }
        };
        schema.register_table(name.clone(), Arc::clone(table) as _)?;
    }
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(Arc::new(list))
}
