//! Which buckets there are.
//!
//! Invariant: a bucket is a first segment of the store's paths, so that `s3://bucket/key` is `bucket/key`. One that was created
//! and is still empty is known by a marker. Segments that are no bucket's name, or kept from clients, are none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use s3s::validation::{AwsNameValidation, NameValidation};
use s3s::{S3Error, S3Result, s3_error};

use super::error;

const FOLDER: &str = ".%buckets";

/// Names that are remembered; more than that are looked up again.
const KNOWN_MAX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Buckets {
    store: Arc<dyn ObjectStore>,
    hidden: BTreeSet<String>,
    /// Buckets that were there when something was last put into them.
    known: Mutex<BTreeSet<String>>,
}

fn marker(name: &str) -> Path {
    Path::from_iter([FOLDER, name])
}

impl Buckets {
    pub(super) fn new(store: Arc<dyn ObjectStore>, hidden: BTreeSet<String>) -> Self {
        Self { store, hidden, known: Mutex::default() }
    }

    /// Fails unless the bucket is there.
    pub(super) async fn expect(&self, name: &str) -> S3Result<()> {
        self.allowed(name)?;
        if self.known().contains(name) {
            return Ok(());
        }
        if self.created(name).await?.is_none() {
            return Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"));
        }
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(name.to_owned());
        Ok(())
    }

    /// The error for an object that is not there, which may be because its bucket is not.
    pub(super) async fn missing(&self, name: &str, error: S3Error) -> S3Error {
        match self.created(name).await {
            Ok(None) => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
            Ok(Some(_)) | Err(_) => error,
        }
    }

    /// Fails for a name that is kept from clients.
    pub(super) fn allowed(&self, name: &str) -> S3Result<()> {
        match self.hidden.contains(name) {
            true => Err(s3_error!(AccessDenied, "`{name}` is what a service of this server keeps its own data under")),
            false => Ok(()),
        }
    }

    pub(super) async fn create(&self, name: &str) -> S3Result<()> {
        self.allowed(name)?;
        let owned = || {
            s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            )
        };
        if self.created(name).await?.is_some() {
            return Err(owned());
        }
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&marker(name), PutPayload::default(), options).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) => Err(owned()),
            Err(error) => Err(error::told(error)),
        }
    }

    pub(super) async fn delete(&self, name: &str) -> S3Result<()> {
        self.allowed(name)?;
        if self.first(name).await?.is_some() {
            return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
        }
        self.known().remove(name);
        match self.store.delete(&marker(name)).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => {
                Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
            }
            Err(error) => Err(error::told(error)),
        }
    }

    /// All buckets with the time since when they are there, by name.
    pub(super) async fn list(&self) -> S3Result<BTreeMap<String, DateTime<Utc>>> {
        let markers = self.store.list(Some(&Path::from(FOLDER))).map_err(error::told);
        let mut buckets: BTreeMap<String, DateTime<Utc>> = markers
            .try_filter_map(async |meta| Ok(meta.location.filename().map(|name| (name.to_owned(), meta.last_modified))))
            .try_collect()
            .await?;
        let found = self.store.list_with_delimiter(None).await.map_err(error::told)?;
        for name in found.common_prefixes.iter().filter_map(Path::filename) {
            if !buckets.contains_key(name)
                && AwsNameValidation::new().validate_bucket_name(name)
                && let Some(since) = self.first(name).await?
            {
                buckets.insert(name.to_owned(), since);
            }
        }
        buckets.retain(|name, _| !self.hidden.contains(name));
        Ok(buckets)
    }

    /// Since when it is there, if it is.
    async fn created(&self, name: &str) -> S3Result<Option<DateTime<Utc>>> {
        if self.hidden.contains(name) {
            return Ok(None);
        }
        match self.store.head(&marker(name)).await {
            Ok(meta) => Ok(Some(meta.last_modified)),
            Err(object_store::Error::NotFound { .. }) => self.first(name).await,
            Err(error) => Err(error::told(error)),
        }
    }

    /// When an object of the bucket was put, if it has any.
    async fn first(&self, name: &str) -> S3Result<Option<DateTime<Utc>>> {
        let first = self.store.list(Some(&Path::from(name))).next().await.transpose().map_err(error::told)?;
        Ok(first.map(|meta| meta.last_modified))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
