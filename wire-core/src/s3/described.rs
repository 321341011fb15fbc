//! What a client says about an object beside its bytes: its content type, its encoding, its own metadata.
//!
//! Invariant: a description is only ever seen with the bytes it came with. Stores that keep attributes hold both in one; for
//! others it lies in an object of its own, which names the bytes by their entity tag and is passed over when they are others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};

use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, GetOptions, ObjectStore, ObjectStoreExt};
use s3s::S3Result;
use serde::{Deserialize, Serialize};

use super::{error, key};

/// Where descriptions lie that a store does not keep with the object.
const FOLDER: &str = ".%meta";

/// What S3 says of an object whose type nobody told.
pub(super) const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Described {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) metadata: BTreeMap<String, String>,
}

/// The description that a request brings: the fields are the same in all requests that have any.
macro_rules! described {
    ($input:expr) => {
        $crate::s3::described::Described {
            cache_control: $input.cache_control.clone(),
            content_disposition: $input.content_disposition.clone(),
            // It says how the bytes came, not what they are.
            content_encoding: $crate::s3::described::without_chunking($input.content_encoding.as_deref()),
            content_language: $input.content_language.clone(),
            content_type: $input.content_type.clone(),
            metadata: $input.metadata.clone().unwrap_or_default().into_iter().collect(),
        }
    };
}
pub(super) use described;

/// A content encoding less `aws-chunked`.
pub(super) fn without_chunking(encoding: Option<&str>) -> Option<String> {
    let encodings = encoding?.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked");
    Some(encodings.collect::<Vec<_>>().join(",")).filter(|left| !left.is_empty())
}

impl Described {
    pub(super) fn is_empty(&self) -> bool {
        let is_default = |content_type: &String| content_type == DEFAULT_CONTENT_TYPE;
        let plain = Self { content_type: self.content_type.clone().filter(is_default), ..Self::default() };
        *self == plain
    }

    pub(super) fn attributes(&self) -> Attributes {
        let named = [
            (Attribute::CacheControl, &self.cache_control),
            (Attribute::ContentDisposition, &self.content_disposition),
            (Attribute::ContentEncoding, &self.content_encoding),
            (Attribute::ContentLanguage, &self.content_language),
            (Attribute::ContentType, &self.content_type),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let own = self.metadata.iter().map(|(name, value)| (Attribute::Metadata(name.clone().into()), value.clone()));
        named.chain(own).collect()
    }

    pub(super) fn of_attributes(attributes: &Attributes) -> Self {
        let named = |name: &Attribute| attributes.get(name).map(|value| value.to_string());
        let own = attributes.iter().filter_map(|(name, value)| match name {
            Attribute::Metadata(name) => Some((name.to_string(), value.to_string())),
            _ => None,
        });
        Self {
            cache_control: named(&Attribute::CacheControl),
            content_disposition: named(&Attribute::ContentDisposition),
            content_encoding: named(&Attribute::ContentEncoding),
            content_language: named(&Attribute::ContentLanguage),
            content_type: named(&Attribute::ContentType),
            metadata: own.collect(),
        }
    }
}

/// A description in an object of its own.
#[derive(Debug, Serialize, Deserialize)]
struct Beside {
    e_tag: String,
    #[serde(flatten)]
    described: Described,
}

/// Whether a store keeps attributes. Found out by the first put that has any.
#[derive(Debug, Default)]
pub(super) struct Keeping(AtomicU8);

const KEEPS: u8 = 1;
const REFUSES: u8 = 2;

impl Keeping {
    /// The attributes to put with an object, unless the store is known to refuse them.
    pub(super) fn attributes(&self, described: &Described) -> Attributes {
        match self.0.load(Ordering::Relaxed) {
            REFUSES => Attributes::default(),
            _ => described.attributes(),
        }
    }

    /// Takes in how a put with attributes went; whether it is to be made again without.
    pub(super) fn learn<T>(&self, attributes: &Attributes, outcome: &object_store::Result<T>) -> bool {
        let refused = match outcome {
            _ if attributes.is_empty() => return false,
            Ok(_) => false,
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => true,
            Err(_) => return false,
        };
        self.0.store(if refused { REFUSES } else { KEEPS }, Ordering::Relaxed);
        refused
    }

    fn keeps(&self) -> bool {
        self.0.load(Ordering::Relaxed) == KEEPS
    }
}

fn beside(bucket: &str, key: &str) -> S3Result<Path> {
    key::path(&format!("{FOLDER}/{bucket}"), key)
}

/// Stores a description beside an object that was put without it, or removes what an earlier one had.
pub(super) async fn keep(
    store: &dyn ObjectStore,
    keeping: &Keeping,
    (bucket, key): (&str, &str),
    e_tag: &str,
    described: &Described,
) -> S3Result<()> {
    if keeping.keeps() {
        return Ok(());
    }
    if described.is_empty() {
        return forget(store, keeping, bucket, key).await;
    }
    let written = serde_json::to_vec(&Beside { e_tag: e_tag.to_owned(), described: described.clone() });
    let written = written.map_err(s3s::S3Error::internal_error)?;
    store.put(&beside(bucket, key)?, written.into()).await.map(|_| ()).map_err(error::told)
}

pub(super) async fn forget(store: &dyn ObjectStore, keeping: &Keeping, bucket: &str, key: &str) -> S3Result<()> {
    if keeping.keeps() {
        return Ok(());
    }
    match store.delete(&beside(bucket, key)?).await {
        Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error::told(error)),
    }
}

/// The description of an object that was read with these attributes.
pub(super) async fn find(
    store: &dyn ObjectStore,
    keeping: &Keeping,
    (bucket, key): (&str, &str),
    e_tag: Option<&str>,
    attributes: &Attributes,
) -> S3Result<Described> {
    if keeping.keeps() || !attributes.is_empty() {
        return Ok(Described::of_attributes(attributes));
    }
    let read = match store.get_opts(&beside(bucket, key)?, GetOptions::default()).await {
        Ok(found) => found.bytes().await.map_err(error::told)?,
        Err(Error::NotFound { .. }) => return Ok(Described::default()),
        Err(error) => return Err(error::told(error)),
    };
    // One that cannot be read is one of another time.
    let beside = serde_json::from_slice::<Beside>(&read).ok().filter(|beside| Some(&*beside.e_tag) == e_tag);
    Ok(beside.map(|beside| beside.described).unwrap_or_default())
}
