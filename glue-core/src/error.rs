//! The crate's one error: a kind that says what to do, a message, what caused it, and AWS Glue's name for it.

use std::error::Error as StdError;
use std::fmt;

use table_core::ErrorKind;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, of which kind, and why.
pub struct Error(table_core::Error);

impl Error {
    /// An error of this kind; the message is lower-case, names the object and says what to do when that is known.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(table_core::Error::new(kind, message))
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(self.0.with_source(source))
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// The message, without its causes.
    #[must_use]
    pub fn message(&self) -> &str {
        self.0.message()
    }

    /// Whether the same call, unchanged, may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.is_retryable()
    }

    /// The exception's name in the AWS Glue API.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.kind() {
            ErrorKind::InvalidInput => "InvalidInputException",
            ErrorKind::NotFound | ErrorKind::Expired => "EntityNotFoundException",
            ErrorKind::AlreadyExists => "AlreadyExistsException",
            ErrorKind::Conflict => "ConcurrentModificationException",
            ErrorKind::LimitExceeded => "ResourceNumberLimitExceededException",
            ErrorKind::Throttled => "ThrottlingException",
            _ => "InternalServiceException",
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    /// Message and causes, since `main` shows this form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl From<table_core::Error> for Error {
    fn from(error: table_core::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for table_core::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<durable_core::Error> for Error {
    fn from(error: durable_core::Error) -> Self {
        Self(error.into())
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self(error.into())
    }
}
