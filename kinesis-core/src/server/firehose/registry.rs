//! The delivery streams that clients of AWS make, kept in an instance of streams and at work while it is open.
//!
//! Each has an internal stream: its records if they are put directly, and in every case its definition, as the state of a
//! consumer. Invariant: a delivery stream exists once its definition is committed, and works as the last one committed says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use durable_core::ErrorKind;
use object_store::ObjectStore;
use serde::{Deserialize, Serialize};
use table_core::Metastore;
use wire_core::WireError;

use super::functions::Functions;
use super::target::{Plan, Target};
use crate::error::{Error, Result};
use crate::firehose::{DeliveryStream, Transform};
use crate::kinesis::Kinesis;
use crate::stream::DataStream;

/// The consumer whose state is the definition.
const DEFINITION: &str = "definition";

/// The API of Amazon Data Firehose over an instance of streams: delivery streams by name, which clients make, put to and
/// delete. Cloning is cheap.
///
/// A bucket `b` of a destination is the folder `b` of the store. Dropping the last clone stops all work, as a crash would:
/// opened again, all goes on.
#[derive(Clone)]
pub struct Firehose {
    shared: Arc<Shared>,
}

struct Shared {
    kinesis: Kinesis,
    functions: Functions,
    /// One changes at a time.
    changing: tokio::sync::Mutex<()>,
    open: RwLock<BTreeMap<String, Arc<Opened>>>,
}

/// A delivery stream at work.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) definition: Definition,
    pub(super) delivery: DeliveryStream,
    internal: DataStream,
}

/// What a delivery stream is, as it is stored.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Definition {
    pub(super) created_ms: i64,
    pub(super) updated_ms: Option<i64>,
    /// From 1, one more with each change of the destination.
    pub(super) version: u64,
    pub(super) source: Option<StreamSource>,
    #[serde(flatten)]
    pub(super) target: Target,
    /// Of the delivery stream; empty in what was stored before there were endpoints to tell it to.
    #[serde(default)]
    pub(super) arn: String,
    pub(super) tags: BTreeMap<String, String>,
}

/// The stream that is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct StreamSource {
    pub(super) stream: String,
    pub(super) stream_arn: String,
    pub(super) role_arn: String,
    pub(super) start_ms: i64,
}

/// Opens the API of Amazon Data Firehose, with what definitions of clients may name.
#[must_use]
pub struct FirehoseBuilder {
    kinesis: Kinesis,
    functions: Functions,
}

impl fmt::Debug for FirehoseBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirehoseBuilder").finish_non_exhaustive()
    }
}

impl FirehoseBuilder {
    /// What a processor of type `Lambda` calls whose `LambdaArn` is this.
    pub fn with_function(mut self, arn: impl Into<String>, transform: impl Transform) -> Self {
        self.functions.transforms.insert(arn.into(), Arc::new(transform));
        self
    }

    /// Where tables are that a `SchemaConfiguration` names: the columns of their files are the schema of conversions.
    pub fn with_catalog(mut self, catalog: Arc<dyn Metastore>) -> Self {
        self.functions.catalog = Some(catalog);
        self
    }

    /// Opens all delivery streams that the instance holds, which go on where they were.
    ///
    /// Dropping the future leaves some of them at work until the instance is dropped.
    ///
    /// # Errors
    /// `Corrupt` if a definition does not read back; `InvalidInput` if one names a function that is not there; as
    /// [`open`](crate::firehose::DeliveryStreamBuilder::open) of each.
    pub async fn open(self) -> Result<Firehose> {
        Firehose::open_all(self.kinesis, self.functions).await
    }
}

impl fmt::Debug for Firehose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firehose").field("delivery_streams", &self.names()).finish_non_exhaustive()
    }
}

impl Definition {
    pub(super) fn created(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.created_ms).unwrap_or_default()
    }

    pub(super) fn updated(&self) -> Option<DateTime<Utc>> {
        self.updated_ms.and_then(DateTime::from_timestamp_millis)
    }
}

impl Firehose {
    /// As [`builder`](Self::builder), without functions and without a catalog.
    ///
    /// # Errors
    /// As [`open`](FirehoseBuilder::open).
    pub async fn open(kinesis: Kinesis, store: Arc<dyn ObjectStore>) -> Result<Self> {
        Self::builder(kinesis, store).open().await
    }

    /// The API over `kinesis`; objects go to `store`.
    pub fn builder(kinesis: Kinesis, store: Arc<dyn ObjectStore>) -> FirehoseBuilder {
        FirehoseBuilder { kinesis, functions: Functions::new(store) }
    }

    async fn open_all(kinesis: Kinesis, functions: Functions) -> Result<Self> {
        let firehose = Self {
            shared: Arc::new(Shared {
                kinesis,
                functions,
                changing: tokio::sync::Mutex::default(),
                open: RwLock::default(),
            }),
        };
        for name in firehose.shared.kinesis.internal_names() {
            let internal = firehose.shared.kinesis.internal_stream(&name).await?;
            // An app's own, or one that was never made to its end.
            let Some(definition) = stored(&internal)? else { continue };
            firehose.start(&name, definition, internal).await?;
        }
        Ok(firehose)
    }

    /// The delivery stream of this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delivery_stream(&self, name: &str) -> Result<DeliveryStream> {
        self.opened(name).map(|opened| opened.delivery.clone())
    }

    /// The names of all delivery streams, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.shared.open.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Stops all delivery streams. What was accepted and not delivered stays in the instance.
    ///
    /// # Errors
    /// `Unavailable` or `Fenced` if the journal cannot go on.
    pub async fn close(&self) -> Result<()> {
        let _changing = self.shared.changing.lock().await;
        let open = std::mem::take(&mut *self.shared.open.write().unwrap_or_else(PoisonError::into_inner));
        let mut closed = Ok(());
        for opened in open.into_values() {
            closed = closed.and(opened.delivery.stop().await);
        }
        closed
    }

    pub(super) fn kinesis(&self) -> &Kinesis {
        &self.shared.kinesis
    }

    pub(super) fn opened(&self, name: &str) -> Result<Arc<Opened>> {
        let open = self.shared.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(name).cloned().ok_or_else(|| Error::not_found(format!("there is no delivery stream '{name}'")))
    }

    pub(super) fn all(&self) -> Vec<Arc<Opened>> {
        self.shared.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Makes a delivery stream.
    ///
    /// # Errors
    /// `AlreadyExists`; `InvalidArgumentException` for a destination that is not possible here.
    pub(super) async fn create(&self, name: &str, definition: Definition) -> Result<(), WireError> {
        self.plan(&definition)?;
        let _changing = self.shared.changing.lock().await;
        let exists = || Error::new(ErrorKind::AlreadyExists, format!("delivery stream '{name}' exists already"));
        if self.opened(name).is_ok() {
            return Err(exists().into());
        }
        let internal = self.shared.kinesis.internal_stream(name).await?;
        if !internal.consumers()?.is_empty() {
            // One that an app works with.
            return Err(exists().into());
        }
        // Before it works: one that works without a definition would be taken for an app's.
        store(&internal, &definition).await?;
        if let Err(error) = self.start(name, definition, internal.clone()).await {
            // Nobody has heard of it yet.
            internal.delete().await?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Commits another definition of a delivery stream, and lets it work by that.
    ///
    /// # Errors
    /// What `change` refuses; `NotFound`.
    pub(super) async fn change(
        &self,
        name: &str,
        change: impl FnOnce(Definition) -> Result<Definition, WireError>,
    ) -> Result<(), WireError> {
        let _changing = self.shared.changing.lock().await;
        let opened = self.opened(name)?;
        let definition = change(opened.definition.clone())?;
        self.plan(&definition)?;
        store(&opened.internal, &definition).await?;
        if definition.target == opened.definition.target {
            let (delivery, internal) = (opened.delivery.clone(), opened.internal.clone());
            self.put(Opened { name: name.to_owned(), definition, delivery, internal });
            return Ok(());
        }
        // At once: where its objects go may be what is to be mended.
        opened.delivery.stop().await?;
        self.start(name, definition, opened.internal.clone()).await?;
        Ok(())
    }

    /// Deletes a delivery stream with what it has not delivered.
    ///
    /// # Errors
    /// `NotFound`.
    pub(super) async fn delete(&self, name: &str) -> Result<(), WireError> {
        let _changing = self.shared.changing.lock().await;
        let opened = self.opened(name)?;
        opened.delivery.delete().await?;
        if opened.definition.source.is_some() {
            opened.internal.delete().await?;
        }
        self.shared.open.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    async fn start(&self, name: &str, definition: Definition, internal: DataStream) -> Result<()> {
        let plan = self.plan(&definition);
        let plan = plan.map_err(|error| Error::invalid(format!("delivery stream '{name}': {error}")))?;
        let Plan { bucket, settings, backup_bucket, transform, schema, destination } = plan;
        let store = self.shared.functions.bucket(&bucket);
        let builder = match &definition.source {
            Some(source) => DeliveryStream::builder(name, self.shared.kinesis.stream(&source.stream)?, store),
            None => DeliveryStream::direct(name, self.shared.kinesis.clone(), store),
        };
        let mut builder = builder.with_settings(settings).with_schema(schema);
        if let Some(bucket) = backup_bucket {
            builder = builder.with_backup_store(self.shared.functions.bucket(&bucket));
        }
        if let Some(transform) = transform {
            builder = builder.with_transform(transform);
        }
        if let Some(destination) = destination {
            builder = builder.with_destination(destination);
        }
        let delivery = builder.open().await?;
        self.put(Opened { name: name.to_owned(), definition, delivery, internal });
        Ok(())
    }

    /// What a definition means here, if all of it can be done.
    fn plan(&self, definition: &Definition) -> Result<Plan, WireError> {
        definition.target.plan(&self.shared.functions.of(&definition.arn))
    }

    fn put(&self, opened: Opened) {
        let mut open = self.shared.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(opened.name.clone(), Arc::new(opened));
    }
}

fn stored(internal: &DataStream) -> Result<Option<Definition>> {
    let Some(state) = internal.consumer(DEFINITION)?.and_then(|consumer| consumer.state) else { return Ok(None) };
    let definition = serde_json::from_slice(&state);
    definition.map(Some).map_err(|error| {
        Error::corrupt(format!("the definition of {} does not read back", internal.name())).with_source(error)
    })
}

async fn store(internal: &DataStream, definition: &Definition) -> Result<()> {
    let state = serde_json::to_vec(definition)
        .map_err(|error| Error::new(ErrorKind::Internal, "a definition has no JSON").with_source(error))?;
    internal.commit(DEFINITION, BTreeMap::new(), Some(Bytes::from(state))).await
}
