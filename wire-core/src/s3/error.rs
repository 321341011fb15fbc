//! What a store says, as S3 says it.
//!
//! Invariant: a client is told to try again only what may go better then.

use std::error::Error as StdError;
use std::io;

use object_store::Error;
use s3s::{S3Error, S3ErrorCode, s3_error};

/// The error for an object that a client has named.
pub(super) fn told(error: Error) -> S3Error {
    match error {
        Error::NotFound { .. } => s3_error!(NoSuchKey, "The specified key does not exist."),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => precondition(),
        Error::NotModified { .. } => S3ErrorCode::NotModified.into(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            s3_error!(error, AccessDenied, "the store refuses this server access to the object")
        }
        Error::NotImplemented { .. } | Error::NotSupported { .. } => {
            s3_error!(error, NotImplemented, "the store behind this port cannot do this")
        }
        Error::InvalidPath { .. } => s3_error!(error, InvalidURI, "the key cannot be an object of this store"),
        error => of_io(&error).map_or_else(
            || S3Error::with_message(S3ErrorCode::InternalError, error.to_string()),
            |(code, message)| S3Error::with_message(code, message),
        ),
    }
}

pub(super) fn precondition() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

/// What a file system says that a client can do something about.
fn of_io(error: &Error) -> Option<(S3ErrorCode, String)> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => {
                    Some((
                        S3ErrorCode::InvalidRequest,
                        "a directory of files cannot hold an object `a` beside an object `a/b`: choose another key"
                            .into(),
                    ))
                }
                io::ErrorKind::InvalidFilename => {
                    Some((S3ErrorCode::KeyTooLongError, "a part of the key is too long for a file's name".into()))
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some((S3ErrorCode::ServiceUnavailable, "the disk under the store is full".into()))
                }
                _ => None,
            };
        }
        cause = error.source();
    }
    None
}
