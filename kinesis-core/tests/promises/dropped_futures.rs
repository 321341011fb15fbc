//! A call's future may be dropped at any point: the next call works, what was acknowledged stays, what was not is there whole
//! or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::{DataStream, HashKey, IteratorType, Kinesis, PutBatch, ShardFilter, StreamMode};

use super::stage::{number_of, put, read_all, record, small};

const POLLS_MAX: usize = 50;

type Call<'a> = Pin<Box<dyn Future<Output = Result<(), kinesis_core::Error>> + Send + 'a>>;

/// The calls that an app makes, by name. Each may be made again and again.
fn calls<'a>(kinesis: &'a Kinesis, stream: &'a DataStream, next: &mut u64) -> Vec<(&'static str, Call<'a>)> {
    let mut numbers = |count: u64| {
        *next += count;
        *next - count..*next
    };
    let (one, batch, transaction) = (numbers(1), numbers(40), numbers(3));
    let shard = stream.list_shards_with(ShardFilter::AtLatest).unwrap().remove(0);
    let middle = HashKey(shard.hash_key_range.starting.0 / 2 + shard.hash_key_range.ending.0 / 2);
    vec![
        ("put_record", Box::pin(async move { stream.put_record(record(one.start)).await.map(|_| ()) })),
        (
            "put_batch",
            Box::pin(async move { stream.put_batch(PutBatch::new(batch.map(record).collect())).await.map(|_| ()) }),
        ),
        (
            "transaction",
            Box::pin(async move {
                let batch = PutBatch::new(transaction.map(record).collect());
                kinesis
                    .transaction()
                    .put(stream, batch)
                    .commit(stream, "c", BTreeMap::new(), None)
                    .execute()
                    .await
                    .map(|_| ())
            }),
        ),
        (
            "get_records",
            Box::pin(async move {
                let iterator = stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await?;
                stream.get_records(&iterator, 1000).await.map(|_| ())
            }),
        ),
        ("commit", Box::pin(stream.commit("c", BTreeMap::new(), Some("state".into())))),
        ("delete_consumer", Box::pin(async move { stream.delete_consumer("c").await.or_else(|_| Ok(())) })),
        ("split_shard", Box::pin(stream.split_shard(shard.id, middle))),
        ("update_shard_count", Box::pin(stream.update_shard_count(2))),
        ("set_retention", Box::pin(stream.set_retention(Duration::from_secs(100_000)))),
        ("set_mode", Box::pin(stream.set_mode(StreamMode::Provisioned))),
        ("set_record_bytes_max", Box::pin(stream.set_record_bytes_max(1 << 20))),
        ("add_tags", Box::pin(stream.add_tags(BTreeMap::from([("k".to_owned(), "v".to_owned())])))),
        ("remove_tags", Box::pin(stream.remove_tags(BTreeSet::from(["k".to_owned()])))),
        (
            "create_stream",
            Box::pin(async move { kinesis.create_stream("other", 1).await.map(|_| ()).or_else(|_| Ok(())) }),
        ),
        ("delete_stream", Box::pin(async move { kinesis.delete_stream("other").await.or_else(|_| Ok(())) })),
        ("flush", Box::pin(kinesis.flush())),
        ("seal", Box::pin(kinesis.seal())),
    ]
}

/// Polls a call this often and drops it, if it is not done before.
async fn dropped(mut call: Call<'_>, polls: usize) -> Option<Result<(), kinesis_core::Error>> {
    for _ in 0..polls {
        if let Poll::Ready(done) = futures::poll!(call.as_mut()) {
            return Some(done);
        }
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_any_of_its_polls() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let mut kinesis = small(dir.path(), &clock).open().await.unwrap();
    let mut stream = kinesis.create_stream("s", 2).await.unwrap();
    let mut next = 0;
    let mut acknowledged = BTreeSet::new();
    let mut batches: Vec<Vec<u64>> = Vec::new();
    let mut cut = BTreeMap::<&str, usize>::new();
    let count = calls(&kinesis, &stream, &mut 0).len();
    for which in 0..count {
        for polls in 0..POLLS_MAX {
            clock.advance(Duration::from_millis(100));
            let before = next;
            let (name, call) = calls(&kinesis, &stream, &mut next).swap_remove(which);
            // The numbers of the calls that are not made stay unused.
            let numbers: Vec<u64> = match name {
                "put_record" => (before..before + 1).collect(),
                "put_batch" => (before + 1..before + 41).collect(),
                "transaction" => (before + 41..before + 44).collect(),
                _ => Vec::new(),
            };
            match dropped(call, polls).await {
                Some(Ok(())) => acknowledged.extend(numbers),
                Some(Err(error)) => panic!("{name} after {polls} polls: {error:?}"),
                None => {
                    *cut.entry(name).or_default() += 1;
                    batches.push(numbers);
                }
            }
            // The next call works, and is ordered behind.
            let number = next;
            next += 1;
            put(&stream, [number]).await;
            acknowledged.insert(number);
            let open = stream.list_shards_with(ShardFilter::AtLatest).unwrap();
            if open.len() > 8 {
                stream.update_shard_count(open.len() as u32 / 2).await.unwrap();
            }
        }
        if which % 4 == 3 {
            kinesis.close().await.unwrap();
            kinesis = small(dir.path(), &clock).open().await.unwrap();
            stream = kinesis.stream("s").unwrap();
        }
    }
    let found: Vec<u64> = read_all(&stream).await.unwrap().values().flatten().map(number_of).collect();
    let there: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(there.len(), found.len(), "a record is there twice");
    assert!(acknowledged.is_subset(&there));
    for batch in &batches {
        let count = batch.iter().filter(|number| there.contains(number)).count();
        assert!(count == 0 || count == batch.len(), "{count} of {} records of a batch", batch.len());
    }
    // Every call was dropped at its start at least, and those that wait for the disk later than that.
    assert!(cut.len() == count && cut["put_batch"] > 1 && cut["seal"] > 1, "{cut:?}");
}
