//! A port with Kinesis on it, and the programs of others that are its clients.

use std::path::PathBuf;
use std::process::{Command, Output};

use kinesis_core::{Kinesis, server};
use wire_core::{Credentials, Server, Services, Settings};

/// The key that clients sign with.
pub(crate) const KEY: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");

/// A port that accepts what [`KEY`] signed.
pub(crate) async fn serve(kinesis: &Kinesis) -> Server {
    let credentials = Credentials::default().with_key(KEY.0, KEY.1);
    let services =
        Services::new(Settings::default()).with(server::service(kinesis.clone())).with_credentials(credentials);
    Server::bind("127.0.0.1:0", services).await.unwrap()
}

/// A program that is a client of AWS, with the key and region that it needs.
pub(crate) fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("AWS_ACCESS_KEY_ID", KEY.0)
        .env("AWS_SECRET_ACCESS_KEY", KEY.1)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_PAGER", "")
        .env_remove("AWS_PROFILE");
    command
}

/// A file of `tests/wire`.
pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(name)
}

/// Runs a program to its end beside the server that it talks to.
pub(crate) async fn run(mut command: Command) -> std::io::Result<Output> {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap()
}

/// Runs it and answers what it wrote; it must succeed.
pub(crate) async fn succeed(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await.unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}: {}\n{out}\n{error}", output.status);
    out.into_owned()
}

/// Whether Python has these modules, and whether these programs are there. In CI they must be; elsewhere the test says
/// that it was skipped.
#[allow(clippy::print_stderr, reason = "the test command counts what is skipped")]
pub(crate) async fn has(test: &str, modules: &[&str], programs: &[&str]) -> bool {
    let mut missing = Vec::new();
    for module in modules {
        let mut python = Command::new("python3");
        python.args(["-c", &format!("import {module}")]);
        if !run(python).await.is_ok_and(|output| output.status.success()) {
            missing.push(format!("python3 with {module}"));
        }
    }
    for program in programs {
        let mut command = Command::new(program);
        command.arg("--version");
        if run(command).await.is_err() {
            missing.push((*program).to_owned());
        }
    }
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(std::env::var_os("CI").is_none(), "missing: {missing} (scripts/python-tools.txt has what to install)");
    eprintln!("skipped {test}: missing: {missing} (scripts/python-tools.txt has what to install)");
    false
}
