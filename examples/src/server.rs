//! The services on one port, over one store.
//!
//! Invariant: what a client was told is done before the port closes: the port first, then the services behind it.

use std::net::IpAddr;
use std::sync::Arc;

use clap::Args;
use kinesis_core::Kinesis;
use kinesis_core::server::{Firehose, firehose_service, service};
use wire_core::{Credentials, S3, Server, Services, Settings};

use crate::failure::{Doing, Failure, Result};
use crate::store::{CATALOG, open_store};

/// Prefix of the streams, as the pipeline example has it.
const STREAMS: &str = "streams";

/// What services keep in a store, this one's and the pipeline's: no buckets.
const KEPT: [&str; 3] = [STREAMS, "broker", CATALOG];

/// Where to serve, and what.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// The store: a directory, or a URL such as s3://bucket/prefix; memory: keeps nothing
    #[arg(long, value_name = "DIR|URL", default_value = "memory:")]
    pub store: String,

    /// The port; 0 is any that is free
    #[arg(long, default_value_t = 4566)]
    pub port: u16,

    /// The address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// Accept only requests that this key has signed; without a key, every request
    #[arg(long, value_name = "ID", requires = "secret_key", env = "SERVER_ACCESS_KEY")]
    pub access_key: Option<String>,

    /// The secret of the key
    #[arg(long, value_name = "SECRET", requires = "access_key", env = "SERVER_SECRET_KEY", hide_env_values = true)]
    pub secret_key: Option<String>,

    /// The region that clients name
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
}

/// Services at work.
#[derive(Debug)]
pub struct Serving {
    server: Server,
    firehose: Firehose,
    kinesis: Kinesis,
}

impl Serving {
    /// Opens the store and the port.
    ///
    /// # Errors
    /// The store, what lies in it, or the port cannot be opened: the failure says which.
    pub async fn open(options: &ServerOptions) -> Result<Self> {
        let named = &options.store;
        let (store, directory) = open_store(named)?;
        let mut kinesis = Kinesis::on(Arc::clone(&store), STREAMS);
        if let Some(directory) = directory {
            kinesis = kinesis.journal_dir(directory.join("journal").join(STREAMS));
        }
        let kinesis = kinesis.open().await.doing(|| format!("cannot open the streams in {named}"))?;
        let firehose = Firehose::open(kinesis.clone(), Arc::clone(&store)).await;
        let firehose = firehose.doing(|| format!("cannot open the delivery streams in {named}"))?;
        let settings = Settings::default().with_region(options.region.clone());
        let s3 = KEPT.into_iter().fold(S3::new(store), S3::with_hidden);
        let mut services =
            Services::new(settings).with(service(kinesis.clone())).with(firehose_service(firehose.clone())).with_s3(s3);
        if let (Some(id), Some(secret)) = (&options.access_key, &options.secret_key) {
            services = services.with_credentials(Credentials::default().with_key(id.clone(), secret.clone()));
        }
        let address = (options.host, options.port);
        let server = Server::bind(address, services).await;
        let server = server
            .doing(|| format!("cannot listen on {}:{}: choose another --port, or 0", options.host, options.port))?;
        Ok(Self { server, firehose, kinesis })
    }

    /// What clients take as their endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Lets requests finish, then closes what is behind them.
    ///
    /// # Errors
    /// What kept the streams from being closed in order.
    pub async fn close(self) -> Result<()> {
        self.server.close().await;
        self.firehose.close().await.doing(|| "cannot stop the delivery streams".to_owned())?;
        self.kinesis.close().await.doing(|| "cannot close the streams".to_owned())
    }
}

/// Resolves when the process is asked to end: Ctrl-C, or a service manager's SIGTERM.
///
/// # Errors
/// The system does not tell of signals.
pub async fn asked_to_end() -> Result<()> {
    let failed = |error| Failure::caused("cannot listen for signals", error);
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(failed),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.map_err(failed)
}
