//! A run on a store that has everything takes up nothing, and one on a store that lacks something takes up just that.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durable_core::DurableLocal;
use kinesis_core::Kinesis;
use kinesis_core::limits::RETENTION_MAX;
use serde_json::json;

use crate::pipeline_run::{Run, count, run, run_well};

/// Rows of `id,city,delay`, three cities in turn.
fn rows(ids: std::ops::Range<u64>) -> String {
    ids.fold(String::from("id,city,delay\n"), |mut text, id| {
        writeln!(text, "{id},{},{}", ["Paris", "Rome", "Oslo"][usize::try_from(id % 3).unwrap()], id % 7).unwrap();
        text
    })
}

/// How long the stream in a run's store keeps its records.
fn retention(dir: &Path, stream: &str) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(DurableLocal::new(dir.join("store/store")).unwrap());
        let kinesis =
            Kinesis::on(store, "streams").journal_dir(dir.join("store/journal/streams")).open().await.unwrap();
        let retention = kinesis.describe_stream(stream).unwrap().retention;
        kinesis.close().await.unwrap();
        retention
    })
}

/// What a column of nothing but rows that were set aside holds cannot be asked.
#[test]
fn a_column_of_rows_set_aside_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("marks.jsonl");
    let mut text = "{\"id\":1,\"n\":1}\n".to_owned();
    for (rows, rejected) in [(1, 0), (2, 1), (2, 1)] {
        std::fs::write(&input, &text).unwrap();
        let run = run_well(dir.path(), &["--input", input.to_str().unwrap()]);
        assert_eq!((count(&run.figures, "rows"), count(&run.figures, "rejected")), (rows, rejected), "{}", run.stdout);
        "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":\"text\",\"tag\":\"a\"}\n".clone_into(&mut text);
    }
}

fn go(dir: &Path) -> Run {
    let input = dir.join("input");
    run_well(dir, &["--input", input.to_str().unwrap(), "--table", "visits", "--partition-by", "city"])
}

#[test]
fn nothing_new_changes_nothing_and_something_new_is_all_that_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("input")).unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join("input").join(name), text).unwrap();
    write("a.csv", rows(0..3_000));

    let first = go(dir.path()).figures;
    assert_eq!((count(&first, "found"), count(&first, "stored"), count(&first, "delivered_rows")), (0, 3_000, 3_000));

    assert_eq!(
        retention(dir.path(), "visits"),
        RETENTION_MAX,
        "a run of next week finds what this one did not deliver"
    );

    // Wherever the input lies by then, it is the same.
    let moved = dir.path().join("moved");
    std::fs::rename(dir.path().join("input"), &moved).unwrap();
    let again = run_well(dir.path(), &["--input", moved.to_str().unwrap(), "--table", "visits"]).figures;
    assert_eq!((count(&again, "found"), count(&again, "stored")), (3_000, 0));
    std::fs::rename(&moved, dir.path().join("input")).unwrap();

    let second = go(dir.path());
    assert!(second.stdout.contains("nothing new"), "{}", second.stdout);
    let second = second.figures;
    assert_eq!(
        (count(&second, "found"), count(&second, "stored"), count(&second, "delivered_rows")),
        (3_000, 0, 3_000)
    );
    assert_eq!(second["objects"], first["objects"], "no file was written again");
    assert_eq!(second["table_version"], first["table_version"]);

    // A file beside the old one, and rows at the old one's end.
    write("b.csv", rows(10_000..10_500));
    write("a.csv", rows(0..3_100));
    let third = go(dir.path()).figures;
    assert_eq!((count(&third, "found"), count(&third, "stored"), count(&third, "delivered_rows")), (3_000, 600, 3_600));
    assert_eq!(third["replayed_events"], json!(3_600));
}

#[test]
fn an_edited_file_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("input")).unwrap();
    let file = dir.path().join("input/a.csv");
    std::fs::write(&file, rows(0..50)).unwrap();
    go(dir.path());
    // In the middle, at its beginning, and by a column more.
    let edits = [
        rows(0..50).replace("\n7,", "\n7000,"),
        rows(1..51),
        rows(0..50).replace('\n', ",\n").replace("delay,", "delay,x"),
    ];
    for edited in edits {
        std::fs::write(&file, edited).unwrap();
        let refused = run(dir.path(), &["--input", file.to_str().unwrap(), "--table", "visits"]);
        assert_eq!(refused.code, Some(2), "{}", refused.stdout);
        assert!(
            refused.stderr.contains("a.csv was edited since its 50 rows went into this store"),
            "{}",
            refused.stderr
        );
    }
}
