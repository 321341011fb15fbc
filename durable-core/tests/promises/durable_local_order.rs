//! `DurableLocal` is an object store, and asks the operating system in an order that survives a power loss: bytes
//! synced before they are named, directories and new ancestors before the acknowledgement.

use std::sync::Arc;

use durable_core::DurableLocal;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use testkit::crash::Child;
use testkit::strace;

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() {
    let dir = tempfile::tempdir().unwrap();
    let store = DurableLocal::new(dir.path()).unwrap();
    testkit::conformance::store::run(&store, false).await;
    drop(store);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("durable-local-")), "{left:?}");
}

#[test]
fn it_works_outside_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let store = DurableLocal::new(dir.path()).unwrap();
    let path = Path::from("a/b");
    let read = futures::executor::block_on(async {
        store.put(&path, PutPayload::from_static(b"bytes")).await?;
        store.get(&path).await?.bytes().await
    });
    assert_eq!(read.unwrap(), "bytes");
}

/// A hundred puts and what else changes names, each acknowledged.
async fn change_names(store: Arc<dyn ObjectStore>, child: &Child) {
    for number in 0..100 {
        let path = Path::from(format!("year={}/month={}/{number}", number / 50, number / 10));
        let mode = if number % 2 == 0 { PutMode::Create } else { PutMode::Overwrite };
        store.put_opts(&path, PutPayload::from(vec![7; 100]), PutOptions::from(mode)).await.unwrap();
        child.ack(number);
    }
    let (from, copied, moved) = (Path::from("year=0/month=0/0"), Path::from("copies/a/b"), Path::from("copies/c/d"));
    for (at, overwrite) in [(&copied, true), (&copied, true), (&moved, false)] {
        let copy = if overwrite { store.copy(&from, at).await } else { store.copy_if_not_exists(&from, at).await };
        copy.unwrap();
        child.ack(at);
    }
    store.rename(&copied, &moved).await.unwrap();
    child.ack("two names of one file became one");
    assert!(child.mode() == "no sync" || store.head(&copied).await.is_err());
    store.rename_if_not_exists(&moved, &Path::from("copies/e")).await.unwrap();
    child.ack("renamed");
    store.delete(&from).await.unwrap();
    child.ack("deleted");
    let mut upload = store.put_multipart(&Path::from("large/parts")).await.unwrap();
    upload.put_part(PutPayload::from(vec![1; 10_000])).await.unwrap();
    upload.put_part(PutPayload::from(vec![2; 10_000])).await.unwrap();
    upload.complete().await.unwrap();
    child.ack("uploaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sync_is_in_its_place() {
    if let Some(child) = Child::current() {
        let store: Arc<dyn ObjectStore> = match child.mode() {
            "no sync" => Arc::new(LocalFileSystem::new_with_prefix(child.dir()).unwrap()),
            _ => Arc::new(DurableLocal::new(child.dir()).unwrap()),
        };
        change_names(store, &child).await;
        return;
    }
    if !strace::is_available() {
        assert!(std::env::var_os("CI").is_none(), "strace is not installed: it must be where CI is set");
        eprintln!("skipped every_sync_is_in_its_place: strace is not installed or may not trace");
        return;
    }
    let name = "durable_local_order::every_sync_is_in_its_place";
    let dir = tempfile::tempdir().unwrap();
    let seen = strace::check(name, "", dir.path()).unwrap();
    assert_eq!(seen.acks, 107);
    assert!(seen.names >= 119 && seen.syncs >= 220, "{seen:?}");

    let dir = tempfile::tempdir().unwrap();
    let violation = strace::check(name, "no sync", dir.path()).unwrap_err();
    assert!(violation.contains("before its bytes were synced"), "{violation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creators_wins_and_tags_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = Path::from("new/one");
    let create = |number: u8| {
        let (store, path) = (DurableLocal::new(dir.path()).unwrap(), path.clone());
        tokio::spawn(async move {
            let options = PutOptions::from(PutMode::Create);
            store.put_opts(&path, PutPayload::from(vec![number; 100_000]), options).await.map(|put| (number, put))
        })
    };
    let creators: Vec<_> = (0..16).map(create).collect();
    let mut winners = Vec::new();
    for creator in creators {
        match creator.await.unwrap() {
            Ok(winner) => winners.push(winner),
            Err(error) => assert!(matches!(error, object_store::Error::AlreadyExists { .. }), "{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    let (number, put) = winners.remove(0);
    let store = DurableLocal::new(dir.path()).unwrap();
    let options = GetOptions::new().with_if_match(put.e_tag);
    assert_eq!(store.get_opts(&path, options).await.unwrap().bytes().await.unwrap(), vec![number; 100_000]);
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

#[tokio::test]
async fn an_upload_with_a_part_missing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = DurableLocal::new(dir.path()).unwrap();
    let path = Path::from("half");
    let mut upload = store.put_multipart(&path).await.unwrap();
    drop(upload.put_part(PutPayload::from_static(b"never written")));
    upload.put_part(PutPayload::from_static(b"written")).await.unwrap();
    let error = upload.complete().await.unwrap_err();
    assert!(error.to_string().contains("1 of 2 parts"), "{error}");
    assert!(store.head(&path).await.is_err());
}

#[test]
fn handles_are_cheap_to_share() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<DurableLocal>();
}
