//! Three workers share a stream's shards; one of them dies, a shard is split, and every record is still processed.
//!
//! `cargo run -p kinesis-core --example worker`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kinesis_core::worker::{
    Checkpointer, InitialPosition, ProcessRecords, ProcessorError, RecordProcessor, Worker, WorkerBuilder,
};
use kinesis_core::{DataStream, HashKey, Kinesis, PutRecord, ShardId};

/// Counts the records of one shard.
struct Counter {
    worker: &'static str,
    shard: ShardId,
    all: Arc<AtomicU64>,
    here: u64,
}

impl RecordProcessor for Counter {
    async fn process_records(
        &mut self,
        input: ProcessRecords<'_>,
        checkpointer: &Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.here += input.records.len() as u64;
        self.all.fetch_add(input.records.len() as u64, Ordering::Relaxed);
        Ok(checkpointer.checkpoint().await?)
    }

    async fn lease_lost(&mut self) {
        println!("  {}: lost {} after {} records", self.worker, self.shard, self.here);
    }

    async fn shard_ended(&mut self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        println!("  {}: all {} records of {} are done, its children may begin", self.worker, self.here, self.shard);
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(&mut self, _: &Checkpointer) -> Result<(), ProcessorError> {
        println!("  {}: hands {} over after {} records", self.worker, self.shard, self.here);
        Ok(())
    }
}

fn worker(
    stream: &DataStream,
    name: &'static str,
    all: &Arc<AtomicU64>,
) -> WorkerBuilder<impl Fn(ShardId) -> Counter + Send + Sync + use<>> {
    let all = all.clone();
    Worker::builder(stream.clone(), "counter", move |shard| Counter { worker: name, shard, all: all.clone(), here: 0 })
        .with_worker_id(name)
        .with_initial_position(InitialPosition::TrimHorizon)
        .with_lease_duration(Duration::from_secs(2))
}

async fn put(stream: &DataStream, count: u32) -> kinesis_core::Result<()> {
    for number in 0..count {
        stream.put_record(PutRecord::new(format!("{number}"), format!("key-{number}"))).await?;
    }
    Ok(())
}

/// Waits until so many records were counted, and so many workers have leases; shows who has how many.
async fn settle(
    kinesis: &Kinesis,
    worker: &Worker,
    all: &AtomicU64,
    records: u64,
    workers: usize,
) -> kinesis_core::Result<()> {
    loop {
        let mut loads: BTreeMap<String, u32> = BTreeMap::new();
        for owner in worker
            .leases()
            .await?
            .into_iter()
            .filter(|lease| lease.checkpoint != kinesis_core::worker::Checkpoint::ShardEnd)
        {
            *loads.entry(owner.owner.unwrap_or_default()).or_default() += 1;
        }
        if all.load(Ordering::Relaxed) >= records && loads.len() == workers && !loads.contains_key("") {
            println!("{} records processed; leases: {loads:?}", all.load(Ordering::Relaxed));
            return Ok(());
        }
        kinesis.clock().sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::main]
async fn main() -> kinesis_core::Result<()> {
    let kinesis = Kinesis::memory().open().await?;
    let stream = kinesis.create_stream("clicks", 6).await?;
    let all = Arc::new(AtomicU64::new(0));
    put(&stream, 1000).await?;

    let ann = worker(&stream, "ann", &all).start().await?;
    settle(&kinesis, &ann, &all, 1000, 1).await?;

    println!("bob and eve join");
    let bob = worker(&stream, "bob", &all).start().await?;
    let eve = worker(&stream, "eve", &all).start().await?;
    settle(&kinesis, &ann, &all, 1000, 3).await?;

    println!("a shard is split, and records go on");
    stream.split_shard(ShardId::new(0), HashKey(1 << 124)).await?;
    put(&stream, 1000).await?;
    settle(&kinesis, &ann, &all, 2000, 3).await?;

    println!("bob dies");
    drop(bob);
    put(&stream, 1000).await?;
    settle(&kinesis, &ann, &all, 3000, 2).await?;

    println!("the others stop in order");
    ann.shutdown().await;
    eve.shutdown().await;
    kinesis.close().await
}
