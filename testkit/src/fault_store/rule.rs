//! A rule: which calls, how often, and what befalls them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use object_store::Error;
use object_store::path::Path;
use rand::Rng;
use rand::rngs::StdRng;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// A put of one object.
    Put,
    /// A step of a multipart upload: its start, a part, its completion.
    Multipart,
    /// A get of bytes.
    Get,
    /// A get of the object's metadata only.
    Head,
    /// A delete of one object.
    Delete,
    /// A list, of any kind.
    List,
    /// A copy.
    Copy,
    /// A rename.
    Rename,
}

/// The error that a call ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// As an HTTP status 503.
    Unavailable,
    /// As an HTTP status 429.
    Throttled,
    /// The connection was reset.
    Reset,
    /// The disk behind the store is full.
    DiskFull,
    /// The caller may not.
    PermissionDenied,
}

/// What befalls a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// It takes longer, uniformly between the two.
    Latency {
        /// At least.
        min: Duration,
        /// At most.
        max: Duration,
    },
    /// It fails and nothing has happened.
    Fail(Failure),
    /// It happens, and fails all the same.
    ApplyThenFail(Failure),
    /// A get ends early, without an error.
    Truncate,
    /// A get answers with one bit inverted.
    Flip,
    /// A list does not show the newest objects.
    StaleList,
    /// Before a put, somebody else puts this at the same place.
    LostRace {
        /// The other's object.
        rival: Bytes,
    },
    /// A put that should create overwrites what is there: the sabotage of everything that stands on put-if-absent.
    Overwrite,
    /// It never answers.
    Hang,
}

/// When an effect befalls which calls.
#[derive(Clone, Debug)]
pub struct Rule {
    operations: Vec<Operation>,
    prefix: Path,
    when: When,
    effect: Effect,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Probability(f64),
    Call(u64),
}

impl Rule {
    /// `effect` on every call of these kinds, until narrowed.
    #[must_use]
    pub fn on(operations: &[Operation], effect: Effect) -> Self {
        Self { operations: operations.to_vec(), prefix: Path::default(), when: When::Probability(1.0), effect }
    }

    /// Only calls on objects under `prefix`.
    #[must_use]
    pub fn under(mut self, prefix: impl Into<Path>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only this share of them, 0 to 1.
    #[must_use]
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.when = When::Probability(probability);
        self
    }

    /// Only the `number`-th of them, from 0.
    #[must_use]
    pub fn at_call(mut self, number: u64) -> Self {
        self.when = When::Call(number);
        self
    }

    pub(super) fn effect(&self) -> &Effect {
        &self.effect
    }

    pub(super) fn matches(&self, operation: Operation, location: Option<&Path>) -> bool {
        let inside = location.map_or(self.prefix == Path::default(), |location| location.prefix_matches(&self.prefix));
        inside && self.operations.contains(&operation)
    }

    pub(super) fn befalls(&self, number: u64, rng: &mut StdRng) -> bool {
        match self.when {
            When::Probability(probability) => rng.random_bool(probability),
            When::Call(call) => call == number,
        }
    }
}

impl Failure {
    pub(super) fn error(self, operation: Operation, location: Option<&Path>) -> Error {
        let path = location.map(ToString::to_string).unwrap_or_default();
        let told = format!("injected: {operation:?} of {path:?}");
        let kind = match self {
            Self::Unavailable => return generic(format!("503 service unavailable ({told})").into()),
            Self::Throttled => return generic(format!("429 too many requests ({told})").into()),
            Self::PermissionDenied => return Error::PermissionDenied { path, source: told.into() },
            Self::Reset => io::ErrorKind::ConnectionReset,
            Self::DiskFull => io::ErrorKind::StorageFull,
        };
        generic(io::Error::new(kind, told).into())
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "FaultStore", source }
}
