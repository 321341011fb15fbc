//! The same calls at the same times get the same answers, down to every sequence number: nothing depends on how threads run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{DataStream, HashKey, Kinesis, Producer, PutBatch, ShardFilter, StreamMode};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::disk::SimDisk;
use testkit::seeds::{Violation, check_all};

use super::stage::{on_disk, read_shard, record, stream_of};

struct Run {
    disk: SimDisk,
    store: Arc<InMemory>,
    clock: ManualClock,
    random: StdRng,
    trace: Vec<String>,
}

impl Run {
    async fn open(&mut self) -> Result<(Kinesis, DataStream), Violation> {
        let disk = Arc::new(self.disk.clone());
        let opened = on_disk(self.store.clone(), disk, 256 << 10, &self.clock).open().await;
        let kinesis = opened.map_err(|error| format!("it does not open: {error:?}"))?;
        let stream = stream_of(&kinesis, 2).await.map_err(|error| format!("{error:?}"))?;
        Ok((kinesis, stream))
    }

    async fn step(&mut self, kinesis: &Kinesis, stream: &DataStream, number: u64) {
        self.clock.advance(Duration::from_millis(self.random.random_range(0..500)));
        let open = stream.list_shards_with(ShardFilter::AtLatest).unwrap_or_default();
        let shard = open[self.random.random_range(0..open.len())].clone();
        let answer = match self.random.random_range(0..12) {
            0 => format!("{:?}", stream.split_shard(shard.id, HashKey(self.random.random())).await),
            1 => format!("{:?}", stream.merge_shards(shard.id, open[0].id).await),
            2 => format!("{:?}", stream.set_retention(Duration::from_secs(86_400 + number)).await),
            3 => format!("{:?}", stream.set_mode(StreamMode::Provisioned).await),
            4 => {
                let state = Some(number.to_string().into());
                format!("{:?}", stream.commit("c", BTreeMap::new(), state).await)
            }
            5 => format!("{:?}", kinesis.seal().await),
            // How many come at once depends on what is sealed by then; what comes in all does not.
            6 => format!("{:?}", read_shard(stream, shard.id).await),
            _ => {
                let count = self.random.random_range(1..60);
                let records = (number * 100..number * 100 + count).map(record).collect();
                let mut batch = PutBatch::new(records);
                if self.random.random_bool(0.3) {
                    batch = batch.with_producer(Producer::consecutive("p", number / 2));
                }
                format!("{:?}", stream.put_batch(batch).await)
            }
        };
        self.trace.push(answer);
    }
}

async fn trace(seed: u64) -> Result<Vec<String>, Violation> {
    let (disk, store) = (SimDisk::new(seed), Arc::new(InMemory::new()));
    let random = StdRng::seed_from_u64(seed);
    let mut run = Run { disk, store, clock: ManualClock::default(), random, trace: Vec::new() };
    for life in 0..3 {
        let (kinesis, stream) = run.open().await?;
        for step in 0..60 {
            run.step(&kinesis, &stream, life * 60 + step).await;
        }
        run.trace.push(format!("{:?}", stream.list_shards()));
        run.trace.push(format!("{:?}", kinesis.describe_stream("s")));
        kinesis.close().await.map_err(|error| error.to_string())?;
    }
    Ok(run.trace)
}

#[test]
fn down_to_every_number() {
    let lengths = check_all(0..30, |seed| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(async {
            let (once, again) = (trace(seed).await?, trace(seed).await?);
            match once.iter().zip(&again).position(|(a, b)| a != b) {
                None => Ok(once.len()),
                Some(at) => Err(format!("step {at}: once {}, then {}", once[at], again[at])),
            }
        })
    });
    assert!(lengths.iter().all(|length| *length > 180));
}
