//! A full disk loses nothing: reserving fails with a typed error, and passes without a restart once there is space.

use std::sync::Arc;

use bytes::Bytes;
use durable_core::journal::{Journal, JournalBuilder};
use durable_core::{Disk, ErrorKind};
use testkit::disk::SimDisk;

const CYCLES: u32 = 50;
const SEGMENT_BYTES: u64 = 16 << 10;

fn builder(disk: &SimDisk) -> JournalBuilder {
    Journal::dir("/j").segment_bytes(SEGMENT_BYTES).disk(Arc::new(disk.clone()) as Arc<dyn Disk>)
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_fail_typed_and_pass_again() {
    let disk = SimDisk::new(1);
    let journal = builder(&disk).open().await.unwrap().start(|_| {}).await.unwrap();
    let mut acked: Vec<Bytes> = Vec::new();
    for cycle in 0..CYCLES {
        disk.set_capacity(u64::from(cycle + 2) * 2 * SEGMENT_BYTES);
        let error = loop {
            let body = Bytes::from(format!("{:01000}", acked.len()));
            match journal.append(body.clone(), 1).await {
                Ok(_) => acked.push(body),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error:?}");
        assert!(error.is_retryable() && !journal.is_poisoned());
        let full = journal.checkpoint(journal.durable(), vec![("large".into(), Some(vec![0; 1 << 20].into()))]).await;
        assert_eq!(full.unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert!(!journal.is_poisoned());
        let left = disk.files().into_iter().find(|file| file.to_string_lossy().ends_with(".staged"));
        assert_eq!(left, None, "what did not fit gives its room back");
    }
    assert!(disk.counts().full >= u64::from(CYCLES), "{:?}", disk.counts());
    disk.set_capacity(u64::MAX);
    journal.append("with space".into(), 1).await.unwrap();
    acked.push("with space".into());
    // As after a power loss: a clean close is not needed.
    disk.crash();
    let mut recovery = builder(&disk).open().await.unwrap();
    let mut found = Vec::new();
    while let Some(frame) = recovery.next().await.unwrap() {
        found.push(frame.body);
    }
    assert_eq!(found.len(), acked.len());
    assert!(found == acked);
}
