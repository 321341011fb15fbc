//! The disk itself: one write and one sync, and a group commit with nothing around it.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use crate::pace::turn;
use crate::percentile::Times;

const FILE_BYTES: u64 = 256 << 20;
/// A group is written once it is so large.
const GROUP_BYTES: usize = 2 << 20;

/// A file whose blocks are allocated, as a journal's are.
fn allocated(path: &Path) -> File {
    let mut file = File::create(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// Writes and syncs records of this size, one after another.
pub(crate) fn write_and_sync(dir: &Path, bytes: usize, time: Duration) -> Times {
    let mut file = allocated(&dir.join("bare"));
    let record = vec![7; bytes];
    let (mut times, end, mut at) = (Times::default(), Instant::now() + time, 0);
    while Instant::now() < end {
        let begun = Instant::now();
        file.write_all(&record).unwrap();
        file.sync_data().unwrap();
        times.add(begun.elapsed());
        at += bytes as u64;
        if at + bytes as u64 > FILE_BYTES {
            file.seek(SeekFrom::Start(0)).unwrap();
            at = 0;
        }
    }
    times
}

/// How long a thread that waits takes to run after another has woken it: what each step from thread to thread costs.
pub(crate) fn wake(time: Duration) -> Times {
    let (sender, receiver) = mpsc::channel::<Instant>();
    let thread = std::thread::spawn(move || {
        let mut times = Times::default();
        while let Ok(sent) = receiver.recv() {
            times.add(sent.elapsed());
        }
        times
    });
    let end = Instant::now() + time;
    while Instant::now() < end {
        sender.send(Instant::now()).unwrap();
        // As long as a sync takes, about.
        std::thread::sleep(Duration::from_micros(100));
    }
    drop(sender);
    thread.join().unwrap()
}

type Request = (Bytes, oneshot::Sender<()>);

/// Where a bare group commit writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Behind the end of a new file, as a log is first written: the blocks are found on the way.
    NewFile,
    /// Over the same blocks again and again: what the disk can do at its best, with nothing kept.
    SameBlocks,
}

/// So many writers, each with one record at a time, through a thread which writes and syncs whatever waits, with a checksum:
/// as fast as they can, or as `pace` lets them.
pub(crate) async fn group_commit(
    dir: &Path,
    target: Target,
    writers: usize,
    bytes: usize,
    pace: Option<Arc<Semaphore>>,
    time: Duration,
) -> Times {
    let path = dir.join("group");
    let (mut file, file_bytes) = match target {
        Target::NewFile => (File::create(&path).unwrap(), u64::MAX),
        Target::SameBlocks => (allocated(&path), FILE_BYTES),
    };
    let (requests, waiting) = mpsc::sync_channel::<Request>(8192);
    let thread = std::thread::spawn(move || {
        let (mut group, mut acks, mut at) = (Vec::with_capacity(GROUP_BYTES * 2), Vec::new(), 0);
        while let Ok(first) = waiting.recv() {
            let mut next = Some(first);
            while let Some((record, ack)) = next.take() {
                group.extend_from_slice(&crc32c::crc32c(&record).to_le_bytes());
                group.extend_from_slice(&record);
                acks.push(ack);
                if group.len() < GROUP_BYTES {
                    next = waiting.try_recv().ok();
                }
            }
            if at + group.len() as u64 > file_bytes {
                file.seek(SeekFrom::Start(0)).unwrap();
                at = 0;
            }
            file.write_all(&group).unwrap();
            file.sync_data().unwrap();
            at += group.len() as u64;
            group.clear();
            for ack in acks.drain(..) {
                // A writer that has stopped waits for nothing.
                let _ = ack.send(());
            }
        }
    });
    let record = Bytes::from(vec![7; bytes]);
    let end = Instant::now() + time;
    let writers = (0..writers).map(|_| {
        let (requests, record, pace) = (requests.clone(), record.clone(), pace.clone());
        tokio::spawn(async move {
            let mut times = Times::default();
            while Instant::now() < end && turn(pace.as_deref()).await {
                let begun = Instant::now();
                let (ack, acked) = oneshot::channel();
                let mut request = (record.clone(), ack);
                while let Err(mpsc::TrySendError::Full(back)) = requests.try_send(request) {
                    request = back;
                    tokio::task::yield_now().await;
                }
                acked.await.unwrap();
                times.add(begun.elapsed());
            }
            times
        })
    });
    let mut all = Times::default();
    for writer in writers.collect::<Vec<_>>() {
        all.extend(writer.await.unwrap());
    }
    drop(requests);
    thread.join().unwrap();
    std::fs::remove_file(path).unwrap();
    all
}
