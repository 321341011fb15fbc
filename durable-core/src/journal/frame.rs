//! What goes into a journal and comes out of it.

use std::fmt;
use std::ops::Add;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A number in the journal's one sequence.
///
/// Positions only rise, over restarts too, and none is given twice, not even one whose frame a crash took away. Where
/// a journal was opened anew there may be a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// The first position of all.
    pub const ZERO: Self = Self(0);
}

impl Add<u32> for Position {
    type Output = Self;

    fn add(self, span: u32) -> Self {
        Self(self.0 + u64::from(span))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One atomic record: it is recovered whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// The first position that it takes.
    pub position: Position,
    /// How many positions it takes, at least 1: the number of things in it, so that each has a number of its own.
    pub span: u32,
    /// The bytes as they were appended.
    pub body: Bytes,
}

impl Frame {
    /// A frame that takes `span` positions from `position` on.
    #[must_use]
    pub fn new(position: Position, span: u32, body: Bytes) -> Self {
        Self { position, span, body }
    }

    /// The first position after it.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position + self.span
    }
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Durability {
    /// Once it is as durable as its journal makes anything: after the sync of a local journal, after the put of an
    /// object journal, at once for one in memory.
    #[default]
    Journal,
    /// As soon as it has its place in the order. It is written with the next group all the same, but a crash before
    /// that loses it.
    Memory,
}
