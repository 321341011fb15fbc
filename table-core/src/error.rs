//! The crate's one error: a kind that says what to do, a message, and what caused it.

use std::error::Error as StdError;
use std::fmt;

use arrow::error::ArrowError;
use durable_core::ErrorKind;
use parquet::errors::ParquetError;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, of which kind, and why.
pub struct Error(durable_core::Error);

impl Error {
    /// An error of this kind; the message is lower-case, names the object and says what to do when that is known.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(durable_core::Error::new(kind, message))
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
        self.0.fmt(f)?;
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
        self.0.source()
    }
}

impl From<durable_core::Error> for Error {
    fn from(error: durable_core::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for durable_core::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        Self(error.into())
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::new(ErrorKind::Corrupt, "arrow refused the data").with_source(error)
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Self {
        Self::new(ErrorKind::Corrupt, "parquet refused the data").with_source(error)
    }
}
