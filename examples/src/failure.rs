//! How a program ends when it cannot go on: one message that names the object and the remedy, the causes, exit code 2.
//!
//! Invariant: a program returns its failure from `main`; nothing here exits or panics.

use std::error::Error as StdError;
use std::fmt;
use std::process::ExitCode;

use crate::print::warn;

/// Why a program stopped. `Debug` prints message and causes, one a line, since `main` shows it.
pub struct Failure {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of a program's step.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with this message: lower-case, with the object's name and what to do.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// A failure while doing something, with its cause.
    pub fn caused(doing: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { message: doing.into(), source: Some(source.into()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Says what was being done when a step of another crate failed.
pub trait Doing<T> {
    /// The value, or a failure that begins with what was being done.
    ///
    /// # Errors
    /// Whatever failed, as the cause.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Failure::caused(what(), source))
    }
}

/// What `main` returns: success, or the failure on standard error and exit code 2.
pub fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            warn(&format!("error: {failure:?}\n"));
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_every_cause() {
        let inner = Failure::caused("cannot write `a`", std::io::Error::other("the disk is gone"));
        let outer = Failure::caused("cannot deliver", inner);
        assert_eq!(format!("{outer:?}"), "cannot deliver\n  because: cannot write `a`\n  because: the disk is gone");
    }
}
