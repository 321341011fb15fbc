//! A crawl that finds nothing new commits nothing and reads nothing; in whatever order files come, the table is the same.

use std::sync::Arc;

use glue_core::object_store::path::Path;
use glue_core::object_store::{ObjectStore, ObjectStoreExt};
use glue_core::{Change, CrawlEvent, Glue, Metastore, Outcome, TableDef};
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};

use crate::lake::{crawl, lake, parquet, shape, table};

const FILES: [(&str, &str); 6] = [
    ("t/day=1/a.csv", "id,v\n1,x\n"),
    ("t/day=2/a.csv", "v,id\ny,2.5\n"),
    ("t/day=10/a.csv", "id,v,late\n3,z,L\n"),
    ("t/day=10/b.csv", "id,v\n4,2024-01-01\n"),
    ("t/_SUCCESS", "x"),
    ("u/a.json", "{\"k\":{\"n\":1}}\n"),
];

#[tokio::test]
async fn a_second_crawl_commits_nothing_and_reads_nothing() {
    let data = Arc::new(FaultStore::new(lake(&FILES).await));
    let shared: Arc<dyn ObjectStore> = data.clone();
    let glue = Glue::memory().open().await.unwrap();
    let first = crawl(&glue, &shared, "").await;
    assert_eq!((first.committed, first.plan.files_read), (Some(1), 5));
    let gets = data.calls(Operation::Get);

    let second = crawl(&glue, &shared, "").await;
    assert_eq!((second.committed, second.plan.files_read), (None, 0));
    assert!(second.plan.tables.iter().all(|table| table.outcome == Outcome::Unchanged));
    assert_eq!(data.calls(Operation::Get), gets, "an unchanged object was read again");
    assert_eq!(glue.catalog().newest().await.unwrap().number(), 1);
}

#[tokio::test]
async fn a_new_file_is_the_only_one_read() {
    let data = lake(&FILES).await;
    let glue = Glue::memory().open().await.unwrap();
    crawl(&glue, &data, "").await;
    data.put(&Path::from("t/day=11/a.csv"), "id,v\n5,w\n".into()).await.unwrap();
    let report = crawl(&glue, &data, "").await;
    let t = report.plan.tables.iter().find(|table| table.name == "t").unwrap();
    assert_eq!((report.plan.files_read, t.partitions_new, t.partitions_changed, t.partitions_gone), (1, 1, 0, 0));
    data.delete(&Path::from("t/day=2/a.csv")).await.unwrap();
    let report = crawl(&glue, &data, "").await;
    let t = report.plan.tables.iter().find(|table| table.name == "t").unwrap();
    assert_eq!((report.plan.files_read, t.partitions_gone, t.partitions), (0, 1, 3));
    // What day=2 had forced is forced no more.
    assert_eq!(shape(&*table(&glue, "t").await), "id:bigint v:string late:string | day:int");
}

#[tokio::test]
async fn the_order_of_files_does_not_matter() {
    let mut seen: Vec<TableDef> = Vec::new();
    for rotation in 0..FILES.len() {
        let mut files = FILES;
        files.rotate_left(rotation);
        let (data, glue) = (lake(&[]).await, Glue::memory().open().await.unwrap());
        for (path, text) in files {
            // Crawling after each file forces every intermediate schema.
            data.put(&Path::from(path), text.into()).await.unwrap();
            let crawler = glue
                .crawler("test", Arc::clone(&data), Path::default())
                .with_database("db")
                .with_files_at_once(rotation + 1);
            crawler.run().await.unwrap();
        }
        let def = table(&glue, "t").await;
        assert_eq!(shape(&def), "id:double v:string late:string | day:int");
        seen.push(def.as_ref().clone());
    }
    assert!(seen.iter().all(|def| def.same_definition(&seen[0])), "{seen:#?}");
}

#[tokio::test]
async fn a_persons_additions_survive() {
    let data = lake(&FILES).await;
    let glue = Glue::memory().open().await.unwrap();
    crawl(&glue, &data, "").await;
    let mut def = table(&glue, "t").await.as_ref().clone().with_property("owner", "ann").with_comment("by hand");
    def.columns[0].comment = Some("the key".to_owned());
    glue.catalog().commit(Change::new().replace_table(def)).await.unwrap();
    assert_eq!(crawl(&glue, &data, "").await.committed, None);
    data.put(&Path::from("t/day=12/a.csv"), "id,v,more\n5,w,1\n".into()).await.unwrap();
    crawl(&glue, &data, "").await;
    let def = table(&glue, "t").await;
    assert_eq!((def.properties["owner"].as_str(), def.comment.as_deref()), ("ann", Some("by hand")));
    assert_eq!(def.columns[0].comment.as_deref(), Some("the key"));
    assert!(shape(&def).contains("more:bigint"));
}

#[tokio::test]
async fn one_unreadable_file_costs_that_file_and_a_line() {
    let inner = lake(&FILES).await;
    inner.put(&Path::from("p/bad.parquet"), "PAR1 but not really".into()).await.unwrap();
    inner.put(&Path::from("p/good.parquet"), parquet(&[1, 2], None).into()).await.unwrap();
    let rules = vec![Rule::on(&[Operation::Get], Effect::Fail(Failure::PermissionDenied)).under("t/day=2")];
    let clock = Arc::new(durable_core::SystemClock::new());
    let data: Arc<dyn ObjectStore> = Arc::new(FaultStore::with_rules(inner, 1, clock, rules));
    let glue = Glue::memory().open().await.unwrap();
    let report = crawl(&glue, &data, "").await;
    let lines: Vec<_> = report.plan.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(lines, ["t/day=2/a.csv", "p/bad.parquet"]);
    assert_eq!(report.plan.tables.len(), 3);
    // The broken file is not read again, the one that could not be read is.
    let again = crawl(&glue, &data, "").await;
    assert_eq!((again.plan.files_read, again.plan.problems.len(), again.committed), (1, 2, None));
}

/// `inner`, of which nothing under `t/day=2` can be read.
fn without_day_2(inner: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let rules = vec![Rule::on(&[Operation::Get], Effect::Fail(Failure::PermissionDenied)).under("t/day=2")];
    Arc::new(FaultStore::with_rules(Arc::clone(inner), 1, Arc::new(durable_core::SystemClock::new()), rules))
}

#[tokio::test]
async fn what_cannot_be_read_is_not_gone() {
    let data = lake(&FILES).await;
    let glue = Glue::memory().open().await.unwrap();
    crawl(&glue, &data, "").await;
    let before = table(&glue, "t").await;

    // It changed since it was read: it stands as it was then.
    data.put(&Path::from("t/day=2/a.csv"), "v,id,more\ny,2.5,m\n".into()).await.unwrap();
    for _ in 0..2 {
        let report = crawl(&glue, &without_day_2(&data), "").await;
        assert_eq!((report.plan.files_read, report.plan.tables[0].partitions_gone), (1, 0));
        assert!(report.plan.problems[0].reason.contains("it stands as it was last read"), "{:?}", report.plan.problems);
        assert!(table(&glue, "t").await.same_definition(&before));
    }
    // Nothing is remembered of it: its partition stays.
    let other = glue.crawler("forgetful", without_day_2(&data), Path::default()).with_database("db");
    assert_eq!(other.run().await.unwrap().plan.tables[0].partitions_gone, 0);
    let kept = glue.catalog().table_state("db", "t").await.unwrap();
    assert!(kept.partitions().find(&[Some("2".to_owned())]).unwrap().is_some());

    let report = crawl(&glue, &data, "").await;
    assert!(report.plan.problems.is_empty(), "{:?}", report.plan.problems);
    assert!(shape(&*table(&glue, "t").await).contains("more:string"));
}

/// A footer that may not be read now says nothing about the file.
#[tokio::test]
async fn a_parquet_file_that_may_not_be_read_is_not_gone() {
    let data = lake(&[]).await;
    for day in 1..=2 {
        data.put(&Path::from(format!("t/day={day}/a.parquet")), parquet(&[day], None).into()).await.unwrap();
    }
    let glue = Glue::memory().open().await.unwrap();
    crawl(&glue, &data, "").await;
    data.put(&Path::from("t/day=2/a.parquet"), parquet(&[2, 3], None).into()).await.unwrap();
    for _ in 0..2 {
        let report = crawl(&glue, &without_day_2(&data), "").await;
        assert_eq!((report.plan.files_read, report.plan.tables[0].partitions_gone), (1, 0));
        assert_eq!(report.plan.problems.len(), 1, "{:?}", report.plan.problems);
    }
    assert_eq!(crawl(&glue, &data, "").await.plan.tables[0].rows, Some(3));
}

#[tokio::test]
async fn a_table_keeps_its_name_whatever_comes_beside_it() {
    let data = lake(&[("m/sales/a.json", "{\"k\":1}\n")]).await;
    let glue = Glue::memory().open().await.unwrap();
    crawl(&glue, &data, "").await;
    // Its folder sorts earlier and later.
    for folder in ["a", "z"] {
        data.put(&Path::from(format!("{folder}/sales/a.csv")), "id,v\n1,x\n".into()).await.unwrap();
        let report = crawl(&glue, &data, "").await;
        let new: Vec<_> = report.plan.tables.iter().filter(|table| table.outcome == Outcome::New).collect();
        assert_eq!((new.len(), new[0].location.as_str()), (1, format!("{folder}/sales").as_str()));
        assert!(new[0].name.starts_with("sales_") && new[0].reasons.iter().any(|why| why.contains("lies elsewhere")));
        assert_eq!(table(&glue, "sales").await.location, "m/sales");
        assert_eq!(crawl(&glue, &data, "").await.committed, None);
    }
    assert_eq!(glue.catalog().tables("db").await.unwrap().len(), 3);
}

#[tokio::test]
async fn planning_writes_nothing_and_progress_is_told() {
    let data = lake(&FILES).await;
    let glue = Glue::memory().open().await.unwrap();
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let crawler = glue
        .crawler("test", data, Path::default())
        .with_database("db")
        .on_progress(move |event| sink.lock().unwrap().push(event));
    let plan = crawler.plan().await.unwrap();
    assert_eq!(plan.tables.len(), 2);
    assert_eq!(glue.catalog().databases().await.unwrap(), Vec::<String>::new());
    crawler.run().await.unwrap();
    let events = events.lock().unwrap();
    assert!(events.contains(&CrawlEvent::Listed { files: 5, to_read: 5 }));
    assert_eq!(events.iter().filter(|event| matches!(event, CrawlEvent::FileRead { .. })).count(), 10);
    assert_eq!(events.last(), Some(&CrawlEvent::Committed { number: 1 }));
}
