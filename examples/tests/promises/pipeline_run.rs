//! One run of the example as a stranger would start it: the built binary, its output, its figures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The built pipeline.
pub(crate) fn program() -> PathBuf {
    example("pipeline")
}

/// A built example. `cargo test` builds it before the tests run; a test binary alone may find an old one.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test binary");
    let built = test.parent().and_then(Path::parent).expect("target/debug/deps");
    let program = built.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let age = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let remedy = format!("run `cargo build --example {name}` first");
    let built_at = age(&program).unwrap_or_else(|error| panic!("{}: {error}: {remedy}", program.display()));
    if let Ok(library) = age(&built.join("libexamples.rlib")) {
        assert!(built_at >= library, "the example is older than its library: {remedy}");
    }
    program
}

/// A run that ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) figures: Value,
}

/// Runs the pipeline to its end on the store in `dir`.
pub(crate) fn run(dir: &Path, arguments: &[&str]) -> Run {
    let figures = dir.join("figures.json");
    let Output { status, stdout, stderr } = Command::new(program())
        .arg("--store")
        .arg(dir.join("store"))
        .arg("--figures")
        .arg(&figures)
        .args(arguments)
        .output()
        .expect("the example starts");
    let figures =
        std::fs::read(&figures).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).expect("figures are JSON"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is text");
    Run { code: status.code(), stdout: text(stdout), stderr: text(stderr), figures }
}

/// The same, which must succeed.
pub(crate) fn run_well(dir: &Path, arguments: &[&str]) -> Run {
    let run = run(dir, arguments);
    assert_eq!(run.code, Some(0), "{}\n{}", run.stdout, run.stderr);
    run
}

/// A figure that must be a count.
pub(crate) fn count(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("figure {name} is {}", figures[name]))
}
