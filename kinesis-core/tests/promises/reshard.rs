//! Shards are split, merged and rescaled without losing, doubling or reordering a record; what is closed stays readable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_core::{Clock, ManualClock};
use futures::StreamExt;
use kinesis_core::{
    DataStream, ErrorKind, HashKey, IteratorType, Kinesis, PutRecord, Shard, ShardFilter, ShardId, StreamMode,
    StreamSpec,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{number_of, put, small};

const HOUR: Duration = Duration::from_secs(3600);

/// Follows the stream from its oldest shards on, parents before children, as a consumer does; answers the numbers that it
/// met, in its order, and checks each key's order.
async fn follow(stream: &DataStream) -> Vec<u64> {
    let mut waiting: Vec<ShardId> =
        stream.list_shards_with(ShardFilter::AtTrimHorizon).unwrap().iter().map(|shard| shard.id).collect();
    let (mut done, mut numbers) = (BTreeSet::new(), Vec::new());
    let known: BTreeSet<ShardId> = stream.list_shards().unwrap().iter().map(|shard| shard.id).collect();
    while let Some(shard) = waiting.pop() {
        if !done.insert(shard) {
            continue;
        }
        let mut iterator = stream.shard_iterator(shard, IteratorType::TrimHorizon).await.unwrap();
        loop {
            let output = stream.get_records(&iterator, 7).await.unwrap();
            numbers.extend(output.records.iter().map(number_of));
            for child in &output.child_shards {
                if child.parents.iter().all(|parent| done.contains(parent) || !known.contains(parent)) {
                    waiting.push(child.id);
                }
            }
            let tip = output.records.is_empty();
            match output.next_iterator {
                Some(next) if !tip => iterator = next,
                _ => break,
            }
        }
    }
    let mut last = BTreeMap::new();
    for number in &numbers {
        let before = last.insert(number % 97, *number);
        assert!(before.is_none_or(|before| before < *number), "key {}: {before:?} and then {number}", number % 97);
    }
    numbers.sort_unstable();
    numbers
}

fn open(stream: &DataStream) -> Vec<Shard> {
    let mut open = stream.list_shards_with(ShardFilter::AtLatest).unwrap();
    open.sort_by_key(|shard| shard.hash_key_range.starting);
    open
}

/// Every hash key has one open shard, and children number above their parents.
fn check_shards(stream: &DataStream) {
    let open = open(stream);
    assert_eq!(open.first().unwrap().hash_key_range.starting, HashKey(0));
    assert_eq!(open.last().unwrap().hash_key_range.ending, HashKey::MAX);
    for pair in open.windows(2) {
        assert_eq!(pair[0].hash_key_range.ending.0 + 1, pair[1].hash_key_range.starting.0);
    }
    let all: BTreeMap<ShardId, Shard> =
        stream.list_shards().unwrap().into_iter().map(|shard| (shard.id, shard)).collect();
    for shard in all.values() {
        for parent in [shard.parent, shard.adjacent_parent].into_iter().flatten().filter_map(|id| all.get(&id)) {
            assert!(parent.ending_sequence_number.unwrap() < shard.starting_sequence_number);
        }
        assert_eq!(shard.closed.is_some(), shard.ending_sequence_number.is_some());
    }
}

/// Splits, merges or rescales, whatever the seed says.
async fn reshape(stream: &DataStream, random: &mut StdRng) {
    let open = open(stream);
    let place = random.random_range(0..open.len());
    match random.random_range(0..3) {
        0 => {
            let range = open[place].hash_key_range;
            let middle = HashKey(range.starting.0 + (range.ending.0 - range.starting.0) / 2 + 1);
            stream.split_shard(open[place].id, middle).await.unwrap();
        }
        1 if open.len() > 1 => {
            let (low, high) = (place.saturating_sub(1), place.max(1));
            stream.merge_shards(open[low].id, open[high].id).await.unwrap();
        }
        _ => stream.update_shard_count(random.random_range(1..9)).await.unwrap(),
    }
}

#[tokio::test]
async fn every_record_is_found_once_and_in_order_whatever_was_split_and_merged() {
    for seed in testkit::seeds::seeds(0..20) {
        let (dir, clock, mut random) =
            (tempfile::tempdir().unwrap(), ManualClock::default(), StdRng::seed_from_u64(seed));
        let mut kinesis = small(dir.path(), &clock).open().await.unwrap();
        let mut stream = kinesis.create_stream("s", random.random_range(1..4u32)).await.unwrap();
        let mut next = 0;
        for _ in 0..random.random_range(3..12) {
            let count = random.random_range(0..120);
            for first in (next..next + count).step_by(40) {
                put(&stream, first..(first + 40).min(next + count)).await;
            }
            next += count;
            match random.random_range(0..6) {
                0 => kinesis.seal().await.unwrap(),
                1 => {
                    kinesis.close().await.unwrap();
                    // A clock that was set back gives no child a smaller number.
                    clock.set_wall(clock.now() - chrono::Duration::hours(random.random_range(0..2)));
                    kinesis = small(dir.path(), &clock).open().await.unwrap();
                    stream = kinesis.stream("s").unwrap();
                }
                _ => reshape(&stream, &mut random).await,
            }
            check_shards(&stream);
        }
        assert_eq!(follow(&stream).await, (0..next).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn writers_and_readers_go_on_through_a_reshard() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let writer = {
        let stream = stream.clone();
        tokio::spawn(async move {
            for number in 0..400 {
                put(&stream, [number]).await;
            }
        })
    };
    let mut random = StdRng::seed_from_u64(7);
    while !writer.is_finished() {
        reshape(&stream, &mut random).await;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    check_shards(&stream);
    assert_eq!(follow(&stream).await, (0..400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscription_ends_with_the_shards_that_follow() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let mut events = stream.subscribe(ShardId::new(0), IteratorType::Latest);
    let waiting = tokio::spawn(async move {
        let (event, end) = (events.next().await, events.next().await.is_none());
        (event.unwrap().unwrap(), end)
    });
    tokio::task::yield_now().await;
    stream.split_shard(ShardId::new(0), HashKey(1 << 127)).await.unwrap();
    let (event, end) = waiting.await.unwrap();
    assert!(event.records.is_empty() && event.continuation_sequence_number.is_none() && end);
    let children: Vec<_> = event.child_shards.iter().map(|child| (child.id.index(), child.parents.clone())).collect();
    assert_eq!(children, [(1, vec![ShardId::new(0)]), (2, vec![ShardId::new(0)])]);
    // A closed shard still gives iterators of every kind, which end at once or behind its records.
    let closed = &stream.list_shards().unwrap()[0];
    for from in [
        IteratorType::Latest,
        IteratorType::TrimHorizon,
        IteratorType::AtSequenceNumber(closed.starting_sequence_number),
        IteratorType::AfterSequenceNumber(closed.ending_sequence_number.unwrap()),
        IteratorType::AtTimestamp(kinesis.clock().now()),
    ] {
        let iterator = stream.shard_iterator(closed.id, from).await.unwrap();
        let output = stream.get_records(&iterator, 10).await.unwrap();
        assert!(output.next_iterator.is_none() && output.child_shards.len() == 2, "{from:?}");
    }
}

#[tokio::test]
async fn closed_shards_go_when_retention_has_left_nothing_of_them() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    put(&stream, 0..10).await;
    let created = clock.now();
    clock.advance(HOUR);
    stream.split_shard(ShardId::new(0), HashKey(1 << 127)).await.unwrap();
    clock.advance(HOUR);
    stream.merge_shards(ShardId::new(1), ShardId::new(2)).await.unwrap();
    let ids = |filter| -> Vec<u32> {
        stream.list_shards_with(filter).unwrap().iter().map(|shard| shard.id.index()).collect()
    };
    let at = |hours: u32| -> DateTime<Utc> { created + HOUR * hours + Duration::from_secs(60) };
    assert_eq!(ids(ShardFilter::AtTrimHorizon), [0]);
    assert_eq!(ids(ShardFilter::AtLatest), [3]);
    assert_eq!(ids(ShardFilter::FromTrimHorizon), [0, 1, 2, 3]);
    assert_eq!(ids(ShardFilter::AfterShardId(ShardId::new(1))), [2, 3]);
    assert_eq!(ids(ShardFilter::AtTimestamp(at(0))), [0]);
    assert_eq!(ids(ShardFilter::AtTimestamp(at(1))), [1, 2]);
    assert_eq!(ids(ShardFilter::FromTimestamp(at(1))), [1, 2, 3]);
    assert_eq!(ids(ShardFilter::AtTimestamp(created - HOUR)), [0]);
    clock.advance(23 * HOUR + Duration::from_secs(1));
    kinesis.seal().await.unwrap();
    assert_eq!(ids(ShardFilter::FromTrimHorizon), [1, 2, 3], "the first was closed 24 hours ago");
    clock.advance(2 * HOUR);
    kinesis.seal().await.unwrap();
    assert_eq!(ids(ShardFilter::AtTrimHorizon), [3]);
    kinesis.close().await.unwrap();
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let stream = kinesis.stream("s").unwrap();
    assert_eq!(stream.list_shards().unwrap().len(), 1);
    stream.split_shard(ShardId::new(3), HashKey(9)).await.unwrap();
    assert_eq!(stream.list_shards().unwrap().last().unwrap().id.index(), 5, "ids are never used again");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let [first, second, unknown] = [0, 1, 7].map(ShardId::new);
    let kind = |result: kinesis_core::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(stream.split_shard(unknown, HashKey(5)).await), ErrorKind::NotFound);
    assert_eq!(kind(stream.merge_shards(first, unknown).await), ErrorKind::NotFound);
    for bad in [HashKey(0), HashKey(1), HashKey((1 << 127) - 1), HashKey::MAX] {
        assert_eq!(kind(stream.split_shard(first, bad).await), ErrorKind::InvalidInput, "{bad}");
    }
    assert_eq!(kind(stream.merge_shards(first, first).await), ErrorKind::InvalidInput);
    stream.merge_shards(second, first).await.unwrap();
    assert_eq!(kind(stream.split_shard(first, HashKey(5)).await), ErrorKind::InvalidInput);
    for bad in [0, 10_001] {
        assert_eq!(kind(stream.update_shard_count(bad).await), ErrorKind::InvalidInput);
    }
    let demanding = kinesis.create_stream("d", StreamSpec::on_demand()).await.unwrap();
    assert_eq!(demanding.describe().unwrap().mode, StreamMode::OnDemand);
    assert_eq!(kind(demanding.update_shard_count(5).await), ErrorKind::InvalidInput);
    demanding.set_mode(StreamMode::Provisioned).await.unwrap();
    demanding.update_shard_count(5).await.unwrap();
    demanding.put_record(PutRecord::new("a", "b")).await.unwrap();
}
