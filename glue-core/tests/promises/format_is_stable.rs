//! What an earlier version wrote opens for ever: a catalog's directory that was checked in with the tests.
//!
//! `GLUE_CORE_WRITE_FIXTURES=1 cargo test -p glue-core --test promises format` writes it anew, which is right only for a new
//! format beside the old ones, never in their place.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use durable_core::ManualClock;
use glue_core::object_store::ObjectStore;
use glue_core::{Change, Glue, GlueBuilder, Metastore, PartitionDef};

use crate::lake::{crawl, lake, shape, table, with_table};

const WRITE: &str = "GLUE_CORE_WRITE_FIXTURES";
const FIXTURE: &str = "tests/promises/fixtures/catalog-v1";

fn fixture() -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE)
}

fn at(dir: &FilePath) -> GlueBuilder {
    Glue::at(dir).with_checkpoint_every(3).with_clock(Arc::new(ManualClock::default()))
}

/// Files that the crawler has met.
async fn data() -> Arc<dyn ObjectStore> {
    lake(&[
        ("lake/visits/day=1/a.csv", "id,city,seen\n1,rome,2024-01-01\n"),
        ("lake/visits/day=2/a.csv", "id,city,seen\n2,oslo,2024-01-02\n"),
        ("lake/notes/a.json", "{\"k\":{\"n\":[1]},\"x\":1.5}\n"),
    ])
    .await
}

async fn write(dir: &FilePath) {
    let glue = at(dir).open().await.unwrap();
    with_table(&glue).await;
    for n in 0..4 {
        let partitions = vec![PartitionDef::of(["a/b".to_owned(), n.to_string()])];
        glue.catalog().commit(Change::new().add_partitions("db", "t", partitions)).await.unwrap();
    }
    let by_hand = table(&glue, "t").await.as_ref().clone().with_comment("by hand").with_property("owner", "ann");
    glue.catalog().commit(Change::new().replace_table(by_hand)).await.unwrap();
    crawl(&glue, &data().await, "lake").await;
}

fn copy(from: &FilePath, to: &FilePath) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_catalog_of_the_first_version_opens() {
    if std::env::var_os(WRITE).is_some() {
        write(&fixture()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(), dir.path());
    let glue = at(dir.path()).open().await.unwrap();
    let state = glue.catalog().newest().await.unwrap();
    assert_eq!(state.number(), 7);
    assert_eq!(glue.catalog().tables("db").await.unwrap(), ["notes", "t", "visits"]);

    let by_hand = glue.catalog().table_state("db", "t").await.unwrap();
    assert_eq!((by_hand.partitions().len(), by_hand.versions().count()), (4, 2));
    assert!(by_hand.partitions().find(&[Some("a/b".to_owned()), Some("3".to_owned())]).unwrap().is_some());
    assert_eq!(
        (by_hand.def().comment.as_deref(), by_hand.def().properties["owner"].as_str()),
        (Some("by hand"), "ann")
    );
    assert_eq!(shape(&*table(&glue, "t").await), "id:bigint | writer:string n:int");
    assert_eq!(shape(&*table(&glue, "visits").await), "id:bigint city:string seen:date | day:int");
    assert_eq!(shape(&*table(&glue, "notes").await), "k:struct<n:array<bigint>> x:double");

    // It goes on where it was: the crawler remembers its files, and the next commit has the next number.
    let report = crawl(&glue, &data().await, "lake").await;
    assert_eq!((report.plan.files_read, report.committed), (0, None));
    let partition = vec![PartitionDef::of(["w", "9"])];
    assert_eq!(glue.catalog().commit(Change::new().add_partitions("db", "t", partition)).await.unwrap(), 8);
}
