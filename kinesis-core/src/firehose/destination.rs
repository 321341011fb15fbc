//! Where records go that is no object store: what a destination is asked, and what it answers.
//!
//! Invariant: a destination is asked until each record was accepted or refused for good, and what was refused is put aside in
//! the object store. The same records come again after a crash, under the same id.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use object_store::path::Path;

use super::error_output::ErrorOutputType;

/// Takes records in place of an object store, or objects behind it. HTTP endpoints, Splunk and OpenSearch (feature
/// `firehose-http`) and Redshift (feature `redshift`) are ready made; implement it for others.
///
/// ```
/// use futures::FutureExt;
/// use futures::future::BoxFuture;
/// use kinesis_core::firehose::{Answer, DeliveryRequest, Destination, Refusal};
///
/// /// Prints records, except those that are empty.
/// struct Terminal;
///
/// impl Destination for Terminal {
///     fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
///         let mut refused = Vec::new();
///         for (place, record) in request.records.iter().enumerate() {
///             match record.data.as_ref() {
///                 b"" => refused.push((place, Refusal::for_good("Terminal.NothingToPrint", "the record is empty"))),
///                 data => println!("{}", String::from_utf8_lossy(data)),
///             }
///         }
///         async { Ok(refused) }.boxed()
///     }
/// }
/// ```
pub trait Destination: Send + Sync + 'static {
    /// The folder for records that it refuses: the text of `!{firehose:error-output-type}`.
    fn error_output_type(&self) -> ErrorOutputType {
        ErrorOutputType::DestinationFailed
    }

    /// Whether it takes whole objects, which are in the store before it is asked, in place of records.
    fn takes_objects(&self) -> bool {
        false
    }

    /// What is put under the error output prefix for an object that it refuses. The object itself stays where it is.
    fn aside(&self, object: &StoredObject) -> Vec<u8> {
        format!("{}\n", object.path).into_bytes()
    }

    /// What else stands in the line of a record that is put aside, by the names that Firehose gives it.
    fn members(&self, _request_id: &str, record: &RequestRecord) -> Vec<(&'static str, String)> {
        vec![("recordId", record.id.clone())]
    }

    /// Tries once to hand over the records of `request`.
    ///
    /// The delivery stream tries again, with those that are not accepted, for as long as
    /// [`with_destination_retry_duration`](super::DeliverySettings::with_destination_retry_duration) says, and then puts them
    /// aside. It awaits each attempt for as long as it takes: bound it. Attempts of several requests run at once.
    ///
    /// # Errors
    ///
    /// A refusal of them all.
    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer>;
}

impl<D: Destination + ?Sized> Destination for Arc<D> {
    fn error_output_type(&self) -> ErrorOutputType {
        self.as_ref().error_output_type()
    }

    fn takes_objects(&self) -> bool {
        self.as_ref().takes_objects()
    }

    fn aside(&self, object: &StoredObject) -> Vec<u8> {
        self.as_ref().aside(object)
    }

    fn members(&self, request_id: &str, record: &RequestRecord) -> Vec<(&'static str, String)> {
        self.as_ref().members(request_id, record)
    }

    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
        self.as_ref().deliver(request)
    }
}

/// The records that were refused, by their place in the request, or the refusal of all of them, or of the object. All others
/// were accepted.
pub type Answer = Result<Vec<(usize, Refusal)>, Refusal>;

/// An error with its causes: the outermost of a client says little.
#[cfg(any(feature = "firehose-http", feature = "redshift"))]
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Records for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryRequest {
    /// Names what was buffered together, as a UUID: the same for each attempt, also after a restart.
    pub id: String,
    /// Which attempt this is, from 1; it is 1 again after a restart.
    pub attempt: u32,
    /// When it is made.
    pub time: DateTime<Utc>,
    /// In the order in which they were read. None for a destination that takes objects.
    pub records: Vec<RequestRecord>,
    /// The object in the store, for a destination that takes objects.
    pub object: Option<StoredObject>,
}

/// An object that is in the store of the delivery stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredObject {
    /// Its path within the store.
    pub path: Path,
    /// Rows in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// One record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestRecord {
    /// Names the record among all of the delivery stream: its sequence number, and its place among those that it held.
    pub id: String,
    /// When it was put.
    pub arrival: DateTime<Utc>,
    /// Its payload, as the transform left it.
    pub data: Bytes,
}

/// Why a destination did not take a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub(super) code: Cow<'static, str>,
    pub(super) message: String,
    pub(super) is_retryable: bool,
}

impl Refusal {
    /// Another attempt may succeed.
    pub fn for_now(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), is_retryable: true }
    }

    /// No further attempt is made.
    pub fn for_good(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { is_retryable: false, ..Self::for_now(code, message) }
    }
}
