//! Signature Version 4: who signed a request, and whether it is so.
//!
//! Invariant: what was signed is what is read; nothing here canonicalises a request by itself, aws-sigv4 does.

mod claim;
mod credentials;
mod scope;
mod verify;

pub use credentials::Credentials;
pub(crate) use scope::Scope;
pub(crate) use verify::verify;

use crate::WireError;

fn incomplete(message: impl Into<String>) -> WireError {
    WireError::new("IncompleteSignatureException", message)
}

fn invalid(message: impl Into<String>) -> WireError {
    WireError::new("InvalidSignatureException", message)
}

fn unrecognized() -> WireError {
    WireError::new("UnrecognizedClientException", "The security token included in the request is invalid.")
}
