//! A stranger's own folder of mixed files: everything that can be read arrives, everything else is set aside with its reason.

use serde_json::{Value, json};

use crate::pipeline_run::{count, run_well};

#[test]
fn a_folder_of_json_and_csv_with_malformed_rows() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::create_dir_all(input.join("more")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(input.join(name), bytes).unwrap();
    write("a.csv", b"id,zip,city,amount\n1,01234,Paris,3\n2,99999,Rome\n3,5,\"Oslo\n4,77,Oslo,1.5\n5,88,,NA\n");
    write(
        "b.jsonl",
        b"{\"id\":6,\"zip\":\"00501\",\"city\":\"Rome\",\"amount\":2,\"tags\":[\"x\",\"y\"]}\n{\"id\":7,\n[8]\n",
    );
    write("more/c.csv", b"id,city\n9,Par\xff\n10,Rome\n");

    let input = input.to_str().unwrap();
    let run = run_well(dir.path(), &["--input", input, "--table", "Visits", "--partition-by", "city", "--shards", "2"]);
    // 1, 4, 5, 6 and 10 are rows; 2 is short, 3 never closes its quote, 7 is cut, 8 is no object, 9 is not UTF-8.
    assert_eq!(count(&run.figures, "rows"), 10, "{}", run.stdout);
    assert_eq!(count(&run.figures, "rejected"), 5, "{}", run.stdout);
    assert_eq!(count(&run.figures, "delivered_rows"), 5, "{}", run.stdout);
    // Paris, Oslo, Rome and the row without a city.
    assert_eq!(count(&run.figures, "partitions"), 4, "{}", run.stdout);
    assert_eq!(run.figures["alerts"], Value::Null, "there is no dep_delay");
    assert!(run.stdout.contains("no alerts"), "{}", run.stdout);

    // The values arrived as what they are: an id with leading zeros is text, an amount is a number.
    let asked = run.figures["questions"].as_array().unwrap();
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[0]["answer"], json!([["5"]]), "{}", run.stdout);

    let reasons = rejected(&dir.path().join("store/store/errors"));
    let expected = [
        "input/a.csv, line 3: 3 fields where the header has 4",
        "input/a.csv, line 4: ",
        "input/b.jsonl, line 2: the line is not JSON",
        "input/b.jsonl, line 3: the line is JSON but not an object",
        "input/more/c.csv, line 2: byte 6 of the line is not UTF-8",
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "`{expected}` is not in {reason}");
    }

    // Again: they are set aside once, not once a run.
    let again = run_well(dir.path(), &["--input", input, "--table", "Visits"]);
    assert_eq!((count(&again.figures, "rejected"), count(&again.figures, "stored")), (5, 0), "{}", again.stdout);
    assert_eq!(rejected(&dir.path().join("store/store/errors")), reasons);
}

/// A row without a value in a partition column lies in Hive's partition of nulls, and the column keeps its type.
#[test]
fn a_partition_of_nulls_is_null() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("days.csv");
    std::fs::write(&input, "day,n\n1,10\n,20\n2,30\n2,40\n").unwrap();
    run_well(dir.path(), &["--input", input.to_str().unwrap(), "--partition-by", "day"]);
    let asked = |sql: &str| query(&dir.path().join("store"), sql);
    assert!(asked("select sum(n) as total from days where day is null").contains("20"));
    assert!(asked("select sum(n) as total from days where day = 2").contains("70"));
    assert!(asked("describe days").contains("int"), "{}", asked("describe days"));
}

/// What the query program prints.
fn query(store: &std::path::Path, sql: &str) -> String {
    let program = crate::pipeline_run::program().with_file_name(format!("query{}", std::env::consts::EXE_SUFFIX));
    let output = std::process::Command::new(program).arg("--store").arg(store).arg(sql).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The reasons in all error objects, sorted.
fn rejected(folder: &std::path::Path) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                reasons.push(line["errorMessage"].as_str().unwrap().to_owned());
            }
        }
    }
    reasons.sort();
    reasons
}
