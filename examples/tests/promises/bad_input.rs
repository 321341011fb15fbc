//! What cannot work is told in one message that names the object and the remedy; the exit code is 2 and nothing panics.

use std::path::Path;

use crate::pipeline_run::{run, run_well};

/// Runs with these arguments, `{}` standing for the directory, and expects the message's parts on standard error.
fn check(dir: &Path, arguments: &[&str], expected: &[&str]) {
    let arguments: Vec<String> =
        arguments.iter().map(|argument| argument.replace("{}", dir.to_str().unwrap())).collect();
    let run = run(dir, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.code, Some(2), "{arguments:?}\n{}\n{}", run.stdout, run.stderr);
    for part in expected {
        assert!(run.stderr.contains(part), "{arguments:?}: `{part}` is not in\n{}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn inputs_and_options_that_cannot_work_are_told_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    write("good.csv", "id,city\n1,Paris\n");
    write("twice.csv", "id,city,ID\n1,Paris,2\n");
    write("nothing.csv", "");
    write("sheet.xlsx", "PK");

    check(dir.path(), &["--input", "{}/none.csv"], &["none.csv", "give a file or a folder that exists"]);
    check(dir.path(), &["--input", "{}/empty"], &["empty holds no file that ends in .csv"]);
    check(dir.path(), &["--input", "{}/sheet.xlsx"], &["sheet.xlsx", "must end in .csv"]);
    check(dir.path(), &["--input", "{}/nothing.csv"], &["nothing.csv is empty", "must name its columns"]);
    check(dir.path(), &["--input", "{}/twice.csv"], &["twice.csv, line 1: column 3", "rename one"]);
    check(
        dir.path(),
        &["--input", "{}/good.csv", "--key", "cty"],
        &["--key cty", "good.csv", "did you mean `city`?", "Its columns are: id, city"],
    );
    check(dir.path(), &["--input", "{}/good.csv", "--partition-by", "month"], &["--partition-by month", "id, city"]);

    let many: String = (0..6_000).map(|id| format!("{id},x\n")).collect();
    write("many.csv", &format!("id,city\n{many}"));
    write("long.csv", &format!("id,city\n1,{}\n", "x".repeat(300)));
    write("list.json", "[1,2]\n");
    check(dir.path(), &["--input", "{}/many.csv", "--partition-by", "id"], &["--partition-by id", "more than 5000"]);
    check(dir.path(), &["--input", "{}/long.csv", "--partition-by", "city"], &["too long for the name of a folder"]);
    check(dir.path(), &["--input", "{}/list.json"], &["list.json holds no event", "jq -c"]);
}

#[test]
fn what_contradicts_the_store_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("orders.csv"), "id,city\n1,Paris\n").unwrap();
    run_well(dir.path(), &["--input", dir.path().join("orders.csv").to_str().unwrap(), "--shards", "2"]);
    check(dir.path(), &["--input", "{}/orders.csv", "--shards", "3"], &["begun with --shards 2"]);
    check(dir.path(), &["--input", "{}/orders.csv", "--partition-by", "city"], &["begun with --partition-by (none)"]);
    // The reference tables of the flights take the names that others have not.
    std::fs::write(dir.path().join("airports.csv"), "id,city\n1,Paris\n").unwrap();
    run_well(dir.path(), &["--input", dir.path().join("airports.csv").to_str().unwrap()]);
    check(dir.path(), &[], &["the catalog has a table `airports` already", "delivered/airports"]);
}

#[test]
fn a_store_that_cannot_be_written_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "not a directory").unwrap();
    let store = dir.path().join("file/store");
    let output =
        std::process::Command::new(crate::pipeline_run::program()).arg("--store").arg(&store).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains(store.to_str().unwrap()), "{told}");
    assert!(!told.contains("panicked"), "{told}");
}
