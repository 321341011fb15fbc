//! What SQL says of the delivered table is what the input says, computed without any of the crates under test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::PathBuf;

use flate2::bufread::GzDecoder;
use serde_json::{Value, json};

use crate::pipeline_run::{count, run_well};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The figures from the files themselves, read by the `csv` crate alone.
fn expected() -> BTreeMap<&'static str, Value> {
    let mut airlines = BTreeMap::new();
    for record in csv::Reader::from_path(data("airlines.csv")).unwrap().records() {
        let record = record.unwrap();
        airlines.insert(record[0].to_owned(), record[1].to_owned());
    }
    let file = BufReader::new(std::fs::File::open(data("flights.csv.gz")).unwrap());
    let mut flights = csv::Reader::from_reader(GzDecoder::new(file));
    let header = flights.headers().unwrap().clone();
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let (month, day, delay, carrier, distance) =
        (at("month"), at("day"), at("dep_delay"), at("carrier"), at("distance"));

    let (mut rows, mut alerts, mut july_4, mut minutes, mut miles) = (0_u64, 0_u64, 0_u64, 0_i64, 0_i64);
    let (mut days, mut by_month, mut by_airline) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for record in flights.records() {
        let record = record.unwrap();
        rows += 1;
        days.insert((record[month].to_owned(), record[day].to_owned()));
        *by_month.entry(record[month].to_owned()).or_insert(0_u64) += 1;
        *by_airline.entry(airlines[&record[carrier]].clone()).or_insert(0_u64) += 1;
        july_4 += u64::from(&record[month] == "7" && &record[day] == "4");
        miles += record[distance].parse::<i64>().unwrap();
        if let Ok(late) = record[delay].parse::<i64>() {
            minutes += late;
            alerts += u64::from(late > 180);
        }
    }
    BTreeMap::from([
        ("rows", json!(rows)),
        ("stored", json!(rows)),
        ("rejected", json!(0)),
        ("delivered_rows", json!(rows)),
        ("replayed_events", json!(rows)),
        ("partitions", json!(days.len())),
        ("alerts", json!(alerts)),
        ("rows_by_month", json!(by_month)),
        ("flights_on_4_july", json!(july_4)),
        ("flights_by_airline", json!(by_airline)),
        ("sum_dep_delay", json!(minutes)),
        ("sum_distance", json!(miles)),
    ])
}

#[test]
fn sql_says_what_the_input_says() {
    let expected = expected();
    assert_eq!((&expected["rows"], &expected["partitions"]), (&json!(56_130), &json!(365)), "the bundled data");
    let dir = tempfile::tempdir().unwrap();
    let run = run_well(dir.path(), &[]);
    for (name, value) in &expected {
        assert_eq!(&run.figures[*name], value, "{name}\n{}", run.stdout);
    }

    // Pruned, and counted: one day of 365, three days, and the whole table.
    let asked = run.figures["questions"].as_array().expect("questions");
    let read: Vec<_> =
        asked.iter().map(|asked| (count(asked, "partitions_read"), count(asked, "partitions_total"))).collect();
    assert_eq!(read[0], (1, 365), "{}", run.stdout);
    assert_eq!(read[4], (3, 365), "{}", run.stdout);
    assert_eq!(read[2], (365, 365), "{}", run.stdout);
    let scanned = |index: usize| (count(&asked[index], "bytes_scanned"), count(&asked[index], "bytes_total"));
    assert!(scanned(0).0 * 100 < scanned(0).1, "one day of a year is less than a hundredth: {:?}", scanned(0));
    assert!(scanned(2).0 < scanned(2).1, "three of nineteen columns are less than all: {:?}", scanned(2));

    assert_eq!(run.figures["second_crawl_committed"], json!(false), "{}", run.stdout);
    for said in ["cargo run --example query -- --store", "counts agree", "1 of 365"] {
        assert!(run.stdout.contains(said), "`{said}` is not in\n{}", run.stdout);
    }
}
