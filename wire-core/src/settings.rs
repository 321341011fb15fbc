//! Names and bounds of a port.
//!
//! Invariant: everything a client can make large has its bound here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a port names itself, and what it takes from clients. Each bound is refused with an error of the service's own kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub(crate) account_id: String,
    pub(crate) region: String,
    pub(crate) body_bytes_max: usize,
    pub(crate) bodies_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) connections_max: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            account_id: "000000000000".into(),
            region: "us-east-1".into(),
            body_bytes_max: 16 << 20,
            bodies_bytes_max: 256 << 20,
            body_timeout: Duration::from_secs(60),
            connections_max: 1024,
            header_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// The account that all resources belong to. Default: `000000000000`.
    #[must_use]
    pub fn with_account_id(self, account_id: impl Into<String>) -> Self {
        Self { account_id: account_id.into(), ..self }
    }

    /// The region of requests that do not name one in their signature. Default: `us-east-1`.
    #[must_use]
    pub fn with_region(self, region: impl Into<String>) -> Self {
        Self { region: region.into(), ..self }
    }

    /// The longest request body. Default: 16 MiB, which holds a PutRecords of 10 MiB in base64.
    #[must_use]
    pub fn with_body_bytes_max(self, bytes: usize) -> Self {
        Self { body_bytes_max: bytes, ..self }
    }

    /// All request bodies in memory at once; requests past it wait their turn. Default: 256 MiB.
    #[must_use]
    pub fn with_bodies_bytes_max(self, bytes: usize) -> Self {
        Self { bodies_bytes_max: bytes, ..self }
    }

    /// How long a body may take to arrive, its wait for room included. Default: 60 s.
    #[must_use]
    pub fn with_body_timeout(self, timeout: Duration) -> Self {
        Self { body_timeout: timeout, ..self }
    }

    /// Open connections; further ones wait in the listener's backlog. Default: 1,024. Each may
    /// hold up to 2 MiB of bodies that wait for room.
    #[must_use]
    pub fn with_connections_max(self, connections: usize) -> Self {
        Self { connections_max: connections, ..self }
    }

    /// How long a connection may take to send a request's headers, and how long an HTTP/1.1 connection may stay idle.
    /// Default: 60 s.
    #[must_use]
    pub fn with_header_timeout(self, timeout: Duration) -> Self {
        Self { header_timeout: timeout, ..self }
    }

    /// How long [`Server::close`](crate::Server::close) waits for requests under way. Default: 10 s.
    #[must_use]
    pub fn with_drain_timeout(self, timeout: Duration) -> Self {
        Self { drain_timeout: timeout, ..self }
    }
}
