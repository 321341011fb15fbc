//! A delivery goes through splits and merges of its source: each record is delivered once, over restarts too.

use std::sync::Arc;

use kinesis_core::firehose::DeliveryStream;
use kinesis_core::{DataStream, Kinesis, ShardFilter};
use object_store::memory::InMemory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::seeds::check_all;

use super::firehose_rig::{by_day, clock, compare, delivered, put_flights};
use super::stage::{block_on, while_time_passes};

const STEPS: u64 = 12;
const FLIGHTS: u64 = 20;

async fn reshard(source: &DataStream, random: &mut StdRng) -> kinesis_core::Result<()> {
    let mut open = source.list_shards_with(ShardFilter::AtLatest)?;
    open.sort_by_key(|shard| shard.hash_key_range.starting);
    let at = random.random_range(0..open.len());
    match random.random_range(0..3) {
        0 if at + 1 < open.len() => source.merge_shards(open[at].id, open[at + 1].id).await,
        1 => source.update_shard_count((open.len() as u32 * 2).min(8)).await,
        _ => {
            let range = open[at].hash_key_range;
            let middle = range.starting.0 + (range.ending.0 - range.starting.0) / 2 + 1;
            source.split_shard(open[at].id, kinesis_core::HashKey(middle)).await
        }
    }
}

#[test]
fn each_record_is_delivered_once() {
    let shards = check_all(0..40, |seed| {
        block_on(async {
            let failed = |error: kinesis_core::Error| format!("{error:?}");
            let mut random = StdRng::seed_from_u64(seed);
            let (time, shared) = clock();
            let kinesis = Kinesis::memory().with_clock(shared.clone()).open().await.map_err(failed)?;
            let source = kinesis.create_stream("s", 2).await.map_err(failed)?;
            let store = Arc::new(InMemory::new());
            let open = || DeliveryStream::builder("d", source.clone(), store.clone()).with_settings(by_day()).open();
            let mut delivery = None;
            for step in 0..STEPS {
                if delivery.is_none() {
                    delivery = Some(open().await.map_err(failed)?);
                }
                put_flights(&source, step * FLIGHTS..(step + 1) * FLIGHTS).await;
                reshard(&source, &mut random).await.map_err(failed)?;
                if let Some(delivery) = delivery.as_ref().filter(|_| random.random_bool(0.4)) {
                    while_time_passes(&time, delivery.flush()).await.map_err(failed)?;
                    compare(&delivered(&*store).await, 0..(step + 1) * FLIGHTS)?;
                }
                // It ends in order, or is cut off.
                if random.random_bool(0.3)
                    && let Some(ending) = delivery.take().filter(|_| random.random_bool(0.5))
                {
                    while_time_passes(&time, ending.close()).await.map_err(failed)?;
                }
            }
            let last = match delivery {
                Some(last) => last,
                None => open().await.map_err(failed)?,
            };
            while_time_passes(&time, last.flush()).await.map_err(failed)?;
            compare(&delivered(&*store).await, 0..STEPS * FLIGHTS)?;
            Ok(source.list_shards().map_err(failed)?.len())
        })
    });
    assert!(shards.iter().all(|shards| *shards > 10), "{shards:?}");
}
