//! The durability substrate: what "acknowledged" stands on, for every service of this workspace and for yours.
//!
//! # What it does
//!
//! - [`journal`]: one ordered sequence of atomic frames with group commit, in memory, in a local directory or on any
//!   object store, with recovery, incremental checkpoints and trimming;
//! - [`VersionedCommit`]: a value in an object store that changes by commits, of which exactly one wins;
//! - [`Lease`] and [`Heartbeat`]: who may act, judged without believing another machine's clock;
//! - [`DurableLocal`]: an object store over a directory that syncs what it acknowledges;
//! - [`Clock`] and [`Disk`]: with the object store, the three seams through which everything reaches the world, so that
//!   all of it runs in simulation.
//!
//! # What it does not
//!
//! It replicates nothing: durable means one copy, on a synced local disk or in an object store. It detects damage and
//! refuses to serve it; it does not repair. It gives no quorum: one writer at a time, by epoch.
//!
//! # In ten lines
//!
//! ```
//! use durable_core::journal::Journal;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), durable_core::Error> {
//! # let dir = tempfile::tempdir().expect("a directory");
//! let journal = Journal::dir(dir.path()).open().await?.start(|frames| {
//!     // Each durable frame, once, in order: apply it to your state here.
//!     assert!(!frames.is_empty());
//! }).await?;
//! let position = journal.append("an event".into(), 1).await?; // returns once it is synced to disk
//! journal.checkpoint(position, vec![("state".into(), Some("everything below it".into()))]).await?;
//! journal.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The contract
//!
//! - What was acknowledged is found by the next opening, after a crash of the process or of the machine, for a
//!   [`Level::Disk`](journal::Level::Disk) journal as far as the disk keeps what it synced.
//! - What was not acknowledged is found whole or not at all.
//! - After a failed write or sync nothing is acknowledged any more (the journal is *poisoned*), since what the disk then
//!   holds is not known; the next opening knows.
//! - A full disk loses nothing: reserving room fails with `LimitExceeded`, and passes once there is space.
//! - Positions and versions are never given twice.
//! - A damaged byte is found by a checksum and named; a damaged file is never served. Only the tail that a crash tore,
//!   which was never acknowledged, is cut.
//!
//! # Limits
//!
//! A frame has up to a quarter of a segment (about 16 MiB), [`journal::QUEUE_BYTES_MAX`] wait to be written,
//! [`journal::GROUP_BYTES_MAX`] are written at a time, a version has up to [`VERSION_BYTES_MAX`]; a failing store is
//! asked [`STORE_ATTEMPTS_MAX`] times.

mod clock;
mod create;
pub mod disk;
mod durable_local;
mod envelope;
mod error;
mod floor;
pub mod journal;
mod lease;
pub mod retrying;
mod versioned_commit;

pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, SystemDisk};
pub use durable_local::DurableLocal;
pub use error::{Error, ErrorKind, Result};
pub use floor::Floor;
pub use lease::{Heartbeat, Held, Lease, OWNER_BYTES_MAX};
pub use retrying::STORE_ATTEMPTS_MAX;
pub use versioned_commit::{VERSION_BYTES_MAX, Version, VersionedCommit};

pub use bytes;
pub use object_store;
