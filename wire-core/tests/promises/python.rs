//! Programs in Python over AWS's own clients.

use std::io;
use std::process::{Command, Output};

async fn python(arguments: &[&str]) -> io::Result<Output> {
    let mut command = Command::new("python3");
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap()
}

/// Whether these packages are there; in CI they must be.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) async fn has(packages: &str) -> bool {
    let found = python(&["-c", &format!("import {packages}")]).await;
    if found.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let missing = format!("python3 with {packages} is missing (pip install -r scripts/python-tools.txt)");
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    false
}

/// Runs a script, which says at its end that all is well.
pub(crate) async fn run(arguments: &[&str], said_at_the_end: &str) {
    let output = python(arguments).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(said_at_the_end), "{said}");
}
