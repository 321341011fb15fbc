//! Amazon Redshift: objects in the store, and then `COPY` over PostgreSQL's protocol (feature `redshift`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, PutMode, PutOptions};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::destination::{Answer, DeliveryRequest, Destination, Refusal, StoredObject, describe};
use super::error_output::ErrorOutputType;
use crate::{Error, ErrorKind, Result};

/// How long one `COPY` may take, with the connection for it, unless set.
pub const REDSHIFT_COPY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// The folder of manifests.
const MANIFESTS: &str = "manifests";

/// A table of Amazon Redshift as a destination: what the delivery stream puts into its store, which Redshift knows as a bucket,
/// is loaded by `COPY .. MANIFEST`, an object each.
///
/// The format is that of the delivery stream, and the options of `COPY` must tell of it. An object that cannot be loaded stays
/// in the store, and a manifest of it is put under the error output prefix, to be loaded by hand. A `COPY` is one transaction;
/// one whose answer was lost is made again, so that its rows may be there twice.
///
/// Tested against PostgreSQL, with a stand-in for what `COPY` reads: it checks the statement, the manifest and the objects, and
/// loads them in the session's own transaction. It does not check what Redshift makes of the options beyond `JSON`, `CSV` and
/// `GZIP`, nor the credentials for the bucket.
///
/// ```no_run
/// use std::sync::Arc;
/// use kinesis_core::Kinesis;
/// use kinesis_core::firehose::{DeliverySettings, DeliveryStream, Redshift};
/// use kinesis_core::object_store::ObjectStore;
///
/// # async fn deliver(lake: Arc<dyn ObjectStore>) -> kinesis_core::Result<()> {
/// let kinesis = Kinesis::at("data").open().await?;
/// let table = Redshift::new("postgresql://cluster.example.com:5439/dev", "events", lake.clone(), "lake")?
///     .with_user("loader", "secret")
///     .with_credentials("aws_iam_role=arn:aws:iam::111122223333:role/redshift")
///     .with_copy_options("JSON 'auto'");
/// let delivery = DeliveryStream::direct("events", kinesis, lake).with_destination(table).open().await?;
/// delivery.put_record(r#"{"id": 1}"#).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redshift {
    config: Config,
    tls: MakeRustlsConnect,
    store: Arc<dyn ObjectStore>,
    bucket: String,
    table: String,
    columns: Option<String>,
    credentials: Option<String>,
    options: String,
    timeout: Duration,
}

impl std::fmt::Debug for Redshift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redshift").field("table", &self.table).field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl Redshift {
    /// The table of this name in the database at `url`: PostgreSQL's, or a JDBC URL of `redshift` or `postgresql`. `store` is
    /// that of the delivery stream, and what Redshift calls `s3://bucket`.
    ///
    /// A connection is encrypted if the server can, or as `sslmode` of the URL says; its certificate must be one that this
    /// machine trusts.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what is no such URL, or no name of a table.
    pub fn new(url: &str, table: &str, store: Arc<dyn ObjectStore>, bucket: &str) -> Result<Self> {
        let plain = url.strip_prefix("jdbc:").unwrap_or(url);
        let plain =
            plain.strip_prefix("redshift://").map_or_else(|| plain.to_owned(), |rest| format!("postgresql://{rest}"));
        let config = plain.parse::<Config>().map_err(|error| {
            // The URL may hold a password.
            Error::invalid("this is no URL of a database: give postgresql://host:port/database").with_source(error)
        })?;
        let is_name = |c: char| c.is_alphanumeric() || "_$.\"".contains(c);
        if table.is_empty() || !table.chars().all(is_name) {
            return Err(Error::invalid(format!("'{table:.200}' is no name of a table")));
        }
        Ok(Self {
            config,
            tls: tls()?,
            store,
            bucket: bucket.to_owned(),
            table: table.to_owned(),
            columns: None,
            credentials: None,
            options: String::new(),
            timeout: REDSHIFT_COPY_TIMEOUT_DEFAULT,
        })
    }

    /// The user who loads.
    #[must_use]
    pub fn with_user(mut self, name: &str, password: &str) -> Self {
        self.config.user(name).password(password);
        self
    }

    /// The columns that the objects hold, in order, separated by commas; all of the table unless set.
    #[must_use]
    pub fn with_columns(mut self, columns: impl Into<String>) -> Self {
        self.columns = Some(columns.into()).filter(|columns| !columns.is_empty());
        self
    }

    /// What lets Redshift read the bucket, as `CREDENTIALS` of `COPY` has it.
    #[must_use]
    pub fn with_credentials(mut self, credentials: impl Into<String>) -> Self {
        self.credentials = Some(credentials.into());
        self
    }

    /// More options of `COPY`: the format of the objects, `JSON 'auto' GZIP` for instance. Used as it is.
    #[must_use]
    pub fn with_copy_options(mut self, options: impl Into<String>) -> Self {
        self.options = options.into();
        self
    }

    /// How long one `COPY` may take, with the connection for it.
    #[must_use]
    pub fn with_copy_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A manifest of one object.
    fn manifest(&self, object: &StoredObject) -> Vec<u8> {
        let url = format!("s3://{}/{}", self.bucket, object.path);
        json!({"entries": [{"url": url, "mandatory": true}]}).to_string().into_bytes()
    }

    fn copy(&self, manifest: &Path) -> String {
        let mut copy = format!("COPY {}", self.table);
        if let Some(columns) = &self.columns {
            copy += &format!(" ({columns})");
        }
        copy += &format!(" FROM {}", quoted(&format!("s3://{}/{manifest}", self.bucket)));
        if let Some(credentials) = &self.credentials {
            copy += &format!(" CREDENTIALS {}", quoted(credentials));
        }
        copy += " MANIFEST";
        if !self.options.is_empty() {
            copy += &format!(" {}", self.options);
        }
        copy
    }

    async fn load(&self, object: &StoredObject) -> Result<(), Refusal> {
        let manifest = Path::from(format!("{MANIFESTS}/{}", object.path));
        let bytes = Bytes::from(self.manifest(object));
        match self.store.put_opts(&manifest, bytes.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => {
                let message = format!("the manifest {manifest} could not be put: {error}");
                return Err(Refusal::for_now("Redshift.ManifestFailed", message));
            }
        }
        let (client, connection) = self.config.connect(self.tls.clone()).await.map_err(|error| judge(&error))?;
        let serving = tokio::spawn(connection);
        let copied = client.batch_execute(&self.copy(&manifest)).await.map_err(|error| judge(&error));
        drop(client);
        // It ends with its client; how is told by the statement.
        drop(serving.await);
        copied
    }

    async fn load_in_time(&self, request: DeliveryRequest) -> Answer {
        let Some(object) = request.object else { return Ok(Vec::new()) };
        match tokio::time::timeout(self.timeout, self.load(&object)).await {
            Ok(loaded) => loaded.map(|()| Vec::new()),
            Err(_) => {
                let message = format!("COPY did not end within {:?}: its rows may be there", self.timeout);
                Err(Refusal::for_now("Redshift.Timeout", message))
            }
        }
    }
}

fn tls() -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    // Without any, only connections that are not encrypted can be made; the attempt says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let failed = |error| Error::new(ErrorKind::Internal, "TLS could not be set up").with_source(error);
    Ok(MakeRustlsConnect::new(config.map_err(failed)?.with_root_certificates(roots).with_no_client_auth()))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A refusal by the names that Firehose has for these errors. All are tried again, as there: a table may come to be.
fn judge(error: &tokio_postgres::Error) -> Refusal {
    let code = match error.code() {
        None => "Redshift.ConnectionFailed",
        Some(state) if *state == SqlState::UNDEFINED_TABLE => "Redshift.TableNotFound",
        Some(state) if *state == SqlState::UNDEFINED_COLUMN => "Redshift.ColumnNotFound",
        Some(state) if *state == SqlState::SYNTAX_ERROR => "Redshift.SyntaxError",
        Some(state) if *state == SqlState::INSUFFICIENT_PRIVILEGE => "Redshift.AccessDenied",
        Some(state) if *state == SqlState::INVALID_CATALOG_NAME => "Redshift.DatabaseNotFound",
        Some(state) if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(state) => {
            "Redshift.AuthenticationFailed"
        }
        Some(_) => "Redshift.DataLoadFailed",
    };
    let message = match error.as_db_error() {
        Some(database) => format!("{}: {}", database.code().code(), database.message()),
        None => describe(error),
    };
    Refusal::for_now(code, message)
}

impl Destination for Redshift {
    fn error_output_type(&self) -> ErrorOutputType {
        ErrorOutputType::RedshiftFailed
    }

    fn takes_objects(&self) -> bool {
        true
    }

    fn aside(&self, object: &StoredObject) -> Vec<u8> {
        self.manifest(object)
    }

    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
        self.load_in_time(request).boxed()
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn table(url: &str, name: &str) -> Result<Redshift> {
        Redshift::new(url, name, Arc::new(InMemory::new()), "lake")
    }

    #[test]
    fn the_statement_is_redshifts() {
        let table = table("jdbc:redshift://c.example.com:5439/dev", "public.events").unwrap();
        let path = Path::from("manifests/it's");
        assert_eq!(table.copy(&path), "COPY public.events FROM 's3://lake/manifests/it''s' MANIFEST");
        let table = table.with_columns("a,b").with_credentials("aws_iam_role=arn:x").with_copy_options("JSON 'auto'");
        assert_eq!(
            table.copy(&Path::from("m")),
            "COPY public.events (a,b) FROM 's3://lake/m' CREDENTIALS 'aws_iam_role=arn:x' MANIFEST JSON 'auto'"
        );
    }

    #[test]
    fn what_is_no_database_or_table_is_refused() {
        assert!(table("https://example.com/x", "t").is_err());
        for name in ["", "a b", "t; drop table t", "t(a)"] {
            assert!(table("postgresql://h/d", name).is_err(), "{name}");
        }
    }
}
