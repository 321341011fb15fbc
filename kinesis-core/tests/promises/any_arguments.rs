//! Whatever arguments a call gets: it does what was asked or answers with an error that says whose fault it is. Nothing
//! panics, and the shards cover every hash key once, whatever was tried on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::{
    DataStream, ErrorKind, HashKey, IteratorType, Kinesis, Limits, Producer, PutBatch, PutRecord, Result,
    SequenceNumber, Settings, ShardFilter, ShardId, ShardIterator, StreamMode, StreamSpec,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::seeds::{Violation, check_all};

use super::stage::block_on;

const CALLS_EACH: usize = 10_000;
const SEEDS: u64 = if cfg!(slow) { 100 } else { 20 };

/// The number of a record of another stream.
const NUMBER: &str = "49680614008981664362910604904394773803560855421052780546";

/// What a caller may be told that asked for something it cannot have.
const TOLD: [ErrorKind; 7] = [
    ErrorKind::InvalidInput,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::Conflict,
    ErrorKind::LimitExceeded,
    ErrorKind::Throttled,
    ErrorKind::Expired,
];

struct Arguments {
    random: StdRng,
    /// Numbers and iterators that were given out.
    numbers: Vec<SequenceNumber>,
    iterators: Vec<ShardIterator>,
}

impl Arguments {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())].clone()
    }

    fn text(&mut self) -> String {
        let length = self.pick(&[0, 1, 3, 128, 129, 256, 257, 5000]);
        let letters = ["a", "b", "_", ".", "-", " ", "/", "\0", "é", "語", "\u{1f600}"];
        (0..length).map(|_| self.pick(&letters)).collect()
    }

    fn name(&mut self) -> String {
        match self.random.random_range(0..10) {
            0 => self.text(),
            one => self.pick(&["s0", "s1", "s2", "a.b_c-d"])[..].to_owned() + if one == 1 { "x" } else { "" },
        }
    }

    fn shard(&mut self) -> ShardId {
        match self.random.random_range(0..8) {
            0 => ShardId::new(self.random.random()),
            _ => ShardId::new(self.random.random_range(0..40)),
        }
    }

    fn hash_key(&mut self) -> HashKey {
        let any = self.random.random();
        HashKey(self.pick(&[0, 1, u128::MAX / 2, u128::MAX - 1, u128::MAX, any]))
    }

    fn number(&mut self) -> SequenceNumber {
        if !self.numbers.is_empty() && self.random.random_bool(0.7) {
            let at = self.random.random_range(0..self.numbers.len());
            return self.numbers[at];
        }
        // One that was never given out, if it is one at all.
        let mut text = NUMBER.as_bytes().to_vec();
        for _ in 0..self.random.random_range(0..4) {
            let at = self.random.random_range(0..text.len());
            text[at] = b'0' + self.random.random_range(0..10_u8);
        }
        let number = String::from_utf8_lossy(&text).parse();
        number.unwrap_or_else(|_| NUMBER.parse().unwrap())
    }

    fn iterator_type(&mut self) -> IteratorType {
        match self.random.random_range(0..5) {
            0 => IteratorType::TrimHorizon,
            1 => IteratorType::Latest,
            2 => IteratorType::AtSequenceNumber(self.number()),
            3 => IteratorType::AfterSequenceNumber(self.number()),
            _ => {
                let seconds = self.pick(&[i64::MIN / 1_000_000, -1, 0, 1, 1_767_225_600, i64::MAX / 100_000_000]);
                IteratorType::AtTimestamp(chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default())
            }
        }
    }

    fn iterator(&mut self) -> Option<ShardIterator> {
        let at = self.random.random_range(0..self.iterators.len().max(1));
        let iterator = self.iterators.get(at).cloned()?;
        // As a client sends it back: whole, or with something changed.
        let mut text = iterator.to_string().into_bytes();
        if self.random.random_bool(0.2) {
            let at = self.random.random_range(0..text.len());
            text[at] = self.random.random_range(32..127);
        }
        String::from_utf8_lossy(&text).parse().ok()
    }

    fn duration(&mut self) -> Duration {
        let any = self.random.random();
        Duration::from_secs(self.pick(&[0, 1, 86_399, 86_400, 90_000, 31_536_000, 31_536_001, u64::MAX, any]))
    }

    fn record(&mut self) -> PutRecord {
        let bytes = self.pick(&[0, 1, 10, 100, 1000, (1 << 20) + 1, (10 << 20) + 1]);
        // Large ones are refused, so that they cost nothing; few are made all the same.
        let bytes = if bytes > 1000 && self.random.random_bool(0.9) { 1 } else { bytes };
        let key = if self.random.random_bool(0.9) { "k".to_owned() } else { self.text() };
        let record = PutRecord::new(vec![7; bytes], key);
        if self.random.random_bool(0.5) { record.with_explicit_hash_key(self.hash_key()) } else { record }
    }

    fn batch(&mut self) -> PutBatch {
        let count = self.pick(&[0_u64, 1, 1, 1, 2, 2, 5, 500, 501]);
        let count = if count > 5 && self.random.random_bool(0.9) { 2 } else { count };
        let mut batch = PutBatch::new((0..count).map(|_| self.record()).collect());
        if self.random.random_bool(0.3) {
            let first = self.pick(&[0, 1, 2, 10, u64::MAX - 1, u64::MAX]);
            let id = self.name();
            let producer = match self.random.random_bool(0.5) {
                true => Producer::consecutive(id, first),
                false => Producer::numbered(id, (0..count).map(|number| first.wrapping_add(number))),
            };
            batch = batch.with_producer(producer);
        }
        if self.random.random_bool(0.2) {
            let expected = if self.random.random_bool(0.5) { Some(self.number()) } else { None };
            batch = batch.with_expected(self.shard(), expected);
        }
        batch
    }

    fn tags(&mut self) -> BTreeMap<String, String> {
        let count = self.pick(&[0, 1, 2, 60]);
        (0..count).map(|_| (self.text(), self.text())).collect()
    }

    fn note(&mut self, number: SequenceNumber) {
        if self.numbers.len() < 500 {
            self.numbers.push(number);
        } else {
            let at = self.random.random_range(0..500);
            self.numbers[at] = number;
        }
    }
}

async fn call(kinesis: &Kinesis, stream: &DataStream, with: &mut Arguments) -> Result<()> {
    match with.random.random_range(0..26) {
        0 => {
            let shards = with.pick(&[0, 1, 2, 10_000, 10_001, u32::MAX]);
            let mut spec =
                if with.random.random_bool(0.8) { StreamSpec::provisioned(shards) } else { StreamSpec::on_demand() };
            if with.random.random_bool(0.3) {
                spec =
                    spec.with_retention(with.duration()).with_record_bytes_max(with.pick(&[0, 1, 1 << 20, usize::MAX]));
            }
            kinesis.create_stream(&with.name(), spec).await.map(|_| ())
        }
        1 if with.random.random_bool(0.2) => kinesis.delete_stream(&with.name()).await,
        1 => kinesis.stream(&with.name()).map(|_| ()),
        2 => kinesis.describe_stream(&with.name()).map(|_| ()),
        3 => stream.split_shard(with.shard(), with.hash_key()).await,
        4 => stream.merge_shards(with.shard(), with.shard()).await,
        5 => stream.update_shard_count(with.pick(&[0, 1, 2, 3, 4, 8, u32::MAX])).await,
        6 => stream.set_retention(with.duration()).await,
        7 => stream.set_mode(with.pick(&[StreamMode::Provisioned, StreamMode::OnDemand])).await,
        8 => stream.set_record_bytes_max(with.pick(&[0, 1, 1 << 20, 10 << 20, usize::MAX])).await,
        9 => stream.add_tags(with.tags()).await,
        10 => stream.remove_tags(with.tags().into_keys().collect::<BTreeSet<_>>()).await,
        11 => stream.register_stream_consumer(&with.name()).await.map(|_| ()),
        12 => stream.deregister_stream_consumer(&with.name()).await,
        13..=16 => {
            let batch = with.batch();
            let output = stream.put_batch(batch).await?;
            for stored in output.records.iter().filter_map(|outcome| outcome.stored()) {
                with.note(stored.sequence_number);
            }
            Ok(())
        }
        17..=19 => {
            let iterator = stream.shard_iterator(with.shard(), with.iterator_type()).await?;
            with.iterators.push(iterator);
            if with.iterators.len() > 50 {
                with.iterators.remove(0);
            }
            Ok(())
        }
        20..=22 => {
            let Some(iterator) = with.iterator() else { return Ok(()) };
            let limit = with.pick(&[0, 1, 10, 10_000, 10_001, usize::MAX]);
            let bytes = with.pick(&[0, 1, 5_000, 10 << 20, (10 << 20) + 1, usize::MAX]);
            let output = if with.random.random_bool(0.5) {
                stream.get_records(&iterator, limit).await?
            } else {
                stream.get_records_within(&iterator, limit, bytes).await?
            };
            with.iterators.extend(output.next_iterator);
            Ok(())
        }
        23 => {
            let positions = BTreeMap::from([(with.shard(), with.number())]);
            let state = if with.random.random_bool(0.5) { Some(with.text().into()) } else { None };
            stream.commit(&with.name(), positions, state).await
        }
        24 => stream.delete_consumer(&with.name()).await,
        _ => {
            let batch = with.batch();
            let change = BTreeMap::from([(with.shard(), with.number())]);
            let name = with.name();
            kinesis.transaction().put(stream, batch).commit(stream, &name, change, None).execute().await.map(|_| ())
        }
    }
}

/// The open shards have every hash key, once.
fn covered(stream: &DataStream) -> Result<(), Violation> {
    let mut open = stream.list_shards_with(ShardFilter::AtLatest).map_err(|error| error.to_string())?;
    open.sort_by_key(|shard| shard.hash_key_range.starting);
    let mut next = Some(HashKey(0));
    for shard in &open {
        if next != Some(shard.hash_key_range.starting) {
            return Err(format!("{} begins at {:?}, not at {next:?}", shard.id, shard.hash_key_range.starting));
        }
        next = shard.hash_key_range.ending.0.checked_add(1).map(HashKey);
    }
    match next {
        None => Ok(()),
        Some(next) => Err(format!("no shard has {next:?}")),
    }
}

async fn check(seed: u64) -> Result<usize, Violation> {
    let clock = ManualClock::default();
    let settings =
        Settings::default().with_limits(Limits::unlimited()).with_tail_bytes(1 << 20).with_cache_bytes(1 << 20);
    let kinesis = Kinesis::memory().with_settings(settings).with_clock(Arc::new(clock.clone())).open().await;
    let kinesis = kinesis.map_err(|error| error.to_string())?;
    let mut with = Arguments { random: StdRng::seed_from_u64(seed), numbers: Vec::new(), iterators: Vec::new() };
    let mut done = 0;
    for step in 0..CALLS_EACH {
        clock.advance(Duration::from_millis(with.random.random_range(0..20)));
        let name = with.pick(&["s0", "s1", "s2"]);
        let stream = match kinesis.stream(name) {
            Ok(stream) => stream,
            Err(_) => kinesis.create_stream(name, 2).await.map_err(|error| error.to_string())?,
        };
        match call(&kinesis, &stream, &mut with).await {
            Ok(()) => done += 1,
            Err(error) if TOLD.contains(&error.kind()) && !error.message().is_empty() => {}
            Err(error) => return Err(format!("step {step}: {error:?}")),
        }
        if step % 500 == 0
            && let Ok(stream) = kinesis.stream(name)
        {
            covered(&stream)?;
        }
    }
    kinesis.close().await.map_err(|error| error.to_string())?;
    Ok(done)
}

#[test]
fn every_call_answers_with_what_was_asked_or_whose_fault_it_is() {
    let done = check_all(0..SEEDS, |seed| block_on(check(seed)));
    // Not all of it was refused.
    assert!(done.iter().all(|done| *done > CALLS_EACH / 5), "{done:?}");
}
