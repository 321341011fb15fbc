//! What a scan will read: the partitions that the filters leave, and their files.
//!
//! Invariant: a partition that the filters exclude is never listed. Files whose name, or a folder of which below the
//! partition, begins with `_` or `.` are not data.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::and_kleene;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use durable_core::ErrorKind;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::filter;
use crate::{Domains, Error, Metastore, PartitionDef, PartitionValues, Result, Scalar, TableDef};

/// Prefixes listed at a time.
const LISTINGS_AT_A_TIME: usize = 32;

/// Past so many partitions the bytes of those that a filter excludes are not summed up.
const PARTITIONS_SUMMED_MAX: usize = 10_000;

/// Folders that make a prefix a table of another kind, whose files must not be read as plain ones.
const OTHER_KINDS: [(&str, &str); 2] = [("_delta_log", "Delta Lake"), (".hoodie", "Apache Hudi")];

/// The outcome of pruning and listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// The files left, in the order of their partitions and names, each with its partition's values.
    pub files: Vec<PartitionedFile>,
    /// The values of each partition left; for a table without partition keys, one without values.
    pub partitions: Vec<PartitionValues>,
    /// Partitions of the table; 1 for a table without partition keys.
    pub partitions_total: usize,
    /// Bytes of the files left.
    pub bytes: u64,
    /// Bytes of the whole table, where the catalog knows those of every excluded partition.
    pub bytes_total: Option<u64>,
    /// Files of the whole table, likewise.
    pub files_total: Option<u64>,
}

/// Prunes, then lists the survivors.
pub(super) async fn survey(
    metastore: &dyn Metastore,
    store: &dyn ObjectStore,
    table: &TableDef,
    session: &dyn Session,
    filters: &[Expr],
) -> Result<Survey> {
    refuse_other_kinds(table)?;
    if table.partition_keys.is_empty() {
        let files = list(store, table.location.clone(), Vec::new()).await?;
        let (bytes, count) = (sum(&files), files.len() as u64);
        return Ok(Survey {
            files,
            partitions: vec![PartitionValues::new()],
            partitions_total: 1,
            bytes,
            bytes_total: Some(bytes),
            files_total: Some(count),
        });
    }
    let domains = filter::domains(table, filters);
    let selection = metastore.select(table, &domains).await?;
    let survivors = evaluate(table, session, filters, selection.partitions)?;
    let mut listings = Vec::with_capacity(survivors.len());
    for partition in &survivors {
        listings.push(list(store, partition.path(table), scalar_values(table, partition)?));
    }
    let files: Vec<Vec<PartitionedFile>> =
        futures::stream::iter(listings).buffered(LISTINGS_AT_A_TIME).try_collect().await?;
    let files: Vec<PartitionedFile> = files.into_iter().flatten().collect();
    let (bytes, count) = (sum(&files), files.len() as u64);
    let (bytes_total, files_total) = totals(metastore, table, &survivors, selection.total, bytes, count).await?;
    let partitions = survivors.into_iter().map(|partition| partition.values).collect();
    Ok(Survey { files, partitions, partitions_total: selection.total, bytes, bytes_total, files_total })
}

fn sum(files: &[PartitionedFile]) -> u64 {
    files.iter().map(|file| file.object_meta.size).sum()
}

fn refuse_other_kinds(table: &TableDef) -> Result<()> {
    let properties = ["table_type", "spark.sql.sources.provider"].into_iter();
    let kind = properties.filter_map(|name| table.properties.get(name)).map(|kind| kind.to_lowercase());
    match kind.into_iter().find(|kind| ["iceberg", "delta", "hudi"].contains(&kind.as_str())) {
        Some(kind) => Err(refused(table, &kind)),
        None => Ok(()),
    }
}

fn refused(table: &TableDef, kind: &str) -> Error {
    let name = format!("{}.{}", table.database, table.name);
    let why = "its files alone do not say which rows are deleted, so it is not read";
    Error::new(ErrorKind::InvalidInput, format!("table \"{name}\" is a table of kind {kind}: {why}"))
}

/// The partitions for which every filter on partition keys alone is true.
fn evaluate(
    table: &TableDef,
    session: &dyn Session,
    filters: &[Expr],
    partitions: Vec<PartitionDef>,
) -> Result<Vec<PartitionDef>> {
    let filters: Vec<&Expr> = filters.iter().filter(|expr| filter::is_partition_only(table, expr)).collect();
    if filters.is_empty() || partitions.is_empty() {
        return Ok(partitions);
    }
    let keep = keep(table, session, &filters, &partitions).map_err(|error| {
        let message = format!("a filter on the partition keys of \"{}.{}\" failed", table.database, table.name);
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })?;
    let keep = keep.as_boolean();
    Ok(partitions.into_iter().zip(keep.iter()).filter(|(_, keep)| *keep == Some(true)).map(|(def, _)| def).collect())
}

/// One vectorised evaluation over all partitions at once.
fn keep(
    table: &TableDef,
    session: &dyn Session,
    filters: &[&Expr],
    partitions: &[PartitionDef],
) -> datafusion::error::Result<ArrayRef> {
    let fields = table.partition_keys.iter().map(crate::Column::to_field).collect::<Vec<_>>();
    let schema = Arc::new(Schema::new(fields));
    let mut rows = Vec::with_capacity(partitions.len());
    for partition in partitions {
        rows.push(scalar_values(table, partition).map_err(|error| DataFusionError::External(Box::new(error)))?);
    }
    let column = |at: usize| ScalarValue::iter_to_array(rows.iter().filter_map(|row| row.get(at).cloned()));
    let columns = (0..table.partition_keys.len()).map(column).collect::<datafusion::error::Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
    let mut kept: Option<ArrayRef> = None;
    for filter in filters {
        let expr = session.create_physical_expr((*filter).clone(), &df_schema)?;
        let passed = expr.evaluate(&batch)?.into_array(batch.num_rows())?;
        kept = Some(match kept {
            Some(before) => Arc::new(and_kleene(before.as_boolean(), passed.as_boolean())?),
            None => passed,
        });
    }
    kept.ok_or_else(|| DataFusionError::Internal("no filter was given".to_owned()))
}

/// A partition's values as DataFusion carries them, of exactly the keys' types.
fn scalar_values(table: &TableDef, partition: &PartitionDef) -> Result<Vec<ScalarValue>> {
    let scalars = partition.scalars(table)?;
    let pairs = table.partition_keys.iter().zip(scalars);
    pairs.map(|(key, value)| scalar_value(&key.hive_type.to_arrow(), value)).collect()
}

fn scalar_value(data_type: &DataType, value: Option<Scalar>) -> Result<ScalarValue> {
    let failed = |error: DataFusionError| {
        Error::new(ErrorKind::InvalidInput, format!("a partition value is no {data_type}")).with_source(error)
    };
    let wide = match value {
        None => return ScalarValue::try_from(data_type).map_err(failed),
        Some(Scalar::Boolean(value)) => ScalarValue::Boolean(Some(value)),
        Some(Scalar::Int(value)) => ScalarValue::Int64(Some(value)),
        Some(Scalar::Real(value)) => ScalarValue::Float64(Some(value.0)),
        Some(Scalar::Decimal(value)) => match data_type {
            DataType::Decimal128(precision, scale) => ScalarValue::Decimal128(Some(value), *precision, *scale),
            _ => return Err(Error::new(ErrorKind::Internal, "a decimal partition value of a key that is none")),
        },
        Some(Scalar::Date(days)) => ScalarValue::Date32(Some(days)),
        Some(Scalar::Timestamp(micros)) => ScalarValue::TimestampMicrosecond(Some(micros), None),
        Some(Scalar::Text(text)) => ScalarValue::Utf8(Some(text)),
    };
    if wide.data_type() == *data_type { Ok(wide) } else { wide.cast_to(data_type).map_err(failed) }
}

/// The data files under a prefix, by name; or the one object that the location names, if it is no prefix.
async fn list(store: &dyn ObjectStore, location: String, values: Vec<ScalarValue>) -> Result<Vec<PartitionedFile>> {
    let prefix = Path::parse(location).map_err(object_store::Error::from)?;
    let mut objects: Vec<ObjectMeta> = store.list(Some(&prefix)).try_collect().await?;
    if objects.is_empty() {
        let object = one_object(store, &prefix).await?;
        return Ok(object
            .map(|object| PartitionedFile::from(object).with_partition_values(values))
            .into_iter()
            .collect());
    }
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    let mut files = Vec::with_capacity(objects.len());
    for object in objects {
        if is_data(&prefix, &object)? {
            files.push(PartitionedFile::from(object).with_partition_values(values.clone()));
        }
    }
    Ok(files)
}

/// A listing leaves out the object that has exactly the prefix's name.
async fn one_object(store: &dyn ObjectStore, location: &Path) -> Result<Option<ObjectMeta>> {
    if location.is_root() {
        return Ok(None);
    }
    match store.head(location).await {
        Ok(object) => Ok(Some(object).filter(|object| object.size > 0)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_data(prefix: &Path, object: &ObjectMeta) -> Result<bool> {
    let Some(below) = object.location.prefix_match(prefix) else { return Ok(false) };
    let mut hidden = false;
    for part in below {
        if let Some((_, kind)) = OTHER_KINDS.iter().find(|(folder, _)| *folder == part.as_ref()) {
            let message = format!("\"{prefix}\" is a {kind} table: its files alone do not say which rows are deleted");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        hidden |= part.as_ref().starts_with(['_', '.']);
    }
    Ok(!hidden && object.size > 0)
}

/// Bytes and files of the whole table: those listed, and those that the catalog knows of what was excluded.
async fn totals(
    metastore: &dyn Metastore,
    table: &TableDef,
    survivors: &[PartitionDef],
    total: usize,
    bytes: u64,
    files: u64,
) -> Result<(Option<u64>, Option<u64>)> {
    if survivors.len() == total {
        return Ok((Some(bytes), Some(files)));
    }
    if total > PARTITIONS_SUMMED_MAX {
        return Ok((None, None));
    }
    let listed: std::collections::BTreeSet<_> = survivors.iter().map(|partition| &partition.values).collect();
    let all = metastore.select(table, &Domains::all()).await?;
    let excluded = all.partitions.iter().filter(|partition| !listed.contains(&partition.values));
    let add = |sum: Option<u64>, known: Option<u64>| Some(sum?.saturating_add(known?));
    Ok(excluded
        .map(|partition| partition.statistics)
        .fold((Some(bytes), Some(files)), |(bytes, files), known| (add(bytes, known.bytes), add(files, known.files))))
}
