//! What an operation answers when it fails: the service's own exception, as clients of AWS read it.
//!
//! Invariant: a code, a message and a status, never a source: what stands here leaves the process.

use std::borrow::Cow;
use std::fmt;

use durable_core::ErrorKind;
use http::StatusCode;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// An exception of a service, on its way to a client.
///
/// The error of a service crate becomes one in one place:
///
/// ```
/// use durable_core::ErrorKind;
/// use wire_core::WireError;
///
/// struct Error { kind: ErrorKind, message: String }
///
/// impl From<Error> for WireError {
///     fn from(error: Error) -> Self {
///         let code = match error.kind {
///             ErrorKind::NotFound => "ResourceNotFoundException",
///             ErrorKind::InvalidInput => "InvalidArgumentException",
///             _ => "InternalFailure",
///         };
///         WireError::of(error.kind, code, error.message)
///     }
/// }
///
/// let error = WireError::from(Error { kind: ErrorKind::NotFound, message: "stream clicks not found".into() });
/// assert_eq!(error.status(), 400);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WireError {
    code: Cow<'static, str>,
    message: Option<String>,
    status: StatusCode,
    fields: Vec<(&'static str, Value)>,
}

impl WireError {
    /// An exception that is the client's to mend: HTTP status 400.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: Some(message.into()), status: StatusCode::BAD_REQUEST, fields: Vec::new() }
    }

    /// An exception whose status follows its kind: 503 where the same call may pass later, 500 where the service is at fault,
    /// 400 otherwise (AWS answers 400 to throttled calls too).
    pub fn of(kind: ErrorKind, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::Unavailable | ErrorKind::Closed => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal | ErrorKind::Corrupt | ErrorKind::Fenced => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(code, message).with_status(status)
    }

    /// An exception whose body says no more than its name.
    pub fn bare(code: impl Into<Cow<'static, str>>) -> Self {
        Self { message: None, ..Self::new(code, "") }
    }

    /// The service failed: status 500, `InternalFailure`.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("InternalFailure", message).with_status(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The request cannot be read as its operation's input.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// A member of the request breaks a rule of the service's model; see [`Validation`](crate::Validation) for the usual text.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// The same exception with another HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same exception with one more member in its body.
    #[must_use]
    pub fn with_field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The exception's name, `ResourceNotFoundException`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The message, where there is one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What an event stream sends of it: everything but `__type`, which stands in the message's headers there.
    pub(crate) fn members(&self) -> Members<'_> {
        Members(self)
    }

    fn serialize_members<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(message) = &self.message {
            // AWS's own inconsistency, which clients of 2013 rely on.
            let name = if self.code == "SerializationException" { "Message" } else { "message" };
            map.serialize_entry(name, message)?;
        }
        self.fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))
    }
}

impl Serialize for WireError {
    /// The body of an error response.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + usize::from(self.message.is_some()) + self.fields.len()))?;
        map.serialize_entry("__type", &self.code)?;
        self.serialize_members(&mut map)?;
        map.end()
    }
}

/// See [`WireError::members`].
pub(crate) struct Members<'a>(&'a WireError);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(usize::from(self.0.message.is_some()) + self.0.fields.len()))?;
        self.0.serialize_members(&mut map)?;
        map.end()
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

impl std::error::Error for WireError {}
