//! The crate's one error: what to do about it (the kind), what happened (the message) and why (the source).
//!
//! Invariant: every error has a kind that a Rust caller can match and a code that an AWS client understands.

use std::error::Error as StdError;
use std::fmt;

use durable_core::ErrorKind;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, of which kind, and why.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind; the message is lower-case, names the object and says what to do when that is known.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call, unchanged, may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    /// The name of the exception that Kinesis Data Streams would answer with.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::InvalidInput => "InvalidArgumentException",
            ErrorKind::NotFound => "ResourceNotFoundException",
            ErrorKind::AlreadyExists | ErrorKind::Conflict => "ResourceInUseException",
            ErrorKind::LimitExceeded => "LimitExceededException",
            ErrorKind::Throttled => "ProvisionedThroughputExceededException",
            ErrorKind::Expired => "ExpiredIteratorException",
            _ => "InternalFailure",
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::LimitExceeded, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "this instance was closed; open it again")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl fmt::Debug for Error {
    /// Message and causes, since `main` shows this form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<durable_core::Error> for Error {
    fn from(error: durable_core::Error) -> Self {
        let (kind, message, source) = error.into_parts();
        Self { kind, message, source }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        durable_core::Error::from(error).into()
    }
}
