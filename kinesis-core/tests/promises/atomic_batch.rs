//! A batch over several shards is put whole or not at all, and what is not allowed has no effect.

use kinesis_core::limits::{PUT_RECORDS_BYTES_MAX, PUT_RECORDS_MAX, RECORD_BYTES_DEFAULT};
use kinesis_core::{ErrorKind, Kinesis, PutRecord, Settings};

use super::stage::{number_of, numbers, put, read_to_tip, record};

#[tokio::test]
async fn a_batch_takes_consecutive_places_over_its_shards() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 5).await.unwrap();
    let placed = put(&stream, 0..500).await;
    let indices: Vec<_> = placed.iter().map(|(_, number)| number.index()).collect();
    assert!(indices.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert!(placed.iter().map(|(shard, _)| shard).collect::<std::collections::BTreeSet<_>>().len() == 5);
}

/// A reader never sees a later batch in one shard while an earlier one is missing in another.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn readers_see_whole_batches() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    let writer = {
        let stream = stream.clone();
        tokio::spawn(async move {
            for batch in 0..200 {
                put(&stream, batch * 20..(batch + 1) * 20).await;
            }
        })
    };
    // What was acknowledged before a read began is all in it.
    while !writer.is_finished() {
        let acknowledged = kinesis.metrics().incoming_records;
        let mut found = 0;
        for shard in stream.list_shards().unwrap() {
            let (records, _) = read_to_tip(&stream, shard.id).await.unwrap();
            found += records.iter().map(number_of).count() as u64;
        }
        assert!(found >= acknowledged / 20 * 20, "{found} of {acknowledged}");
    }
    writer.await.unwrap();
    assert_eq!(numbers(&stream).await, (0..4000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_passes_a_limit_is_refused_whole() {
    let settings = Settings::default().with_record_bytes_max(RECORD_BYTES_DEFAULT);
    let kinesis = Kinesis::memory().with_settings(settings).open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let of = |bytes: usize, key: &str| PutRecord::new(vec![0; bytes], key);
    let refused = [
        Vec::new(),
        (0..=PUT_RECORDS_MAX as u64).map(record).collect(),
        vec![record(1), of(RECORD_BYTES_DEFAULT, "k")],
        vec![record(1), of(1, "")],
        vec![record(1), of(1, &"é".repeat(257))],
        (0..11).map(|_| of(PUT_RECORDS_BYTES_MAX / 11 + 1, "k")).collect(),
    ];
    for batch in refused {
        let count = batch.len();
        let error = stream.put_records(batch).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, "InvalidArgumentException"), "{count}");
    }
    assert_eq!(numbers(&stream).await, Vec::<u64>::new());
    let largest = [
        (0..PUT_RECORDS_MAX as u64).map(record).collect(),
        vec![of(RECORD_BYTES_DEFAULT - 1, "k"), of(0, &"é".repeat(256))],
        (0..10).map(|_| of(PUT_RECORDS_BYTES_MAX / 10 - 1, "k")).collect(),
    ];
    for batch in largest {
        stream.put_records(batch).await.unwrap();
    }
    assert_eq!(kinesis.metrics().incoming_records, 512);
}

#[tokio::test]
async fn a_put_that_is_dropped_is_there_whole_or_not_at_all() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 4).await.unwrap();
    let mut completed = 0;
    for polls in 0..50 {
        let first = polls * 10;
        let mut put = Box::pin(stream.put_records((first..first + 10).map(record).collect()));
        for _ in 0..polls {
            if futures::poll!(put.as_mut()).is_ready() {
                completed += 1;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(put);
    }
    kinesis.flush().await.unwrap();
    let found = numbers(&stream).await;
    assert!(found.chunks(10).all(|batch| batch[0] % 10 == 0 && batch[9] == batch[0] + 9), "{found:?}");
    assert!(found.len() >= completed * 10);
    put(&stream, [1]).await;
}
