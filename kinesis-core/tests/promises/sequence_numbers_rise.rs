//! Within a shard every sequence number is greater than those before, over restarts, whatever the clock does.

use std::collections::BTreeMap;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::{Durability, PutBatch, SequenceNumber, ShardId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{put, read_all, record, small};

const HOUR: i64 = 3600;

#[tokio::test]
async fn over_restarts_and_clock_jumps() {
    let jumps = testkit::seeds::seeds(0..40);
    let dir = tempfile::tempdir().unwrap();
    for seed in jumps {
        one_life(&dir.path().join(seed.to_string()), seed).await;
    }
}

async fn one_life(dir: &std::path::Path, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let clock = ManualClock::default();
    let start = durable_core::Clock::now(&clock);
    let mut newest: BTreeMap<ShardId, SequenceNumber> = BTreeMap::new();
    let mut texts =
        newest.clone().into_iter().map(|(shard, number)| (shard, number.to_string())).collect::<BTreeMap<_, _>>();
    for life in 0..4 {
        let kinesis = small(dir, &clock).open().await.unwrap();
        let stream = match kinesis.stream("s") {
            Ok(stream) => stream,
            Err(_) => kinesis.create_stream("s", 3).await.unwrap(),
        };
        for batch in 0..6 {
            let jump = [0, HOUR, -HOUR, 30 * 24 * HOUR, -30 * 24 * HOUR][rng.random_range(0..5)];
            clock.set_wall(start + chrono::Duration::seconds(jump));
            clock.advance(Duration::from_millis(rng.random_range(0..50)));
            for (shard, number) in put(&stream, (0..rng.random_range(1..30)).map(|i| i + batch)).await {
                let before = newest.insert(shard, number);
                assert!(before.is_none_or(|before| before < number), "seed {seed}, life {life}: {before:?}, {number}");
                let text_before = texts.insert(shard, number.to_string());
                assert!(text_before.is_none_or(|before| before < number.to_string()), "as text, seed {seed}");
            }
        }
        // The last puts of a life may never become durable; their numbers are not given again all the same.
        let batch = PutBatch::new((0..20).map(record).collect()).with_durability(Durability::Memory);
        for outcome in stream.put_batch(batch).await.unwrap().records {
            let stored = outcome.stored().unwrap();
            newest.insert(stored.shard_id, stored.sequence_number);
            texts.insert(stored.shard_id, stored.sequence_number.to_string());
        }
        if rng.random_bool(0.5) {
            kinesis.seal().await.unwrap();
        }
        for (shard, records) in read_all(&stream).await.unwrap() {
            let rising = records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number);
            assert!(rising, "seed {seed}: {shard} is out of order");
        }
        kinesis.close().await.unwrap();
    }
}
