//! One error type for the crate, and the kinds that every crate of the workspace shares.
//!
//! A kind answers "what should the caller do now?"; the message names the object, the offending value and the remedy.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// What the caller can do about an error. Shared by every crate of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The arguments are wrong: change them.
    InvalidInput,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already.
    AlreadyExists,
    /// Somebody else changed what this call relied on: read again, decide again.
    Conflict,
    /// A bound was met (size, count, disk space): make room or ask for less.
    LimitExceeded,
    /// Too many calls at once: the same call may pass a little later.
    Throttled,
    /// A token, iterator or version is too old: get a new one.
    Expired,
    /// A newer writer has taken over: this handle can never write again.
    Fenced,
    /// Stored bytes are damaged: restore them; they are never served.
    Corrupt,
    /// The disk, the store or the network failed: reopen or try again later.
    Unavailable,
    /// The handle was closed.
    Closed,
    /// A bug of this library: please report it.
    Internal,
}

impl ErrorKind {
    /// Whether the same call, unchanged, may succeed later.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable | Self::LimitExceeded)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::InvalidInput => "invalid input",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::Conflict => "conflict",
            Self::LimitExceeded => "limit exceeded",
            Self::Throttled => "throttled",
            Self::Expired => "expired",
            Self::Fenced => "fenced",
            Self::Corrupt => "corrupt",
            Self::Unavailable => "unavailable",
            Self::Closed => "closed",
            Self::Internal => "internal error",
        };
        f.write_str(text)
    }
}

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

    /// The kind.
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

    /// Kind, message and cause, for a crate that makes it an error of its own without telling the message twice.
    #[must_use]
    pub fn into_parts(self) -> (ErrorKind, String, Option<Box<dyn StdError + Send + Sync>>) {
        (self.kind, self.message, self.source)
    }

    /// The same kind and text for another waiter; causes are folded into the message.
    #[must_use]
    pub(crate) fn duplicate(&self) -> Self {
        let told = format!("{self:?}");
        // The kind is told by whoever shows the error.
        let message = told.strip_prefix(&format!("{}: ", self.kind)).unwrap_or(&told);
        Self::new(self.kind, message)
    }

    /// The same error as one that only a reopening mends.
    #[must_use]
    pub(crate) fn into_unavailable(mut self) -> Self {
        self.kind = ErrorKind::Unavailable;
        self
    }

    /// An I/O error, with what was being done to what.
    pub(crate) fn io(doing: impl fmt::Display, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ErrorKind::LimitExceeded
            }
            io::ErrorKind::InvalidInput => ErrorKind::InvalidInput,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("{doing} failed")).with_source(error)
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

impl From<object_store::Error> for Error {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        let kind = match &error {
            Store::NotFound { .. } => ErrorKind::NotFound,
            Store::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Store::Precondition { .. } | Store::NotModified { .. } => ErrorKind::Conflict,
            Store::InvalidPath { .. } | Store::NotSupported { .. } | Store::NotImplemented { .. } => {
                ErrorKind::InvalidInput
            }
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => ErrorKind::InvalidInput,
            _ if is_full(&error) => ErrorKind::LimitExceeded,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, "the object store refused").with_source(error)
    }
}

/// Whether the disk behind the store is full.
fn is_full(error: &object_store::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::io("input or output", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_behind_a_store_is_a_limit() {
        let full = io::Error::new(io::ErrorKind::StorageFull, "no space left on device");
        let error = object_store::Error::Generic { store: "a disk", source: full.into() };
        assert_eq!(Error::from(error).kind(), ErrorKind::LimitExceeded);
    }

    #[test]
    fn debug_shows_the_causes() {
        let cause = io::Error::new(io::ErrorKind::StorageFull, "no space left on device");
        let error = Error::io("writing segment 3", cause);
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert_eq!(format!("{error:?}"), "limit exceeded: writing segment 3 failed: no space left on device");
    }
}
