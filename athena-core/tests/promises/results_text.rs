//! Results read as the service writes them: text forms, announced columns, the CSV object byte for byte, pages.

use athena_core::{Athena, PageRequest, ResultPage};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::lake::{Lake, in_lake, one, texts};

async fn page(athena: &Athena, sql: &str) -> ResultPage {
    let id = athena.start(in_lake(sql)).await.unwrap();
    let execution = athena.wait(id).await.unwrap();
    assert!(execution.error.is_none(), "{sql}: {execution:?}");
    athena.results(id, PageRequest::first()).await.unwrap()
}

#[tokio::test]
async fn every_type_has_the_services_name_and_form() {
    let athena = Athena::memory().build().unwrap();
    for (expression, type_name, precision, scale, text) in [
        ("true", "boolean", 0, 0, "true"),
        ("cast(1 as tinyint)", "tinyint", 3, 0, "1"),
        ("cast(-2 as smallint)", "smallint", 5, 0, "-2"),
        ("cast(3 as integer)", "integer", 10, 0, "3"),
        ("cast(9223372036854775807 as bigint)", "bigint", 19, 0, "9223372036854775807"),
        ("cast(0.5 as real)", "float", 17, 0, "0.5"),
        ("cast(0.1 as real)", "float", 17, 0, "0.1"),
        ("cast(1e10 as real)", "float", 17, 0, "1.0E10"),
        ("cast(0.5 as double)", "double", 17, 0, "0.5"),
        ("cast(12345678 as double)", "double", 17, 0, "1.2345678E7"),
        ("cast('NaN' as double)", "double", 17, 0, "NaN"),
        ("cast('-Infinity' as double)", "double", 17, 0, "-Infinity"),
        ("1.50", "decimal", 3, 2, "1.50"),
        ("cast(7 as decimal(10, 3))", "decimal", 10, 3, "7.000"),
        ("'a''b'", "varchar", 2_147_483_647, 0, "a'b"),
        ("''", "varchar", 2_147_483_647, 0, ""),
        ("date '2017-01-02'", "date", 0, 0, "2017-01-02"),
        ("timestamp '2017-01-01 00:00:00'", "timestamp", 3, 0, "2017-01-01 00:00:00.000"),
        ("timestamp '1969-12-31 23:59:59.999'", "timestamp", 3, 0, "1969-12-31 23:59:59.999"),
        ("time '01:02:03'", "time", 3, 0, "01:02:03.000"),
        ("arrow_cast('123', 'Binary')", "varbinary", 1_073_741_824, 0, "31 32 33"),
        ("make_array(1, 2, null)", "array", 0, 0, "[1, 2, null]"),
        ("map(make_array(1, 3), make_array(2, 4))", "map", 0, 0, "{1=2, 3=4}"),
        ("named_struct('a', 1, 'b', 'x')", "row", 0, 0, "{a=1, b=x}"),
        ("interval '1' day", "interval day to second", 0, 0, "1 00:00:00.000"),
    ] {
        let page = page(&athena, &format!("select {expression} as x")).await;
        let column = &page.columns[0];
        let announced = (column.name.as_str(), column.type_name.as_str(), column.precision, column.scale);
        assert_eq!(announced, ("x", type_name, precision, scale), "{expression}");
        assert_eq!(page.rows, [vec![Some(text.to_owned())]], "{expression}");
    }
}

#[tokio::test]
async fn the_csv_object_is_quoted_throughout_and_null_is_nothing() {
    let lake = Lake::empty().await;
    let athena = lake.athena();
    let sql = "select * from (values (1, 'a,\"b\"'), (2, ''), (3, null)) as t(n, s) order by n";
    let id = athena.start(in_lake(sql)).await.unwrap();
    let execution = athena.wait(id).await.unwrap();
    assert_eq!(execution.output_location, Some(format!("results/{id}.csv")));
    let path = Path::from(execution.output_location.unwrap());
    let body = lake.store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(body, "\"n\",\"s\"\n\"1\",\"a,\"\"b\"\"\"\n\"2\",\"\"\n\"3\",\n");
    let metadata = lake.store.get(&Path::from(format!("{path}.metadata"))).await.unwrap().bytes().await.unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!((&metadata["rows"], &metadata["columns"][1]["type_name"]), (&3.into(), &"varchar".into()));
    let rows = athena.results(id, PageRequest::first()).await.unwrap().rows;
    assert_eq!(rows[1..], [vec![Some("2".to_owned()), Some(String::new())], vec![Some("3".to_owned()), None]]);
}

#[tokio::test]
async fn pages_follow_each_other_whatever_their_size() {
    let athena = Lake::with_events().await.athena();
    let id = athena.start(in_lake("select id, kind from events where id < 3500 order by id")).await.unwrap();
    athena.wait(id).await.unwrap();
    for size in [1000, 999, 37] {
        let (mut rows, mut request) = (Vec::new(), PageRequest::first().with_rows_max(size));
        loop {
            let page = athena.results(id, request).await.unwrap();
            rows.extend(page.rows);
            let Some(token) = page.next_token else { break };
            request = PageRequest::after(token).with_rows_max(size);
        }
        let ids: Vec<i64> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
        assert_eq!(ids, (800..3500).collect::<Vec<_>>(), "pages of {size}");
    }
    athena.results(id, PageRequest::first().with_rows_max(1001)).await.unwrap_err();
    athena.results(id, PageRequest::after("x")).await.unwrap_err();
}

#[tokio::test]
async fn the_catalog_answers_in_lines() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    assert_eq!(one(&athena, "show databases").await.as_deref(), Some("lake"));
    let tables = page(&athena, "show tables 'fl*|nothing'").await;
    assert_eq!((tables.columns[0].name.as_str(), tables.rows), ("tab_name", vec![vec![Some("flat".to_owned())]]));
    let partitions = texts(&athena, "show partitions events").await.0;
    assert_eq!(partitions.len(), 24);
    assert!(partitions.contains(&vec![Some("month=1/city=a%2Fb%3Dc".to_owned())]), "{partitions:?}");
    let columns = texts(&athena, "show columns in events").await.0;
    assert_eq!(columns.last().unwrap()[0].as_deref(), Some("city"));
    let id = athena.start(in_lake("describe events")).await.unwrap();
    let execution = athena.wait(id).await.unwrap();
    assert_eq!(execution.statement_type, "UTILITY");
    let body = lake.store.get(&Path::from(format!("results/{id}.txt"))).await.unwrap().bytes().await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.starts_with("id                  \tbigint              \t                    \n"), "{body}");
    assert!(body.contains("\n# Partition Information\t \t \n"), "{body}");
    let plan = texts(&athena, "explain select id from events where month = 1").await.0;
    assert!(plan.iter().any(|line| line[0].as_ref().unwrap().contains("DataSourceExec")), "{plan:?}");
}

#[tokio::test]
async fn null_sorts_last_and_a_point_makes_a_decimal() {
    let athena = Athena::memory().build().unwrap();
    let rows = texts(&athena, "select x from (values (1), (null), (2)) t(x) order by x desc").await.0;
    assert_eq!(rows, [vec![Some("2".to_owned())], vec![Some("1".to_owned())], vec![None]]);
    assert_eq!(one(&athena, "select 0.1 + 0.2 = 0.3").await.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_failed_query_says_why_in_the_services_terms() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    for (sql, word) in [
        ("select nothing from events", "nothing"),
        ("select * from missing", "missing"),
        ("select * from other.catalog.t", "other"),
        ("select 1 / (qty - qty) from flat", "zero"),
    ] {
        let id = athena.start(in_lake(sql)).await.unwrap();
        let execution = athena.wait(id).await.unwrap();
        let error = execution.error.unwrap_or_else(|| panic!("{sql} succeeded"));
        assert!(error.message.to_lowercase().contains(word) && !error.retryable, "{sql}: {error:?}");
        athena.results(id, PageRequest::first()).await.unwrap_err();
        let partial = lake.store.head(&Path::from(format!("results/{id}.csv"))).await;
        assert!(partial.is_err(), "{sql} left a result object");
    }
}
