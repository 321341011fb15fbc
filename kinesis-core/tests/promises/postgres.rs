//! A PostgreSQL server of the test's own, and in front of it what makes it look like Redshift to one that loads.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_core::{Clock, SystemClock};
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const PASSWORD: &str = "a secret";
const SSL_REQUEST: u32 = 80_877_103;

/// A server in a directory of its own.
pub(crate) struct Postgres {
    port: u16,
    server: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

impl Postgres {
    /// Starts one, if it is installed. In CI it must be; elsewhere the test says that it was skipped.
    #[allow(clippy::print_stderr, reason = "the test command counts what is skipped")]
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "missing: postgresql (apt-get install postgresql)");
            eprintln!("skipped {test}: missing: postgresql (apt-get install postgresql)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let (data, password) = (dir.path().join("data"), dir.path().join("password"));
        std::fs::write(&password, PASSWORD).unwrap();
        let as_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        if as_root {
            let owned = Command::new("chown").args(["-R", "postgres"]).arg(dir.path()).status().unwrap();
            assert!(owned.success());
        }
        // It refuses to be root.
        let command = |name: &str| {
            let program = programs.join(name);
            if !as_root {
                return Command::new(program);
            }
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        };
        let mut init = command("initdb");
        init.args(["--username=loader", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        let init = init.arg("--pwfile").arg(&password).arg("-D").arg(&data).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = command("postgres");
        server.args(["-h", "127.0.0.1", "-F", "-p", &port.to_string(), "-k"]).arg(dir.path()).arg("-D").arg(&data);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let postgres = Self { port, server, _dir: dir };
        while postgres.connect().await.is_err() {
            SystemClock::new().sleep(Duration::from_millis(50)).await;
        }
        Some(postgres)
    }

    pub(crate) async fn connect(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user("loader").password(PASSWORD).dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let of_debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = of_debian.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists());
    found.or_else(|| {
        let paths = std::env::var_os("PATH")?;
        std::env::split_paths(&paths).find(|bin| bin.join("initdb").exists())
    })
}

/// What stands between a client and PostgreSQL: it reads what `COPY .. FROM 's3://..' .. MANIFEST` names from a store, and loads
/// it in the client's session. All else passes through.
pub(crate) struct Redshift {
    pub(crate) port: u16,
    /// The statements that it has loaded by.
    pub(crate) copies: Arc<Mutex<Vec<String>>>,
    /// So many answers to a `COPY` that was done are lost.
    pub(crate) answers_lost: Arc<Mutex<u32>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Redshift {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Redshift {
    /// In front of `postgres`, with `store` for the bucket `lake`.
    pub(crate) async fn serve(postgres: &Postgres, store: Arc<dyn ObjectStore>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (copies, answers_lost) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<u32>>::default());
        let (behind, done, lost) = (postgres.port, Arc::clone(&copies), Arc::clone(&answers_lost));
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                let session = Session {
                    client,
                    server,
                    store: Arc::clone(&store),
                    copies: Arc::clone(&done),
                    answers_lost: Arc::clone(&lost),
                };
                // A session that breaks off is the client's to tell of.
                tokio::spawn(async move { drop(session.pass().await) });
            }
        });
        Self { port, copies, answers_lost, serving }
    }
}

struct Session {
    client: TcpStream,
    server: TcpStream,
    store: Arc<dyn ObjectStore>,
    copies: Arc<Mutex<Vec<String>>>,
    answers_lost: Arc<Mutex<u32>>,
}

impl Session {
    async fn pass(mut self) -> std::io::Result<()> {
        loop {
            let length = self.client.read_u32().await?;
            let mut body = vec![0; length as usize - 4];
            self.client.read_exact(&mut body).await?;
            if body[..4] == SSL_REQUEST.to_be_bytes() {
                self.client.write_all(b"N").await?;
                continue;
            }
            self.server.write_u32(length).await?;
            self.server.write_all(&body).await?;
            break;
        }
        let mut answer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                message = read_message(&mut self.client) => {
                    let (kind, body) = message?;
                    let text = String::from_utf8_lossy(&body).trim_end_matches('\0').to_owned();
                    if kind == b'Q' && text.starts_with("COPY ") && text.contains(" FROM 's3://") {
                        self.copy(&text).await?;
                    } else {
                        write_message(&mut self.server, kind, &body).await?;
                    }
                }
                read = self.server.read(&mut answer) => match read? {
                    0 => return Ok(()),
                    read => self.client.write_all(&answer[..read]).await?,
                },
            }
        }
    }

    /// What Redshift does with such a statement.
    async fn copy(&mut self, text: &str) -> std::io::Result<()> {
        match self.rows(text).await {
            Err(why) => self.refuse(&why).await,
            Ok((target, rows)) => {
                let copy = format!("COPY {target} FROM STDIN (FORMAT csv)\0");
                write_message(&mut self.server, b'Q', copy.as_bytes()).await?;
                let (kind, body) = read_message(&mut self.server).await?;
                if kind != b'G' {
                    return write_message(&mut self.client, kind, &body).await;
                }
                write_message(&mut self.server, b'd', &rows).await?;
                write_message(&mut self.server, b'c', &[]).await?;
                let (kind, body) = read_message(&mut self.server).await?;
                if kind == b'C' {
                    self.copies.lock().unwrap().push(text.to_owned());
                    let mut lost = self.answers_lost.lock().unwrap();
                    if *lost > 0 {
                        *lost -= 1;
                        return Err(std::io::Error::other("the answer is lost"));
                    }
                }
                write_message(&mut self.client, kind, &body).await
            }
        }
    }

    async fn refuse(&mut self, why: &str) -> std::io::Result<()> {
        let fields = format!("SERROR\0VERROR\0CXX000\0M{why}\0\0");
        write_message(&mut self.client, b'E', fields.as_bytes()).await?;
        write_message(&mut self.client, b'Z', b"I").await
    }

    /// Table and columns, and what is loaded into them, as CSV.
    async fn rows(&self, text: &str) -> Result<(String, Vec<u8>), String> {
        let (target, rest) =
            text.strip_prefix("COPY ").and_then(|text| text.split_once(" FROM 's3://")).ok_or("COPY")?;
        let (manifest, options) = rest.split_once('\'').ok_or("no manifest")?;
        let (credentials, options) = options.split_once(" MANIFEST").ok_or("only manifests are loaded")?;
        if credentials != " CREDENTIALS 'aws_iam_role=arn:aws:iam::0:role/r'" {
            return Err(format!("credentials: {credentials}"));
        }
        let manifest: Value =
            serde_json::from_slice(&self.object(manifest).await?).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        for entry in manifest["entries"].as_array().ok_or("no entries")? {
            if entry["mandatory"] != true {
                return Err("an entry that is not mandatory".to_owned());
            }
            let url = entry["url"].as_str().and_then(|url| url.strip_prefix("s3://")).ok_or("no url")?;
            let mut object = self.object(url).await?;
            if options.contains("GZIP") {
                let mut plain = Vec::new();
                let mut gzip = flate2::read::GzDecoder::new(object.as_slice());
                gzip.read_to_end(&mut plain).map_err(|error| error.to_string())?;
                object = plain;
            }
            match options.split_whitespace().next() {
                Some("JSON") => rows.extend(csv(target, &object)?),
                Some("CSV") => rows.extend(object),
                other => return Err(format!("syntax error: {other:?}")),
            }
        }
        Ok((target.to_owned(), rows))
    }

    async fn object(&self, name: &str) -> Result<Vec<u8>, String> {
        let path = name.strip_prefix("lake/").ok_or("S3ServiceException: the bucket does not exist")?;
        let path = object_store::path::Path::from(Path::new(path).to_str().unwrap());
        let got = self.store.get(&path).await.map_err(|error| format!("S3ServiceException: {error}"))?;
        Ok(got.bytes().await.map_err(|error| error.to_string())?.to_vec())
    }
}

/// JSON objects as rows of the columns that `target` names.
fn csv(target: &str, objects: &[u8]) -> Result<Vec<u8>, String> {
    let columns = target.split_once('(').ok_or("the stand-in wants columns")?.1.trim_end_matches(')');
    let mut rows = Vec::new();
    for object in serde_json::Deserializer::from_slice(objects).into_iter::<Value>() {
        let object = object.map_err(|error| error.to_string())?;
        let field = |column: &str| match &object[column.trim()] {
            Value::Null => String::new(),
            Value::String(text) => format!("\"{}\"", text.replace('"', "\"\"")),
            other => other.to_string(),
        };
        rows.extend(columns.split(',').map(field).collect::<Vec<_>>().join(",").into_bytes());
        rows.push(b'\n');
    }
    Ok(rows)
}

async fn read_message(from: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let mut body = vec![0; from.read_u32().await? as usize - 4];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

async fn write_message(to: &mut TcpStream, kind: u8, body: &[u8]) -> std::io::Result<()> {
    to.write_u8(kind).await?;
    to.write_u32(body.len() as u32 + 4).await?;
    to.write_all(body).await
}
