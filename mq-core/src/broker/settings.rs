//! What can be set about a broker, apart from where it lies.

use serde::{Deserialize, Serialize};

/// The most memory for messages, unless another is set: 256 MiB.
pub const MEMORY_BYTES_DEFAULT: usize = 256 << 20;
/// The largest body, unless another is set: 16 MiB less what a journal frame needs beside it.
pub const BODY_BYTES_DEFAULT: usize = 15 << 20;
/// How much may be journaled before a checkpoint lets the journal go, unless another is set: 64 MiB.
pub const CHECKPOINT_BYTES_DEFAULT: u64 = 64 << 20;

/// What a publisher meets when the broker's memory for messages is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Overload {
    /// It waits until consumers have made room.
    #[default]
    Wait,
    /// It gets a `LimitExceeded`.
    Refuse,
}

/// Bounds of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub(crate) memory_bytes: usize,
    pub(crate) body_bytes_max: usize,
    pub(crate) overload: Overload,
    pub(crate) checkpoint_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_BYTES_DEFAULT,
            body_bytes_max: BODY_BYTES_DEFAULT,
            overload: Overload::default(),
            checkpoint_bytes: CHECKPOINT_BYTES_DEFAULT,
        }
    }
}

impl Settings {
    /// The most memory for messages, in bytes: bodies, properties and a few hundred bytes each. Publishers beyond it
    /// meet the [`Overload`]; a message in many queues, or a dead letter, may go beyond it before they do. A checkpoint
    /// may take as much again while it is written.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The largest body, in bytes.
    #[must_use]
    pub fn with_body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// What publishers meet when memory is full.
    #[must_use]
    pub fn with_overload(mut self, overload: Overload) -> Self {
        self.overload = overload;
        self
    }

    /// How many bytes may be journaled before a checkpoint lets the journal go.
    #[must_use]
    pub fn with_checkpoint_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_bytes = bytes;
        self
    }
}
