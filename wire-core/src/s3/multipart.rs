//! Objects that arrive in parts.
//!
//! Invariant: parts lie in the store under their upload's id until it is completed or aborted, so that an upload goes on after a
//! restart, at any of several servers. Only the completed object has its key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use s3s::dto::CompletedPart;
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::described::Described;
use super::place::{Source, e_tag};
use super::{error, pieces};

const FOLDER: &str = ".%uploads";
const ABOUT: &str = "about";

/// The smallest part but the last, as S3 has it.
const PART_BYTES_MIN: u64 = 5 << 20;

pub(super) const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

/// What an upload was begun with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) initiated: DateTime<Utc>,
    pub(super) described: Described,
}

pub(super) struct Upload {
    pub(super) id: String,
    pub(super) about: About,
}

fn folder(id: &str) -> Path {
    Path::from_iter([FOLDER, id])
}

fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

impl Upload {
    pub(super) async fn create(store: &dyn ObjectStore, about: About) -> S3Result<Self> {
        let id = super::random_id();
        let written = serde_json::to_vec(&about).map_err(S3Error::internal_error)?;
        store.put(&folder(&id).join(ABOUT), written.into()).await.map_err(error::told)?;
        Ok(Self { id, about })
    }

    /// The upload of this id, if it is one of this key.
    pub(super) async fn find(store: &dyn ObjectStore, id: &str, bucket: &str, key: &str) -> S3Result<Self> {
        if id.len() != super::ID_CHARS || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(no_such_upload());
        }
        let about = about(store, id).await?.ok_or_else(no_such_upload)?;
        match about.bucket == bucket && about.key == key {
            true => Ok(Self { id: id.to_owned(), about }),
            false => Err(no_such_upload()),
        }
    }

    pub(super) fn part(&self, number: i32) -> Path {
        folder(&self.id).join(format!("{number:05}"))
    }

    pub(super) async fn parts(&self, store: &dyn ObjectStore) -> S3Result<BTreeMap<i32, ObjectMeta>> {
        let found = store.list(Some(&folder(&self.id))).map_err(error::told);
        let number = |meta: &ObjectMeta| meta.location.filename()?.parse().ok();
        found.try_filter_map(async |meta| Ok(number(&meta).map(|number| (number, meta)))).try_collect().await
    }

    /// The parts that the object is made of, in order, if they are there as the client has them.
    pub(super) async fn chosen(&self, store: &dyn ObjectStore, told: Vec<CompletedPart>) -> S3Result<Vec<ObjectMeta>> {
        let there = self.parts(store).await?;
        let mut chosen: Vec<ObjectMeta> = Vec::with_capacity(told.len());
        let mut before = 0;
        let count = told.len();
        if count == 0 {
            return Err(s3_error!(MalformedXML, "You must specify at least one part"));
        }
        for (at, part) in told.into_iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            if number <= before {
                return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
            }
            before = number;
            let found = there.get(&number).filter(|meta| {
                part.e_tag.as_ref().is_none_or(|told| e_tag(meta.e_tag.clone()) == e_tag(Some(told.value().to_owned())))
            });
            let found = found.ok_or_else(|| {
                s3_error!(
                    InvalidPart,
                    "One or more of the specified parts could not be found: part {number} was not uploaded, or its entity \
                     tag is another."
                )
            })?;
            if found.size < PART_BYTES_MIN && at + 1 < count {
                return Err(s3_error!(
                    EntityTooSmall,
                    "Your proposed upload is smaller than the minimum allowed size: part {number} has {} bytes.",
                    found.size
                ));
            }
            chosen.push(found.clone());
        }
        Ok(chosen)
    }

    /// Removes what was kept of it.
    pub(super) async fn remove(&self, store: &dyn ObjectStore) -> S3Result<()> {
        // What the upload is about goes last: until then it can be removed again.
        let about = folder(&self.id).join(ABOUT);
        let parts: Vec<_> = self.parts(store).await?.into_values().map(|meta| Ok(meta.location)).collect();
        let gone = store.delete_stream(futures::stream::iter(parts).boxed()).filter(|deleted| {
            let is_gone = matches!(deleted, Err(object_store::Error::NotFound { .. }));
            std::future::ready(!is_gone)
        });
        gone.try_for_each(async |_| Ok(())).await.map_err(error::told)?;
        match store.delete(&about).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error::told(error)),
        }
    }

    /// Those under way in a bucket, by key and id.
    pub(super) async fn list(store: &dyn ObjectStore, bucket: &str, prefix: &str) -> S3Result<Vec<Self>> {
        let found = match store.list_with_delimiter(Some(&Path::from(FOLDER))).await {
            Ok(found) => found.common_prefixes,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error::told(error)),
        };
        let mut uploads = Vec::new();
        for id in found.iter().filter_map(Path::filename) {
            if let Some(about) = about(store, id).await?
                && about.bucket == bucket
                && about.key.starts_with(prefix)
            {
                uploads.push(Self { id: id.to_owned(), about });
            }
        }
        uploads.sort_by(|one, other| (&one.about.key, &one.id).cmp(&(&other.about.key, &other.id)));
        Ok(uploads)
    }
}

async fn about(store: &dyn ObjectStore, id: &str) -> S3Result<Option<About>> {
    let read = match store.get(&folder(id).join(ABOUT)).await {
        Ok(found) => found.bytes().await.map_err(error::told)?,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error::told(error)),
    };
    Ok(Some(serde_json::from_slice(&read).map_err(S3Error::internal_error)?))
}

/// Parts, one after the other, as one body.
pub(super) struct Joined(BoxStream<'static, object_store::Result<Bytes>>);

impl Joined {
    pub(super) fn new(store: Arc<dyn ObjectStore>, parts: Vec<ObjectMeta>) -> Self {
        let read = move |part: ObjectMeta| {
            let store = Arc::clone(&store);
            async move { store.get(&part.location).await.map(pieces) }
        };
        Self(futures::stream::iter(parts).then(read).try_flatten().boxed())
    }

    /// A piece of one object.
    pub(super) fn of_range(store: Arc<dyn ObjectStore>, object: ObjectMeta, range: Range<u64>) -> Self {
        let read = async move {
            let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
            store.get_opts(&object.location, options).await.map(pieces)
        };
        Self(futures::stream::once(read).try_flatten().boxed())
    }
}

impl Source for Joined {
    async fn next(&mut self) -> S3Result<Option<Bytes>> {
        self.0.try_next().await.map_err(error::told)
    }
}
