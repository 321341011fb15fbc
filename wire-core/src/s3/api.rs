//! S3's operations, as s3s hands them over.
//!
//! Invariant: this file only translates; what an operation does lies in the modules beside it.

use std::sync::Arc;

use axum::body::Body as AxumBody;
use chrono::{DateTime, Utc};
use durable_core::Clock;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Attributes, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, BucketLocationConstraint, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CopyObjectResult,
    CopyPartResult, CopySource, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, EncodingType, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput, GetObjectOutput,
    HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, MetadataDirective, MultipartUpload, Object,
    ObjectStorageClass, Owner, Part, PutObjectInput, PutObjectOutput, Range, StreamingBlob, Timestamp,
    UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::bucket::Buckets;
use super::checks::checks;
use super::described::{DEFAULT_CONTENT_TYPE, Described, described};
use super::incoming::Incoming;
use super::listing::{After, Entry, Lister, Wanted};
use super::multipart::{About, Joined, PART_NUMBERS, Upload};
use super::place::{Condition, Placer, e_tag};
use super::{described, error, key, pieces};
use crate::Settings;

/// Entries of a page at most, and unless fewer are asked for.
const PAGE_MAX: i32 = 1000;

/// Objects of one DeleteObjects.
const DELETES_MAX: usize = 1000;

/// Of those, how many are under way at once.
const DELETES_AT_ONCE: usize = 64;

/// What S3 leaves as it is when a client asks for encoded keys.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*');

/// The objects of a store as S3 has them.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    buckets: Buckets,
    lister: Lister,
    placer: Placer,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

/// Where a copy comes from.
struct Original {
    bucket: String,
    key: String,
    meta: ObjectMeta,
    attributes: Attributes,
}

impl Objects {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        hidden: std::collections::BTreeSet<String>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        Self {
            buckets: Buckets::new(Arc::clone(&store), hidden),
            lister: Lister::new(Arc::clone(&store)),
            placer: Placer::new(Arc::clone(&store)),
            store,
            clock,
            settings,
        }
    }

    fn owner(&self) -> Owner {
        Owner { display_name: None, id: Some(self.settings.account_id.clone()) }
    }

    fn patience(&self) -> (Arc<dyn Clock>, std::time::Duration) {
        (Arc::clone(&self.clock), self.settings.body_timeout)
    }

    /// The error for an object that was not read.
    async fn unread(&self, bucket: &str, error: object_store::Error) -> S3Error {
        let is_missing = matches!(error, object_store::Error::NotFound { .. });
        let told = error::told(error);
        match is_missing {
            true => self.buckets.missing(bucket, told).await,
            false => told,
        }
    }

    /// The source of a copy, as it is if it meets the conditions.
    async fn original(&self, source: &CopySource, asked: Asked<'_>) -> S3Result<Original> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "a copy's source is a bucket and a key here, not an access point"));
        };
        no_version(version_id.as_deref())?;
        self.buckets.allowed(bucket)?;
        let found = match self.store.get_opts(&key::path(bucket, key)?, GetOptions::new().with_head(true)).await {
            Ok(found) => found,
            Err(error) => return Err(self.unread(bucket, error).await),
        };
        // What is no error for a read is a condition not met for a copy.
        asked.check(&found.meta).map_err(|error| match error.code() {
            S3ErrorCode::NotModified => error::precondition(),
            _ => error,
        })?;
        Ok(Original {
            bucket: bucket.to_string(),
            key: key.to_string(),
            meta: found.meta,
            attributes: found.attributes,
        })
    }

    async fn description(&self, original: &Original) -> S3Result<Described> {
        let name = (&*original.bucket, &*original.key);
        let tag = original.meta.e_tag.as_deref();
        described::find(&*self.store, &self.placer.keeping, name, tag, &original.attributes).await
    }

    /// Puts bytes with their description, and tells their entity tag.
    async fn put(
        &self,
        (bucket, key): (&str, &str),
        source: &mut impl super::place::Source,
        condition: Condition,
        described: &Described,
    ) -> S3Result<String> {
        let path = key::path(bucket, key)?;
        let put = self.placer.put(&path, source, condition, described).await;
        self.lister.changed();
        let e_tag = put?;
        described::keep(&*self.store, &self.placer.keeping, (bucket, key), &e_tag, described).await?;
        Ok(e_tag)
    }

    /// Where a part of an upload goes.
    async fn part(&self, id: &str, bucket: &str, key: &str, number: i32) -> S3Result<Path> {
        if !PART_NUMBERS.contains(&number) {
            return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
        }
        Ok(Upload::find(&*self.store, id, bucket, key).await?.part(number))
    }

    async fn remove(&self, bucket: &str, key: &str, condition: &Condition) -> S3Result<()> {
        let path = key::path(bucket, key)?;
        let removal = async {
            if let Condition::Present(_) = condition {
                self.placer.present(&path, condition).await?;
            }
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error::told(error)),
            }
        };
        let removed = self.placer.while_locked(&path, condition, removal).await;
        self.lister.changed();
        removed?;
        described::forget(&*self.store, &self.placer.keeping, bucket, key).await
    }
}

fn no_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "objects have no versions here")),
    }
}

/// Fails for what would be lost without a word.
fn only_bytes(tags: Option<&String>, customer_key: Option<&String>) -> S3Result<()> {
    if tags.is_some_and(|tags| !tags.is_empty()) {
        return Err(s3_error!(NotImplemented, "objects have no tags here"));
    }
    match customer_key {
        Some(_) => Err(s3_error!(NotImplemented, "objects are not encrypted with a client's key here")),
        None => Ok(()),
    }
}

fn tag(value: Option<String>) -> Option<ETag> {
    Some(ETag::Strong(e_tag(value))).filter(|tag| !tag.value().is_empty())
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    std::time::SystemTime::from(time).into()
}

fn time(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    let mut written = Vec::new();
    timestamp.format(s3s::dto::TimestampFormat::DateTime, &mut written).ok()?;
    DateTime::parse_from_rfc3339(std::str::from_utf8(&written).ok()?).ok().map(|time| time.to_utc())
}

fn bytes(size: u64) -> Option<i64> {
    i64::try_from(size).ok()
}

/// What a read asks for. Compared here: stores differ in how they write entity tags, and HTTP's times are whole seconds.
#[derive(Default)]
struct Asked<'a> {
    if_match: Option<&'a ETagCondition>,
    if_none_match: Option<&'a ETagCondition>,
    if_modified_since: Option<&'a Timestamp>,
    if_unmodified_since: Option<&'a Timestamp>,
}

/// The conditions of a request; reads and copies name them differently.
macro_rules! asked {
    ($input:expr) => {
        Asked {
            if_match: $input.if_match.as_ref(),
            if_none_match: $input.if_none_match.as_ref(),
            if_modified_since: $input.if_modified_since.as_ref(),
            if_unmodified_since: $input.if_unmodified_since.as_ref(),
        }
    };
    (copy $input:expr) => {
        Asked {
            if_match: $input.copy_source_if_match.as_ref(),
            if_none_match: $input.copy_source_if_none_match.as_ref(),
            if_modified_since: $input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: $input.copy_source_if_unmodified_since.as_ref(),
        }
    };
}

impl Asked<'_> {
    /// In RFC 9110's order: a tag that is told decides, a time only where none is.
    fn check(&self, meta: &ObjectMeta) -> S3Result<()> {
        let found = e_tag(meta.e_tag.clone());
        let is = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(told) => e_tag(Some(told.value().to_owned())) == found,
        };
        let modified = meta.last_modified.timestamp();
        let is_past = |told: &Timestamp| time(told).is_some_and(|told| modified > told.timestamp());
        let is_met = match (self.if_match, self.if_unmodified_since) {
            (Some(told), _) => is(told),
            (None, Some(told)) => !is_past(told),
            (None, None) => true,
        };
        if !is_met {
            return Err(error::precondition());
        }
        let is_news = match (self.if_none_match, self.if_modified_since) {
            (Some(told), _) => !is(told),
            (None, Some(told)) => is_past(told),
            (None, None) => true,
        };
        match is_news {
            true => Ok(()),
            false => Err(S3ErrorCode::NotModified.into()),
        }
    }
}

/// A read of an object, or a look at it.
struct Read<'a> {
    bucket: &'a str,
    key: &'a str,
    version_id: Option<&'a str>,
    part_number: Option<i32>,
    range: Option<&'a Range>,
    customer_key: Option<&'a String>,
    asked: Asked<'a>,
}

macro_rules! read {
    ($input:expr) => {
        Read {
            bucket: &$input.bucket,
            key: &$input.key,
            version_id: $input.version_id.as_deref(),
            part_number: $input.part_number,
            range: $input.range.as_ref(),
            customer_key: $input.sse_customer_key.as_ref(),
            asked: asked!($input),
        }
    };
}

fn no_such_range() -> S3Error {
    s3_error!(InvalidRange, "The requested range is not satisfiable")
}

/// There is one part here, whatever an object was put in.
fn whole_object(part_number: Option<i32>) -> S3Result<()> {
    match part_number {
        None | Some(1) => Ok(()),
        Some(_) => Err(s3_error!(InvalidPart, "The requested partnumber is not satisfiable")),
    }
}

/// The range that a store is to read.
fn range(range: &Range) -> GetRange {
    match *range {
        Range::Int { first, last: None } => GetRange::Offset(first),
        Range::Int { first, last: Some(last) } => GetRange::Bounded(first..last.saturating_add(1)),
        Range::Suffix { length } => GetRange::Suffix(length),
    }
}

/// What a reader gets beside the bytes: the same for a read and a look.
macro_rules! told {
    ($Output:ident, $meta:expr, $described:expr) => {{
        let described = $described;
        $Output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: described.cache_control,
            content_disposition: described.content_disposition,
            content_encoding: described.content_encoding,
            content_language: described.content_language,
            content_length: bytes($meta.size),
            content_type: Some(described.content_type.unwrap_or_else(|| DEFAULT_CONTENT_TYPE.to_owned())),
            e_tag: tag($meta.e_tag.clone()),
            last_modified: Some(timestamp($meta.last_modified)),
            metadata: Some(described.metadata.into_iter().collect()),
            ..$Output::default()
        }
    }};
}

/// A page of keys as both forms of ListObjects have it.
struct Listed {
    contents: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    next: Option<After>,
}

/// Keys as a client asked to have them.
fn encoded(key: String, encoding: Option<&EncodingType>) -> String {
    match encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
        true => utf8_percent_encode(&key, URL_ENCODED).to_string(),
        false => key,
    }
}

fn page_size(told: Option<i32>) -> S3Result<i32> {
    match told.unwrap_or(PAGE_MAX) {
        0.. => Ok(told.unwrap_or(PAGE_MAX).min(PAGE_MAX)),
        _ => Err(s3_error!(InvalidArgument, "max-keys must not be negative")),
    }
}

impl Objects {
    async fn listed(
        &self,
        wanted: Wanted,
        after: Option<After>,
        entries_max: i32,
        (encoding, owner): (Option<&EncodingType>, bool),
    ) -> S3Result<Listed> {
        self.buckets.expect(&wanted.bucket).await?;
        let page = self.lister.page(wanted, after, usize::try_from(entries_max).unwrap_or_default()).await?;
        let mut listed = Listed { contents: Vec::new(), prefixes: Vec::new(), next: page.next };
        for entry in page.entries {
            match entry {
                Entry::Object(key, meta) => listed.contents.push(Object {
                    e_tag: tag(meta.e_tag),
                    key: Some(encoded(key, encoding)),
                    last_modified: Some(timestamp(meta.last_modified)),
                    owner: owner.then(|| self.owner()),
                    size: bytes(meta.size),
                    storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                    ..Object::default()
                }),
                Entry::Prefix(prefix) => {
                    listed.prefixes.push(CommonPrefix { prefix: Some(encoded(prefix, encoding)) });
                }
            }
        }
        Ok(listed)
    }

    async fn found(&self, read: Read<'_>, head: bool) -> S3Result<(GetResult, Described)> {
        no_version(read.version_id)?;
        whole_object(read.part_number)?;
        only_bytes(None, read.customer_key)?;
        self.buckets.allowed(read.bucket)?;
        let path = key::path(read.bucket, read.key)?;
        let options = GetOptions { head, range: read.range.map(range), ..GetOptions::default() };
        let found = match self.store.get_opts(&path, options).await {
            Ok(found) => found,
            Err(error) => return Err(self.unranged(&read, &path, error).await),
        };
        read.asked.check(&found.meta)?;
        if read.range.is_some_and(|range| range.check(found.meta.size).is_err() || found.meta.size == 0) {
            return Err(no_such_range());
        }
        let name = (read.bucket, read.key);
        let tag = found.meta.e_tag.as_deref();
        let described = described::find(&*self.store, &self.placer.keeping, name, tag, &found.attributes).await?;
        Ok((found, described))
    }

    /// Why an object was not read: stores say little of a range that it does not have.
    async fn unranged(&self, read: &Read<'_>, path: &Path, error: object_store::Error) -> S3Error {
        if let Some(range) = read.range
            && !matches!(error, object_store::Error::NotFound { .. })
            && let Ok(meta) = self.store.head(path).await
            && range.check(meta.size).is_err()
        {
            return no_such_range();
        }
        self.unread(read.bucket, error).await
    }
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let input = request.input;
        let after = input.continuation_token.unwrap_or_default();
        let mut found = self.buckets.list().await?;
        found.retain(|name, _| *name > after && input.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix)));
        let buckets_max = input.max_buckets.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX).max(1);
        let is_more = found.len() > buckets_max;
        let buckets: Vec<Bucket> = found
            .into_iter()
            .take(buckets_max)
            .map(|(name, since)| Bucket {
                bucket_region: input.max_buckets.map(|_| self.settings.region.clone()),
                creation_date: Some(timestamp(since)),
                name: Some(name),
            })
            .collect();
        let continuation_token = buckets.last().filter(|_| is_more).and_then(|bucket| bucket.name.clone());
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            continuation_token,
            owner: Some(self.owner()),
            prefix: input.prefix,
        }))
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = request.input.bucket;
        self.buckets.create(&name).await?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{name}")) }))
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.buckets.delete(&request.input.bucket).await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.buckets.expect(&request.input.bucket).await?;
        let region = Some(self.settings.region.clone());
        Ok(S3Response::new(HeadBucketOutput { bucket_region: region, ..HeadBucketOutput::default() }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.buckets.expect(&request.input.bucket).await?;
        // S3's first region has no name here.
        let region = Some(self.settings.region.clone()).filter(|region| region != "us-east-1");
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: region.map(BucketLocationConstraint::from) }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.buckets.expect(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let max_keys = page_size(input.max_keys)?;
        let wanted = Wanted {
            bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
        };
        // A marker may be a folded prefix, as the page before has told it.
        let is_prefix =
            |marker: &str| input.delimiter.as_ref().is_some_and(|it| !it.is_empty() && marker.ends_with(it.as_str()));
        let after = input.marker.clone().filter(|marker| !marker.is_empty()).map(|marker| match is_prefix(&marker) {
            true => After::Prefix(marker),
            false => After::Key(marker),
        });
        let encoding = input.encoding_type.as_ref();
        let listed = self.listed(wanted, after, max_keys, (encoding, true)).await?;
        let next = listed.next.map(|(After::Key(name) | After::Prefix(name))| encoded(name, encoding));
        Ok(S3Response::new(ListObjectsOutput {
            common_prefixes: Some(listed.prefixes),
            contents: Some(listed.contents),
            delimiter: input.delimiter.clone().map(|delimiter| encoded(delimiter, encoding)),
            is_truncated: Some(next.is_some()),
            marker: Some(encoded(input.marker.unwrap_or_default(), encoding)),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            // Without a delimiter the last key is where to go on from, as S3 has it.
            next_marker: next.filter(|_| input.delimiter.is_some()),
            prefix: Some(encoded(input.prefix.unwrap_or_default(), encoding)),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let max_keys = page_size(input.max_keys)?;
        let wanted = Wanted {
            bucket: input.bucket.clone(),
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone(),
        };
        let after = match &input.continuation_token {
            Some(token) => Some(
                After::of_token(token)
                    .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))?,
            ),
            None => input.start_after.clone().filter(|after| !after.is_empty()).map(After::Key),
        };
        let encoding = input.encoding_type.as_ref();
        let owner = input.fetch_owner.unwrap_or_default();
        let listed = self.listed(wanted, after, max_keys, (encoding, owner)).await?;
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(listed.contents.len() + listed.prefixes.len()).ok(),
            common_prefixes: Some(listed.prefixes),
            contents: Some(listed.contents),
            continuation_token: input.continuation_token,
            delimiter: input.delimiter.map(|delimiter| encoded(delimiter, encoding)),
            is_truncated: Some(listed.next.is_some()),
            max_keys: Some(max_keys),
            name: Some(input.bucket),
            next_continuation_token: listed.next.as_ref().map(After::token),
            prefix: Some(encoded(input.prefix.unwrap_or_default(), encoding)),
            start_after: input.start_after.map(|after| encoded(after, encoding)),
            encoding_type: input.encoding_type.clone(),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        let (found, described) = self.found(read!(input), false).await?;
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let body = s3s::Body::http_body_unsync(AxumBody::from_stream(pieces(found)));
        let output = GetObjectOutput {
            body: Some(StreamingBlob::from(body)),
            content_length: bytes(range.end.saturating_sub(range.start)),
            content_range: content_range(input.range.as_ref(), &range, meta.size),
            ..told!(GetObjectOutput, meta, described)
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        let (found, described) = self.found(read!(input), true).await?;
        let asked = input.range.as_ref();
        let range = asked.and_then(|range| range.check(found.meta.size).ok()).unwrap_or(0..found.meta.size);
        let output = HeadObjectOutput {
            content_length: bytes(range.end.saturating_sub(range.start)),
            content_range: content_range(asked, &range, found.meta.size),
            ..told!(HeadObjectOutput, found.meta, described)
        };
        Ok(S3Response::new(output))
    }

    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let body = request.input.body.take();
        let input = &request.input;
        only_bytes(input.tagging.as_ref(), input.sse_customer_key.as_ref())?;
        if input.write_offset_bytes.is_some_and(|offset| offset != 0) {
            return Err(s3_error!(NotImplemented, "objects cannot be appended to here"));
        }
        self.buckets.expect(&input.bucket).await?;
        let condition = Condition::new(input.if_match.clone(), input.if_none_match.clone())?;
        let described = described!(input);
        let mut source = Incoming::new(&request, body, input.content_length, checks!(input), self.patience());
        let e_tag = self.put((&input.bucket, &input.key), &mut source, condition, &described).await?;
        let sums = source.sums;
        Ok(S3Response::new(PutObjectOutput {
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            e_tag: tag(Some(e_tag)),
            ..PutObjectOutput::default()
        }))
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = &request.input;
        only_bytes(input.tagging.as_ref(), input.sse_customer_key.as_ref())?;
        only_bytes(None, input.copy_source_sse_customer_key.as_ref())?;
        self.buckets.expect(&input.bucket).await?;
        let original = self.original(&input.copy_source, asked!(copy input)).await?;
        let is_replaced = input.metadata_directive.as_ref().is_some_and(|it| it.as_str() == MetadataDirective::REPLACE);
        let is_itself = original.bucket == *input.bucket && original.key == *input.key;
        if is_itself && !is_replaced {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes."
            ));
        }
        let described = match is_replaced {
            true => described!(input),
            false => self.description(&original).await?,
        };
        let mut source = Joined::new(Arc::clone(&self.store), vec![original.meta]);
        let to = (&*input.bucket, &*input.key);
        let e_tag = self.put(to, &mut source, Condition::Always, &described).await?;
        let copied = CopyObjectResult {
            e_tag: tag(Some(e_tag)),
            last_modified: Some(timestamp(self.clock.now())),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(copied), ..CopyObjectOutput::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        no_version(input.version_id.as_deref())?;
        self.buckets.expect(&input.bucket).await?;
        let condition = Condition::new(input.if_match, None)?;
        self.remove(&input.bucket, &input.key, &condition).await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        self.buckets.expect(&input.bucket).await?;
        if input.delete.objects.is_empty() || input.delete.objects.len() > DELETES_MAX {
            return Err(s3_error!(MalformedXML, "a DeleteObjects names 1 to {DELETES_MAX} objects"));
        }
        let is_quiet = input.delete.quiet.unwrap_or_default();
        let bucket = &*input.bucket;
        let removals = input.delete.objects.into_iter().map(|object| async move {
            let condition =
                object.e_tag.clone().map_or(Condition::Always, |tag| Condition::Present(Some(tag.into_value())));
            let removed = match no_version(object.version_id.as_deref()) {
                Ok(()) => self.remove(bucket, &object.key, &condition).await,
                refused => refused,
            };
            (object.key, removed)
        });
        let outcomes: Vec<_> = futures::stream::iter(removals).buffered(DELETES_AT_ONCE).collect().await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (key, removed) in outcomes {
            match removed {
                Ok(()) if is_quiet => {}
                Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
                Err(error) => errors.push(s3s::dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    key: Some(key),
                    version_id: None,
                }),
            }
        }
        let errors = Some(errors).filter(|errors| !errors.is_empty());
        Ok(S3Response::new(DeleteObjectsOutput { deleted: Some(deleted), errors, request_charged: None }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        only_bytes(input.tagging.as_ref(), input.sse_customer_key.as_ref())?;
        self.buckets.expect(&input.bucket).await?;
        // A key that cannot be is told before its parts are sent.
        key::path(&input.bucket, &input.key)?;
        let about = About {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            initiated: self.clock.now(),
            described: described!(input),
        };
        let upload = Upload::create(&*self.store, about).await?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload.id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, mut request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let body = request.input.body.take();
        let input = &request.input;
        only_bytes(None, input.sse_customer_key.as_ref())?;
        let part = self.part(&input.upload_id, &input.bucket, &input.key, input.part_number).await?;
        let mut source = Incoming::new(&request, body, input.content_length, checks!(input), self.patience());
        let e_tag = self.placer.put(&part, &mut source, Condition::Always, &Described::default()).await?;
        let sums = source.sums;
        Ok(S3Response::new(UploadPartOutput {
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            e_tag: tag(Some(e_tag)),
            ..UploadPartOutput::default()
        }))
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = &request.input;
        only_bytes(None, input.copy_source_sse_customer_key.as_ref())?;
        let part = self.part(&input.upload_id, &input.bucket, &input.key, input.part_number).await?;
        let original = self.original(&input.copy_source, asked!(copy input)).await?;
        let size = original.meta.size;
        let mut source = match input.copy_source_range.as_deref() {
            None => Joined::new(Arc::clone(&self.store), vec![original.meta]),
            Some(told) => {
                let wanted = Range::parse(told).ok().and_then(|range| range.check(size).ok());
                let wanted = wanted.ok_or_else(|| {
                    s3_error!(
                        InvalidArgument,
                        "The x-amz-copy-source-range value must be of the form bytes=first-last, \
                        within the {size} bytes of the source"
                    )
                })?;
                Joined::of_range(Arc::clone(&self.store), original.meta, wanted)
            }
        };
        let e_tag = self.placer.put(&part, &mut source, Condition::Always, &Described::default()).await?;
        let copied = CopyPartResult {
            e_tag: tag(Some(e_tag)),
            last_modified: Some(timestamp(self.clock.now())),
            ..CopyPartResult::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(copied), ..UploadPartCopyOutput::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let upload = Upload::find(&*self.store, &input.upload_id, &input.bucket, &input.key).await?;
        let told = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts = upload.chosen(&*self.store, told).await?;
        let size: u64 = parts.iter().map(|part| part.size).sum();
        if let Some(told) = input.mpu_object_size.filter(|told| u64::try_from(*told) != Ok(size)) {
            return Err(s3_error!(InvalidRequest, "The parts have {size} bytes, not {told}."));
        }
        let condition = Condition::new(input.if_match, input.if_none_match)?;
        let mut source = Joined::new(Arc::clone(&self.store), parts);
        let to = (&*input.bucket, &*input.key);
        let e_tag = self.put(to, &mut source, condition, &upload.about.described).await?;
        // The object is there; parts that stay behind cost their bytes until the upload is aborted.
        if let Err(error) = upload.remove(&*self.store).await {
            tracing::warn!(%error, upload = upload.id, "the parts of a completed upload were not removed");
        }
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, utf8_percent_encode(&input.key, URL_ENCODED))),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: tag(Some(e_tag)),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let upload = Upload::find(&*self.store, &input.upload_id, &input.bucket, &input.key).await?;
        upload.remove(&*self.store).await?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let upload = Upload::find(&*self.store, &input.upload_id, &input.bucket, &input.key).await?;
        let parts_max = page_size(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or_default();
        let mut found = upload.parts(&*self.store).await?.into_iter().filter(|(number, _)| *number > after);
        let parts: Vec<Part> = found
            .by_ref()
            .take(usize::try_from(parts_max).unwrap_or_default())
            .map(|(number, meta)| Part {
                e_tag: tag(meta.e_tag),
                last_modified: Some(timestamp(meta.last_modified)),
                part_number: Some(number),
                size: bytes(meta.size),
                ..Part::default()
            })
            .collect();
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            initiator: None,
            is_truncated: Some(found.next().is_some()),
            key: Some(input.key),
            max_parts: Some(parts_max),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            owner: Some(self.owner()),
            part_number_marker: Some(after),
            parts: Some(parts),
            upload_id: Some(upload.id),
            ..ListPartsOutput::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        self.buckets.expect(&input.bucket).await?;
        if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "uploads are listed without a delimiter here"));
        }
        let uploads_max = page_size(input.max_uploads)?;
        let (key_marker, id_marker) =
            (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let prefix = input.prefix.clone().unwrap_or_default();
        let is_after = |upload: &Upload| match upload.about.key.cmp(&key_marker) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => !id_marker.is_empty() && upload.id > id_marker,
            std::cmp::Ordering::Greater => true,
        };
        let mut found = Upload::list(&*self.store, &input.bucket, &prefix).await?.into_iter().filter(is_after);
        let uploads: Vec<MultipartUpload> = found
            .by_ref()
            .take(usize::try_from(uploads_max).unwrap_or_default())
            .map(|upload| MultipartUpload {
                initiated: Some(timestamp(upload.about.initiated)),
                key: Some(encoded(upload.about.key, input.encoding_type.as_ref())),
                owner: Some(self.owner()),
                upload_id: Some(upload.id),
                ..MultipartUpload::default()
            })
            .collect();
        let is_more = found.next().is_some();
        let last = uploads.last().filter(|_| is_more);
        Ok(S3Response::new(ListMultipartUploadsOutput {
            next_key_marker: last.and_then(|upload| upload.key.clone()),
            next_upload_id_marker: last.and_then(|upload| upload.upload_id.clone()),
            bucket: Some(input.bucket),
            encoding_type: input.encoding_type,
            is_truncated: Some(is_more),
            key_marker: Some(key_marker),
            max_uploads: Some(uploads_max),
            prefix: input.prefix,
            upload_id_marker: Some(id_marker),
            uploads: Some(uploads),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}

fn content_range(asked: Option<&Range>, range: &std::ops::Range<u64>, size: u64) -> Option<String> {
    asked.map(|_| format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1)))
}
