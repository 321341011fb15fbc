//! The crate's one error, and the service's own name and number for it.
//!
//! Invariant: a failed query and a refused call speak the same language: the same error becomes the
//! `AthenaError` of an execution and the exception name of a call.

use std::error::Error as StdError;
use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};

pub use durable_core::ErrorKind;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where in a query's life an error arose; decides the service's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The statement or the arguments of a call.
    Request,
    /// The catalog.
    Metastore,
    /// Bytes of a table.
    Data,
    /// Memory or another bound of the engine.
    Resources,
    /// Writing or reading a result.
    Result,
    /// The engine itself.
    Engine,
}

/// What went wrong, of which kind, and why.
pub struct Error {
    kind: ErrorKind,
    stage: Stage,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, stage: Stage, message: impl Into<String>) -> Self {
        Self { kind, stage, message: message.into(), source: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, Stage::Request, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, Stage::Engine, message)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, said to have arisen at this stage.
    pub(crate) fn at(mut self, stage: Stage) -> Self {
        self.stage = stage;
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
        self.kind.is_retryable() && self.stage != Stage::Resources
    }

    /// The exception name that the service uses for such an error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match (self.kind, self.stage) {
            (ErrorKind::Throttled, _) => "TooManyRequestsException",
            (_, Stage::Metastore) => "MetadataException",
            (ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Corrupt | ErrorKind::Closed, _) => {
                "InternalServerException"
            }
            _ => "InvalidRequestException",
        }
    }

    /// The error as an execution reports it.
    pub(crate) fn to_athena(&self) -> AthenaError {
        let error_type = match self.stage {
            Stage::Resources => 0,
            Stage::Metastore => 204,
            Stage::Result => 401,
            Stage::Data => 1001,
            Stage::Request => 1000,
            Stage::Engine => 100,
        };
        let category = match self.kind {
            ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Corrupt | ErrorKind::Closed => {
                ErrorCategory::System
            }
            _ => ErrorCategory::User,
        };
        AthenaError { category, error_type, retryable: self.is_retryable(), message: format!("{self:?}") }
    }
}

/// Who has to act on the failure of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorCategory {
    /// The store, the catalog or the engine failed (1 in the service's numbering).
    System,
    /// The statement, a limit or the data must change (2).
    User,
    /// Neither (3).
    Other,
}

/// Why a query failed, in the service's own terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AthenaError {
    /// Who has to act.
    pub category: ErrorCategory,
    /// The service's number: 0 resources exhausted, 100 internal, 204 catalog, 401 result could not be written,
    /// 1000 statement, 1001 data.
    pub error_type: u16,
    /// Whether the same statement may succeed later.
    pub retryable: bool,
    /// What went wrong, with its causes.
    pub message: String,
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
        Self { kind, stage: Stage::Engine, message, source }
    }
}

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        let kind = durable_core::Error::from(error);
        Self::new(kind.kind(), Stage::Engine, "the object store refused").with_source(kind)
    }
}

impl From<table_core::Error> for Error {
    fn from(error: table_core::Error) -> Self {
        Self::new(error.kind(), Stage::Metastore, "the catalog or a table could not be read").with_source(error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        Self::from(DataFusionError::from(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        if let Some(table) = find::<table_core::Error>(&error) {
            return Self::new(table.kind(), Stage::Data, table.message().to_owned());
        }
        if let Some(store) = find::<object_store::Error>(&error) {
            return Self::new(ErrorKind::Unavailable, Stage::Data, format!("a file could not be read: {store}"));
        }
        let message = error.find_root().strip_backtrace();
        let (kind, stage) = match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => (ErrorKind::LimitExceeded, Stage::Resources),
            DataFusionError::ParquetError(_) => (ErrorKind::Corrupt, Stage::Data),
            DataFusionError::Internal(_) | DataFusionError::External(_) | DataFusionError::IoError(_) => {
                (ErrorKind::Internal, Stage::Engine)
            }
            // Parsing, planning, casting, dividing by zero: the statement or what it computes.
            _ => (ErrorKind::InvalidInput, Stage::Request),
        };
        Self::new(kind, stage, message)
    }
}

/// The first error of this type in the chain of causes.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_failure_inside_a_plan_is_retryable_and_a_typing_error_is_not() {
        let store = object_store::Error::Generic { store: "S3", source: "503".into() };
        let error = Error::from(DataFusionError::External(Box::new(store)));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_athena().retryable);
        let error = Error::from(DataFusionError::Plan("no column x".into()));
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, "InvalidRequestException"));
    }

    #[test]
    fn exhausted_memory_is_the_users_limit() {
        let error = Error::from(DataFusionError::ResourcesExhausted("pool".into()));
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert_eq!(error.to_athena().error_type, 0);
    }
}
