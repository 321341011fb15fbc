//! Folders that make other engines drop columns, lose values or add up the wrong column. Each comes out right, and is read
//! back cell by cell as the table's own properties say.

use glue_core::{Domains, Glue, Metastore};

use crate::lake::{crawl, lake, shape, table, values};

/// Crawls `t` and checks the shape; answers the values by column.
async fn check(files: &[(String, String)], expected: &str) -> std::collections::BTreeMap<String, Vec<String>> {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let (data, glue) = (lake(&files).await, Glue::memory().open().await.unwrap());
    crawl(&glue, &data, "t").await;
    let def = table(&glue, "t").await;
    assert_eq!(shape(&def), expected);
    values(&data, &def).await
}

fn files(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, text)| (format!("t/{path}"), (*text).to_owned())).collect()
}

fn many(count: usize, extension: &str, text: impl Fn(usize) -> &'static str) -> Vec<(String, String)> {
    (0..count).map(|index| (format!("t/f{index:02}.{extension}"), text(index).to_owned())).collect()
}

#[tokio::test]
async fn reordered_columns_are_found_by_name() {
    let read =
        check(&files(&[("a.csv", "a,b\n1,2\n3,4\n"), ("b.csv", "b,a\n20,10\n40,30\n")]), "a:bigint b:bigint").await;
    assert_eq!(read["a"].iter().map(|v| v.parse::<i64>().unwrap()).sum::<i64>(), 44);
}

#[tokio::test]
async fn a_late_column_is_kept() {
    let read = check(
        &many(40, "csv", |i| if i < 30 { "a,b\n1,x\n" } else { "a,b,late\n1,x,L\n" }),
        "a:bigint b:string late:string",
    )
    .await;
    assert_eq!((read["a"].len(), read["late"].iter().filter(|v| *v == "L").count()), (40, 10));
}

#[tokio::test]
async fn a_late_json_key_is_kept() {
    let read = check(
        &many(40, "json", |i| if i < 38 { "{\"a\": 1}\n" } else { "{\"a\": 1, \"late\": \"L\"}\n" }),
        "a:bigint late:string",
    )
    .await;
    assert_eq!((read["a"].len(), read["late"].iter().filter(|v| *v == "L").count()), (40, 2));
}

#[tokio::test]
async fn a_late_type_widens_and_loses_nothing() {
    let read = check(&many(40, "csv", |i| if i < 30 { "a\n1\n2\n" } else { "a\n1.5\nx7\n" }), "a:string").await;
    assert_eq!((read["a"].len(), read["a"].iter().filter(|v| *v == "x7").count()), (80, 10));
}

#[tokio::test]
async fn empty_files_force_no_type() {
    let read =
        check(&files(&[("a.csv", "a,b\n1,2.5\n"), ("b.csv", "a,b\n"), ("c.csv", "")]), "a:bigint b:double").await;
    assert_eq!(read["b"], ["2.5"]);
}

#[tokio::test]
async fn leading_zeros_are_text() {
    let read =
        check(&files(&[("a.csv", "zip,n\n00501,1\n10001,2\n"), ("b.csv", "zip,n\n02134,3\n")]), "zip:string n:bigint")
            .await;
    assert_eq!(read["zip"], ["00501", "10001", "02134"]);
}

#[tokio::test]
async fn a_header_over_nothing_but_text_is_found() {
    let read = check(
        &files(&[("a.csv", "name,city\nann,rome\nbob,oslo\n"), ("b.csv", "name,city\ncid,lima\n")]),
        "name:string city:string",
    )
    .await;
    assert_eq!(read["name"], ["ann", "bob", "cid"]);
}

#[tokio::test]
async fn files_without_a_header_keep_their_first_rows() {
    let read = check(
        &files(&[("a.csv", "ann,rome\nbob,oslo\n"), ("b.csv", "cid,lima\ndan,rome\n")]),
        "col0:string col1:string",
    )
    .await;
    assert_eq!(read["col0"], ["ann", "bob", "cid", "dan"]);
    let read = check(&files(&[("a.csv", "1,x\n2,y\n")]), "col0:bigint col1:string").await;
    assert_eq!(read["col0"], ["1", "2"]);
}

#[tokio::test]
async fn partitions_of_text_are_asked_together_for_a_header() {
    for (folders, keys) in [(["day=1", "day=2"], "day:int"), (["2024-01", "2024-02"], "partition_0:string")] {
        let both = |first: &'static str, second: &'static str| -> Vec<(String, String)> {
            folders
                .into_iter()
                .zip([first, second])
                .map(|(f, text)| (format!("t/{f}/a.csv"), text.to_owned()))
                .collect()
        };
        let data = both("ann,rome\nbob,oslo\n", "cid,lima\ndan,rome\n");
        let read = check(&data, &format!("col0:string col1:string | {keys}")).await;
        assert_eq!(read["col0"], ["ann", "bob", "cid", "dan"]);
        let headed = both("name,city\nann,rome\n", "name,city\ncid,lima\n");
        let read = check(&headed, &format!("name:string city:string | {keys}")).await;
        assert_eq!(read["name"], ["ann", "cid"]);
    }
}

#[tokio::test]
async fn integers_past_64_bits_lose_no_digit() {
    let read = check(&files(&[("a.csv", "id\n1\n"), ("b.csv", "id\n9223372036854775808\n")]), "id:decimal(19,0)").await;
    assert_eq!(read["id"], ["1", "9223372036854775808"]);
}

#[tokio::test]
async fn the_null_partition_is_null() {
    let all = files(&[("dt=2024-01-01/a.csv", "v\n1\n"), ("dt=__HIVE_DEFAULT_PARTITION__/a.csv", "v\n2\n")]);
    let read = check(&all, "v:bigint | dt:date").await;
    assert_eq!(read["v"].len(), 2);
}

#[tokio::test]
async fn month_01_and_month_1_stay_apart() {
    let all = [("t/year=2024/month=01/a.csv", "v\n1\n"), ("t/year=2024/month=1/a.csv", "v\n2\n")];
    let (data, glue) = (lake(&all).await, Glue::memory().open().await.unwrap());
    crawl(&glue, &data, "t").await;
    let def = table(&glue, "t").await;
    assert_eq!(shape(&def), "v:bigint | year:int month:string");
    let partitions = glue.catalog().select(&def, &Domains::all()).await.unwrap().partitions;
    let paths: Vec<_> = partitions.iter().map(|partition| partition.path(&def)).collect();
    assert_eq!(paths, ["t/year=2024/month=01", "t/year=2024/month=1"]);
}

#[tokio::test]
async fn timestamps_of_several_forms_are_one_type() {
    let read = check(
        &files(&[("a.csv", "t\n2024-01-01 10:00:00\n2024-01-02 11:00:00\n"), ("b.csv", "t\n2024-01-03T10:00:00Z\n")]),
        "t:timestamp",
    )
    .await;
    assert_eq!(read["t"], ["2024-01-01T10:00:00", "2024-01-02T11:00:00", "2024-01-03T10:00:00"]);
}

#[tokio::test]
async fn null_tokens_do_not_force_text() {
    let read = check(&files(&[("a.csv", "delay,code\n5,NA\nNA,x\n")]), "delay:bigint code:string").await;
    assert_eq!(
        (read["delay"].clone(), read["code"].clone()),
        (vec!["5".to_owned(), "NULL".to_owned()], vec!["NA".to_owned(), "x".to_owned()])
    );
}
