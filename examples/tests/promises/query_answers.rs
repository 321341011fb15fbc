//! The query example answers what it is given or what is piped in, and what cannot work ends it with a message.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::pipeline_run::{example, run_well};

/// A store with one table, `visits`, of three rows.
pub(crate) fn with_visits(dir: &Path) {
    let input = dir.join("visits.csv");
    std::fs::write(&input, "id,city\n1,Paris\n2,Rome\n3,Paris\n").unwrap();
    run_well(dir, &["--input", input.to_str().unwrap(), "--partition-by", "city"]);
}

/// The query example on the store in `dir`.
pub(crate) fn query(dir: &Path) -> Command {
    let mut command = Command::new(example("query"));
    command.arg("--store").arg(dir.join("store"));
    command
}

/// Exit code, standard output and standard error of a run with this on its standard input.
fn piped(mut command: Command, input: &str) -> (Option<i32>, String, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that has failed reads no more.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn statements_that_are_piped_in_are_answered_to_the_last() {
    let dir = tempfile::tempdir().unwrap();
    with_visits(dir.path());
    let statements =
        "show tables; -- all;\nselect city, count(*) as n\nfrom visits group by city order by city;\nselect 'a;b' as x";
    let (code, stdout, stderr) = piped(query(dir.path()), statements);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let shown: Vec<_> = stdout.lines().filter(|line| !line.ends_with(" ms")).collect();
    assert_eq!(
        shown,
        ["visits", "city   n", "-----  -", "Paris  2", "Rome   1", "x", "---", "a;b"],
        "no banner, no prompt, each answer whole:\n{stdout}"
    );
    assert!(stdout.contains("2 rows; partitions 2 of 2; scanned"), "{stdout}");

    let (code, stdout, stderr) = piped(query(dir.path()), "select 1 as one; select nothing; select 2 as two;");
    assert_eq!(code, Some(2));
    assert!(stdout.contains("one") && !stdout.contains("two"), "{stdout}");
    assert!(stderr.starts_with("error: the query on ") && stderr.contains("because: "), "{stderr}");
    assert!(stderr.contains(dir.path().join("store").to_str().unwrap()) && stderr.contains("nothing"), "{stderr}");
}

#[test]
fn what_cannot_work_is_told_and_nothing_panics() {
    let dir = tempfile::tempdir().unwrap();
    let told = |arguments: &[&str]| {
        let Output { status, stderr, .. } = Command::new(example("query")).args(arguments).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        stderr
    };
    let nowhere = dir.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    assert!(told(&["--store", nowhere, "select 1"]).contains("holds no store: run the pipeline example with --store"));
    assert!(told(&["--store", "", "select 1"]).contains("the store's name is empty"));
    assert!(!Path::new(nowhere).exists());

    with_visits(dir.path());
    let store = dir.path().join("store");
    let store = store.to_str().unwrap();
    assert!(told(&["--store", store, "select nme from visits"]).contains("nme"));
    assert!(told(&["--store", store, "--cutoff", "1", "select sum(id) from visits"]).contains("because: "));
}

/// A full disk is told, and a reader who left is no failure.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_a_reader_may_leave() {
    let dir = tempfile::tempdir().unwrap();
    with_visits(dir.path());
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = query(dir.path()).arg("select * from visits").stdout(full).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.starts_with("error: cannot write to standard output"), "{told}");

    let mut left = query(dir.path());
    let mut child = left.arg("select * from visits").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}
