//! What a producer puts again is not stored again, over restarts, and nothing of it is lost.

use durable_core::ManualClock;
use kinesis_core::{DataStream, ErrorKind, Kinesis, Producer, PutBatch, PutRecordsOutput, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{numbers, record, small};

async fn put(stream: &DataStream, first: u64, count: u64) -> Result<PutRecordsOutput> {
    let batch = PutBatch::new((first..first + count).map(record).collect());
    stream.put_batch(batch.with_producer(Producer::consecutive("file", first))).await
}

#[tokio::test]
async fn a_batch_that_is_sent_again_is_dropped() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    assert_eq!(stream.producer("file").unwrap(), None);
    assert_eq!(put(&stream, 0, 10).await.unwrap().stored(), 10);
    let again = put(&stream, 5, 10).await.unwrap();
    assert_eq!((again.stored(), again.duplicates()), (5, 5));
    assert_eq!(put(&stream, 0, 15).await.unwrap().duplicates(), 15);
    assert_eq!(stream.producer("file").unwrap(), Some(14));
    assert_eq!(numbers(&stream).await, (0..15).collect::<Vec<_>>());
    assert_eq!(kinesis.metrics().duplicate_records, 20);
}

#[tokio::test]
async fn a_gap_is_a_conflict() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    put(&stream, 0, 10).await.unwrap();
    assert_eq!(put(&stream, 11, 1).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(put(&stream, 10, 2).await.unwrap().stored(), 2);
    // Line numbers may have gaps, and each producer has numbers of its own.
    let batch = PutBatch::new([20, 25].map(record).to_vec()).with_producer(Producer::numbered("lines", [20, 25]));
    assert_eq!(stream.put_batch(batch.clone()).await.unwrap().stored(), 2);
    assert_eq!(stream.put_batch(batch).await.unwrap().duplicates(), 2);
    assert_eq!((stream.producer("lines").unwrap(), stream.producer("file").unwrap()), (Some(25), Some(11)));
}

/// Many tasks send overlapping batches at once; each event is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_that_overlap_in_flight_are_stored_once() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    let senders = (0..8).map(|seed| {
        let stream = stream.clone();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed);
            loop {
                let next = stream.producer("file").unwrap().map_or(0, |last| last + 1);
                if next >= 2000 {
                    return;
                }
                let first = next.saturating_sub(rng.random_range(0..20));
                match put(&stream, first, rng.random_range(1..50)).await {
                    Ok(_) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let last = stream.producer("file").unwrap().unwrap();
    assert_eq!(numbers(&stream).await, (0..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_stream_remembers_over_restarts_and_seals() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    kinesis.create_stream("s", 4).await.unwrap();
    kinesis.close().await.unwrap();
    for life in 0..6 {
        let kinesis = small(dir.path(), &clock).open().await.unwrap();
        let stream = kinesis.stream("s").unwrap();
        let known = stream.producer("file").unwrap();
        assert_eq!(known, (life * 100_u64).checked_sub(1));
        // A restarted producer begins a little before where it was.
        let first = (life * 100).saturating_sub(30);
        let output = put(&stream, first, (life + 1) * 100 - first).await.unwrap();
        assert_eq!(output.stored(), 100);
        if life % 2 == 0 {
            kinesis.seal().await.unwrap();
        }
        kinesis.close().await.unwrap();
    }
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    assert_eq!(numbers(&kinesis.stream("s").unwrap()).await, (0..600).collect::<Vec<_>>());
}
