//! A replay gives back what was put: every record, once, in order, with its bytes, key and arrival; as often as asked.

use std::collections::BTreeMap;
use std::time::Duration;

use durable_core::ManualClock;
use futures::StreamExt;
use kinesis_core::{DataStream, ErrorKind, HashKey, IteratorType, Kinesis, Record, SequenceNumber, ShardId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{number_of, put, read_all, read_shard, small};

type Shadow = BTreeMap<ShardId, Vec<(SequenceNumber, u64)>>;

async fn check(stream: &DataStream, shadow: &Shadow, when: &str) -> BTreeMap<ShardId, Vec<Record>> {
    let found = read_all(stream).await.unwrap();
    for (shard, records) in &found {
        let found: Vec<_> = records.iter().map(|record| (record.sequence_number, number_of(record))).collect();
        assert_eq!(Some(&found), shadow.get(shard), "{when}: {shard}");
        assert!(records.iter().all(|record| record.hash_key == HashKey::of(&record.partition_key)));
    }
    found
}

#[tokio::test]
async fn equals_what_was_put_across_seals_and_restarts() {
    let (mut sealed, mut fetched) = (0, 0);
    for seed in testkit::seeds::seeds(0..20) {
        let mut rng = StdRng::seed_from_u64(seed);
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
        let mut shadow: Shadow = (0..4).map(|shard| (ShardId::new(shard), Vec::new())).collect();
        let mut kinesis = small(dir.path(), &clock).open().await.unwrap();
        let mut stream = kinesis.create_stream("s", 4).await.unwrap();
        let mut number = 0;
        for step in 0..30 {
            let count = rng.random_range(1..60);
            clock.advance(Duration::from_millis(rng.random_range(0..5000)));
            for ((shard, at), number) in put(&stream, number..number + count).await.into_iter().zip(number..) {
                shadow.get_mut(&shard).unwrap().push((at, number));
            }
            number += count;
            match rng.random_range(0..8) {
                0 => kinesis.seal().await.unwrap(),
                1 => {
                    let before = check(&stream, &shadow, "before a restart").await;
                    kinesis.close().await.unwrap();
                    kinesis = small(dir.path(), &clock).open().await.unwrap();
                    stream = kinesis.stream("s").unwrap();
                    // Arrival times too, not only what the shadow knows.
                    assert_eq!(check(&stream, &shadow, "after a restart").await, before, "seed {seed}, step {step}");
                }
                _ => {}
            }
        }
        let first = check(&stream, &shadow, "first").await;
        assert_eq!(check(&stream, &shadow, "second").await, first, "seed {seed}");
        (sealed, fetched) = (sealed + kinesis.metrics().sealed_segments, fetched + kinesis.metrics().fetched_segments);
        every_iterator_finds_its_place(&stream, &first).await;
        kinesis.close().await.unwrap();
    }
    assert!(sealed > 20 && fetched > 20, "{sealed} segments were sealed, {fetched} fetched");
}

async fn every_iterator_finds_its_place(stream: &DataStream, all: &BTreeMap<ShardId, Vec<Record>>) {
    for (shard, records) in all {
        for place in [0, records.len() / 3, records.len() - 1] {
            let at = records[place].sequence_number;
            assert_eq!(next(stream, *shard, IteratorType::AtSequenceNumber(at)).await, records.get(place).cloned());
            let after = IteratorType::AfterSequenceNumber(at);
            assert_eq!(next(stream, *shard, after).await, records.get(place + 1).cloned());
            let time = records[place].arrival;
            let first_then = records.iter().find(|record| record.arrival >= time).cloned();
            assert_eq!(next(stream, *shard, IteratorType::AtTimestamp(time)).await, first_then);
        }
        let starting = stream.list_shards().unwrap()[shard.index() as usize].starting_sequence_number;
        for from in [
            IteratorType::TrimHorizon,
            IteratorType::AtSequenceNumber(starting),
            IteratorType::AfterSequenceNumber(starting),
            IteratorType::AtTimestamp(chrono::DateTime::UNIX_EPOCH),
        ] {
            assert_eq!(next(stream, *shard, from).await, records.first().cloned(), "{from:?}");
        }
        assert_eq!(next(stream, *shard, IteratorType::Latest).await, None);
        let later = records.iter().map(|record| record.arrival).max().unwrap() + chrono::Duration::days(1);
        assert_eq!(next(stream, *shard, IteratorType::AtTimestamp(later)).await, None);
    }
}

async fn next(stream: &DataStream, shard: ShardId, from: IteratorType) -> Option<Record> {
    let iterator = stream.shard_iterator(shard, from).await.unwrap();
    stream.get_records(&iterator, 1).await.unwrap().records.pop()
}

#[tokio::test]
async fn a_read_is_as_large_as_asked_for_and_gets_on() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let mut kinesis = small(dir.path(), &clock).open().await.unwrap();
    let mut stream = kinesis.create_stream("s", 1).await.unwrap();
    put(&stream, 0..40).await;
    let bytes = |records: &[Record]| records.iter().map(|record| record.data.len() + record.partition_key.len()).sum();
    for place in ["tail", "segment"] {
        if place == "segment" {
            kinesis.seal().await.unwrap();
            kinesis.close().await.unwrap();
            kinesis = small(dir.path(), &clock).open().await.unwrap();
            stream = kinesis.stream("s").unwrap();
        }
        for (records_max, bytes_max) in [(100, 700), (3, 10_000), (100, 1)] {
            let mut next = Some(stream.shard_iterator(ShardId::new(0), IteratorType::TrimHorizon).await.unwrap());
            let mut all = Vec::new();
            while all.len() < 40 {
                let output = stream.get_records_within(&next.unwrap(), records_max, bytes_max).await.unwrap();
                let (count, size): (usize, usize) = (output.records.len(), bytes(&output.records));
                assert!(
                    count == 1 || (2..=records_max).contains(&count) && size <= bytes_max,
                    "{place}: {count}, {size}"
                );
                all.extend(output.records.iter().map(number_of));
                next = output.next_iterator;
            }
            assert_eq!(all, Vec::from_iter(0..40), "{place}");
        }
    }
    assert!(kinesis.metrics().fetched_segments > 0);
    let iterator = stream.shard_iterator(ShardId::new(0), IteratorType::TrimHorizon).await.unwrap();
    for bytes in [0, 10 * 1024 * 1024 + 1] {
        let refused = stream.get_records_within(&iterator, 1, bytes).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_number_of_another_shard_is_refused() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let (shard, number) = put(&stream, [1]).await[0];
    let other = ShardId::new(1 - shard.index());
    let refused = stream.shard_iterator(other, IteratorType::AtSequenceNumber(number)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let unknown = stream.shard_iterator(ShardId::new(9), IteratorType::Latest).await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::NotFound, "ResourceNotFoundException"));
}

/// Payloads lie in the frame, or in the one buffer of the segment, next to each other.
#[tokio::test]
async fn no_payload_is_copied() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    put(&stream, 0..100).await;
    let distance = |pair: &[Record]| pair[1].data.as_ptr() as usize - pair[0].data.as_ptr() as usize;
    let from_tail = read_shard(&stream, ShardId::new(0)).await.unwrap();
    // A header, the key and the data of the first lie between.
    assert!(from_tail.windows(2).all(|pair| distance(pair) == 26 + pair[0].data.len() + pair[1].partition_key.len()));
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.stream("s").unwrap();
    let from_segment = read_shard(&stream, ShardId::new(0)).await.unwrap();
    assert_eq!((kinesis.metrics().fetched_segments, &from_segment), (1, &from_tail));
    assert!(from_segment.windows(2).all(|pair| distance(pair) == pair[0].data.len()));
}

#[tokio::test]
async fn a_subscription_gets_every_record_and_waits_for_the_next() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    for first in (0..300).step_by(50) {
        put(&stream, first..first + 50).await;
    }
    kinesis.seal().await.unwrap();
    let mut all = stream.subscribe(ShardId::new(0), IteratorType::TrimHorizon);
    let mut new = stream.subscribe(ShardId::new(0), IteratorType::Latest);
    let putting = {
        let stream = stream.clone();
        tokio::spawn(async move {
            for number in 300..600 {
                put(&stream, [number]).await;
            }
        })
    };
    for (subscription, first) in [(&mut all, 0), (&mut new, 300)] {
        let mut expected = first;
        while expected < 600 {
            for record in subscription.next().await.unwrap().unwrap().records {
                assert_eq!(number_of(&record), expected);
                expected += 1;
            }
        }
    }
    putting.await.unwrap();
    // One that waits is told when the instance closes, and ends.
    let waiting = tokio::spawn(async move { (all.next().await, all.next().await.is_none()) });
    tokio::task::yield_now().await;
    kinesis.close().await.unwrap();
    let (last, ended) = waiting.await.unwrap();
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(ended);
}
