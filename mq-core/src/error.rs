//! One error type for the crate: what to do about it (`kind`), what AMQP calls it (`code`), and why.

use std::error::Error as StdError;
use std::fmt;

pub use durable_core::ErrorKind;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// AMQP 0-9-1's reply codes, as far as this crate answers with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ReplyCode {
    /// 311: the body is larger than the broker takes.
    ContentTooLarge,
    /// 312: a mandatory message reached no queue.
    NoRoute,
    /// 320: the broker was closed, or its journal failed.
    ConnectionForced,
    /// 403: the name belongs to the broker.
    AccessRefused,
    /// 404: there is no such exchange or queue.
    NotFound,
    /// 406: the arguments do not fit what exists, or a delivery was settled before.
    PreconditionFailed,
    /// 506: a limit of the broker or of a queue is met.
    ResourceError,
    /// 541: a fault inside the broker.
    InternalError,
}

impl ReplyCode {
    /// The number that goes over the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::ContentTooLarge => 311,
            Self::NoRoute => 312,
            Self::ConnectionForced => 320,
            Self::AccessRefused => 403,
            Self::NotFound => 404,
            Self::PreconditionFailed => 406,
            Self::ResourceError => 506,
            Self::InternalError => 541,
        }
    }

    /// The name as RabbitMQ writes it, `PRECONDITION_FAILED` for one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// What went wrong, of which kind, and why.
pub struct Error {
    kind: ErrorKind,
    reply: Option<ReplyCode>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, reply: None, message: message.into(), source: None }
    }

    pub(crate) fn with_reply(mut self, reply: ReplyCode) -> Self {
        self.reply = Some(reply);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message).with_reply(ReplyCode::PreconditionFailed)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message).with_reply(ReplyCode::NotFound)
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message).with_reply(ReplyCode::AccessRefused)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::LimitExceeded, message).with_reply(ReplyCode::ResourceError)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message).with_reply(ReplyCode::InternalError)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the broker is closed").with_reply(ReplyCode::ConnectionForced)
    }

    /// What the caller should do now.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// AMQP's name of the error (`NOT_FOUND`, `PRECONDITION_FAILED`, ...), where it has one.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        self.reply.map(ReplyCode::name)
    }

    /// AMQP's code of the error, where it has one.
    #[must_use]
    pub fn reply(&self) -> Option<ReplyCode> {
        self.reply
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
        let reply = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Fenced | ErrorKind::Closed => ReplyCode::ConnectionForced,
            ErrorKind::LimitExceeded | ErrorKind::Throttled => ReplyCode::ResourceError,
            _ => ReplyCode::InternalError,
        };
        let (kind, message, source) = error.into_parts();
        Self { kind, reply: Some(reply), message: format!("the broker's journal: {message}"), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_kind_code_and_cause() {
        let cause = durable_core::Error::new(ErrorKind::Unavailable, "the journal is poisoned");
        let error = Error::from(cause.with_source(std::io::Error::other("the disk is gone")));
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, Some("CONNECTION_FORCED")));
        assert!(error.is_retryable());
        assert_eq!(
            format!("{error:?}"),
            "unavailable: the broker's journal: the journal is poisoned: the disk is gone"
        );
    }
}
