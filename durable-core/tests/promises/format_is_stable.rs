//! What an earlier version wrote opens for ever: journals that were checked in with the tests.
//!
//! `DURABLE_CORE_WRITE_FIXTURES=1 cargo test -p durable-core --test promises format` writes them anew, which is right
//! only for a new format beside the old ones, never in their place.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::{Frame, Journal, JournalBuilder, Position, Recovery};
use durable_core::{DurableLocal, VersionedCommit};
use object_store::path::Path;

const WRITE: &str = "DURABLE_CORE_WRITE_FIXTURES";

fn fixture(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises/fixtures").join(name)
}

/// A copy that may be written to.
fn copy(name: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    copy_into(&fixture(name), target.path());
    target
}

fn copy_into(from: &FilePath, to: &FilePath) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn directory(dir: &FilePath) -> JournalBuilder {
    Journal::dir(dir).segment_bytes(8 << 10)
}

fn objects(dir: &FilePath) -> JournalBuilder {
    Journal::store(Arc::new(DurableLocal::new(dir).unwrap()), Path::from("journal"))
}

/// A life with two openings, a checkpoint, spans and sizes from nothing to a kilobyte.
async fn write(builder: impl Fn() -> JournalBuilder) {
    let journal = builder().open().await.unwrap().start(|_| {}).await.unwrap();
    for number in 0..3_u8 {
        journal.append(vec![number; 10].into(), 1).await.unwrap();
    }
    let parts = vec![("a".into(), Some("part a".into())), ("b".into(), Some(Bytes::new()))];
    journal.checkpoint(Position(2), parts).await.unwrap();
    journal.close().await.unwrap();
    let journal = builder().open().await.unwrap().start(|_| {}).await.unwrap();
    for (size, span) in [(0, 1), (1, 7), (1000, 1)] {
        journal.append(vec![9; size].into(), span).await.unwrap();
    }
    journal.close().await.unwrap();
}

async fn check(mut recovery: Recovery) {
    let checkpoint = recovery.checkpoint().unwrap().clone();
    assert_eq!(checkpoint.at, Position(2));
    assert_eq!(checkpoint.parts.get("a").unwrap(), "part a");
    assert_eq!(checkpoint.parts.get("b").unwrap(), "");
    let mut frames: Vec<Frame> = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        frames.push(frame);
    }
    let bodies: Vec<(usize, u32)> = frames.iter().map(|frame| (frame.body.len(), frame.span)).collect();
    assert_eq!(bodies, [(10, 1), (0, 1), (1, 7), (1000, 1)]);
    assert_eq!((frames[0].position, &frames[0].body), (Position(2), &Bytes::from(vec![2; 10])));
    assert_eq!(frames[2].end(), frames[3].position);
    let newest = frames[3].end();
    let journal = recovery.start(|_| {}).await.unwrap();
    assert!(journal.append("today".into(), 1).await.unwrap() >= newest);
    journal.close().await.unwrap();
}

async fn check_or_write(name: &str, builder: impl Fn(&FilePath) -> JournalBuilder) {
    if std::env::var_os(WRITE).is_some() {
        let dir = fixture(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        write(|| builder(&dir)).await;
        for leftover in ["lock", "durable-local#0"] {
            let _ = std::fs::remove_file(dir.join(leftover));
        }
    }
    let copy = copy(name);
    check(builder(copy.path()).open().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_v1() {
    check_or_write("directory-v1", directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_v1() {
    check_or_write("objects-v1", objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_without_ids_v1() {
    check_versions("versions-v1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_v2() {
    check_versions("versions-v2").await;
}

async fn check_versions(name: &str) {
    let open = |dir: &FilePath| VersionedCommit::new(Arc::new(DurableLocal::new(dir).unwrap()), Path::from("value"));
    if std::env::var_os(WRITE).is_some() && !fixture(name).exists() {
        let dir = fixture(name);
        let value = open(&dir);
        for number in 0..4 {
            value.commit(number, Bytes::from(format!("body {}", number + 1))).await.unwrap();
        }
        value.trim(3).await.unwrap();
        drop(value);
        let _ = std::fs::remove_file(dir.join("durable-local#0"));
    }
    let copy = copy(name);
    let value = open(copy.path());
    assert_eq!(value.latest().await.unwrap().unwrap().body, "body 4");
    assert_eq!(value.read(3).await.unwrap().unwrap().body, "body 3");
    assert!(value.read(2).await.unwrap().is_none());
    assert_eq!(value.commit(4, "today".into()).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_format_is_caught() {
    let copy = copy("directory-v1");
    let segment = std::fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|end| end == "segment")).max().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[7] = b'2'; // as a version of another format would begin
    std::fs::write(&segment, bytes).unwrap();
    let Ok(mut recovery) = directory(copy.path()).open().await else { return };
    while let Ok(Some(_)) = recovery.next().await {}
    assert!(recovery.next().await.is_err());
}
