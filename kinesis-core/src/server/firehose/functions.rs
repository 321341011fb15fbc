//! What a client's definitions name and the app brings: functions for Lambda's place, a catalog for Glue's, a store for S3's.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use serde::Deserialize;
use serde_json::Value;
use table_core::Metastore;
use wire_core::WireError;

use super::super::refusal::invalid;
use crate::error::Error;
use crate::firehose::{SchemaSource, Transform};

/// Functions by ARN, the catalog, and the store whose folders are buckets.
#[derive(Clone)]
pub(super) struct Functions {
    /// The delivery stream that wants them, for what is told of it.
    #[cfg_attr(not(feature = "firehose-http"), expect(dead_code, reason = "only what is reached over HTTP is told"))]
    pub(super) arn: String,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) transforms: BTreeMap<String, Arc<dyn Transform>>,
    pub(super) catalog: Option<Arc<dyn Metastore>>,
}

/// A table of the catalog, as a conversion names it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SchemaConfiguration {
    database_name: Option<String>,
    table_name: Option<String>,
    version_id: Option<String>,
}

impl Functions {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { arn: String::new(), store, transforms: BTreeMap::new(), catalog: None }
    }

    /// The same for the delivery stream of this ARN.
    pub(super) fn of(&self, arn: &str) -> Self {
        Self { arn: arn.to_owned(), ..self.clone() }
    }

    /// What a bucket holds.
    pub(super) fn bucket(&self, name: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(Arc::clone(&self.store), name))
    }

    /// The function of this ARN, or behind this URL.
    ///
    /// # Errors
    /// `InvalidArgumentException` if there is none.
    pub(super) fn transform(&self, arn: &str) -> Result<Arc<dyn Transform>, WireError> {
        if let Some(transform) = self.transforms.get(arn) {
            return Ok(Arc::clone(transform));
        }
        #[cfg(feature = "firehose-http")]
        if arn.starts_with("http://") || arn.starts_with("https://") {
            let function = crate::firehose::HttpTransform::new(arn)?;
            return Ok(Arc::new(function.with_delivery_stream_arn(&self.arn)));
        }
        Err(invalid(format!(
            "Lambda function {arn} is not here: the app that serves this registers functions by ARN, and a URL in place of an \
             ARN calls an HTTP endpoint with Lambda's contract."
        )))
    }

    /// The schema of a table in the catalog, as it is whenever it is needed.
    ///
    /// # Errors
    /// `InvalidArgumentException` if there is no catalog, or it is another version's schema that is wanted.
    pub(super) fn schema(&self, configuration: &Value) -> Result<SchemaSource, WireError> {
        let Some(catalog) = &self.catalog else {
            return Err(invalid(
                "SchemaConfiguration is not available here, since there is no catalog: leave it out, and the schema is \
                 inferred from the records.",
            ));
        };
        let table: SchemaConfiguration = serde_json::from_value(configuration.clone())
            .map_err(|error| invalid(format!("SchemaConfiguration does not read: {error}")))?;
        let (Some(database), Some(name)) = (table.database_name, table.table_name) else {
            return Err(invalid("SchemaConfiguration needs DatabaseName and TableName."));
        };
        if let Some(version) = table.version_id.filter(|version| version != "LATEST") {
            return Err(invalid(format!(
                "VersionId {version} of SchemaConfiguration is not available here: LATEST is."
            )));
        }
        let catalog = Arc::clone(catalog);
        Ok(SchemaSource::function(move || {
            let (catalog, database, name) = (Arc::clone(&catalog), database.clone(), name.clone());
            async move {
                let failed = |error: table_core::Error| {
                    Error::new(error.kind(), format!("table {database}.{name} could not be read")).with_source(error)
                };
                match catalog.table(&database, &name).await.map_err(failed)? {
                    Some(table) => Ok(table.file_schema()),
                    None => {
                        Err(Error::not_found(format!("there is no table {database}.{name} for the schema of records")))
                    }
                }
            }
        }))
    }
}
