//! No text of a user's becomes a second statement, a write, a setting, or a read of a host file.

use athena_core::{ErrorKind, QueryState, STATEMENT_BYTES_MAX, STATEMENT_COMPARISONS_MAX, STATEMENT_OPERATORS_MAX};

use crate::lake::{Lake, in_lake, one};

#[tokio::test]
async fn everything_but_reading_is_refused() {
    let lake = Lake::with_events().await;
    let athena = lake.athena();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let file = file.display();
    let before = one(&athena, "select count(*) from events").await;
    for sql in [
        "select 1; select 2".to_owned(),
        "select 1; drop table events".to_owned(),
        "drop table events".to_owned(),
        "create table x as select 1".to_owned(),
        "create view x as select 1".to_owned(),
        format!("create external table x stored as csv location 'file://{file}'"),
        format!("create external table x (a int) stored as csv location '{file}'"),
        "insert into events select * from events".to_owned(),
        "with x as (select 1) insert into events select * from x".to_owned(),
        "update events set id = 1".to_owned(),
        "delete from events".to_owned(),
        "merge into events using flat on events.id = flat.id when matched then delete".to_owned(),
        format!("copy events to '{file}'"),
        format!("copy (select 1) to 'file://{file}' stored as csv"),
        format!("explain copy (select 1) to '{file}'"),
        "explain analyze insert into events select * from events".to_owned(),
        "set datafusion.execution.batch_size = 1".to_owned(),
        "reset datafusion.execution.batch_size".to_owned(),
        "show all".to_owned(),
        "prepare p as select 1".to_owned(),
        "execute p".to_owned(),
        "begin".to_owned(),
        "select 1 into x".to_owned(),
        "select * from events for update".to_owned(),
        "table events".to_owned(),
        "use lake".to_owned(),
        "create function f() returns int return 1".to_owned(),
        "   ;".to_owned(),
        String::new(),
        "selec 1".to_owned(),
        "select (1".to_owned(),
    ] {
        let error = athena.start(in_lake(&sql)).await.expect_err(&sql);
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, "InvalidRequestException"), "{sql}");
    }
    for sql in [
        format!("select * from '{file}'"),
        format!("select * from \"{file}\""),
        format!("select * from \"file://{file}\""),
        format!("select * from read_csv('{file}')"),
        format!("select * from parquet_metadata('{file}')"),
        "select * from information_schema.df_settings".to_owned(),
    ] {
        let refused = match athena.start(in_lake(&sql)).await {
            Ok(id) => athena.wait(id).await.unwrap().error.is_some(),
            Err(error) => error.kind() == ErrorKind::InvalidInput,
        };
        assert!(refused, "{sql} was answered");
    }
    assert_eq!(one(&athena, "select count(*) from events").await, before);
}

#[tokio::test]
async fn too_long_and_too_deep_are_typed_errors() {
    let athena = Lake::empty().await.athena();
    let long = format!("select '{}'", "x".repeat(STATEMENT_BYTES_MAX));
    assert_eq!(athena.start(in_lake(&long)).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    for deep in [
        format!("select {}1{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("select {} true", "not ".repeat(STATEMENT_OPERATORS_MAX)),
        format!("select {}1{}", "(select ".repeat(5_000), ")".repeat(5_000)),
    ] {
        assert_eq!(athena.start(in_lake(&deep)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // A tenth runs here in any build; the time to plan grows with the square.
    for (first, more) in [("select 1", " + 1"), ("select true", " or false"), ("select 1", " union all select 1")] {
        let widest = format!("{first}{}", more.repeat(STATEMENT_OPERATORS_MAX / 10));
        let id = athena.start(in_lake(&widest)).await.unwrap();
        assert_eq!(athena.wait(id).await.unwrap().state, QueryState::Succeeded, "{more}");
        let wider = format!("{first}{}", more.repeat(STATEMENT_OPERATORS_MAX + 1));
        assert_eq!(athena.start(in_lake(&wider)).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
    // The widest that is let in may fail; ending the process it may not.
    let widest = format!("select 1{}", " + 1".repeat(STATEMENT_OPERATORS_MAX));
    let id = athena.start(in_lake(&widest)).await.unwrap();
    athena.wait(id).await.unwrap();
}

#[tokio::test]
async fn chains_are_bounded_and_the_longest_do_not_end_the_process() {
    let athena = Lake::empty().await.athena();
    for (first, more, max) in [
        ("select true", " = true", STATEMENT_COMPARISONS_MAX),
        ("select true", " is true", STATEMENT_COMPARISONS_MAX),
        ("select 'a'", " like 'a'", STATEMENT_COMPARISONS_MAX),
        ("select 'a'", " ^@ 'a'", STATEMENT_OPERATORS_MAX),
        ("select * from (select 1)", ", t", STATEMENT_OPERATORS_MAX),
        ("select 1 where 1 in (select 1 from t", ", t", STATEMENT_OPERATORS_MAX),
    ] {
        let close = if first.contains("in (") { ")" } else { "" };
        let sql = |length: usize| format!("{first}{}{close}", more.repeat(length));
        // Some other comparison or subquery may count too.
        let error = athena.start(in_lake(&sql(max + 1))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{more}");
        assert!(error.message().contains(&format!("at most {max}")), "{error}");
        let id = athena.start(in_lake(&sql(max - 1))).await.unwrap();
        athena.wait(id).await.unwrap();
    }
    // Planning so many joins takes minutes: a tenth of them.
    let tables = (0..STATEMENT_OPERATORS_MAX / 10).map(|at| format!("(select 1) t{at}")).collect::<Vec<_>>();
    let sql = format!("select count(*) from {}", tables.join(", "));
    assert_eq!(one(&athena, &sql).await.as_deref(), Some("1"));
    let queries = (1..=STATEMENT_OPERATORS_MAX).map(|at| format!("t{at} as (select * from t{})", at - 1));
    let sql = format!("with t0 as (select 1), {} select 1", queries.collect::<Vec<_>>().join(", "));
    assert_eq!(athena.start(in_lake(&sql)).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn names_are_found_whatever_their_case() {
    let athena = Lake::with_events().await.athena();
    assert_eq!(one(&athena, "SELECT COUNT(*) FROM Lake.EVENTS WHERE Month = 1").await.as_deref(), Some("800"));
    assert_eq!(
        one(&athena, "select count(*) from AwsDataCatalog.lake.events where MONTH = 1").await.as_deref(),
        Some("800")
    );
}
