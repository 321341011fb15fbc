//! A backup holds every record as it came, once, whatever becomes of it and whatever crashes.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::firehose::{Compression, DeliveryStream, SourceBackup, TransformResult, transform_fn};
use object_store::memory::InMemory;
use testkit::fault_store::{Effect, Failure, FaultStore, Operation, Rule};
use testkit::seeds::check_all;

use super::firehose_rig::{by_day, clock, compare, objects, put_flights};
use super::stage::{block_on, reopen, while_time_passes};

/// The ids in the backup.
async fn backed_up(store: &InMemory) -> Vec<u64> {
    let mut ids = Vec::new();
    for (path, bytes) in objects(store).await {
        if !path.starts_with("source/") {
            continue;
        }
        assert!(path.ends_with(".gz"), "{path}");
        let text = std::io::read_to_string(flate2::read::GzDecoder::new(bytes.as_ref())).unwrap();
        let records = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
        ids.extend(records.map(|record| record.unwrap()["id"].as_u64().unwrap()));
    }
    ids.sort_unstable();
    ids
}

#[test]
fn every_record_is_backed_up_once_through_crashes_and_failing_puts() {
    check_all(0..6, |seed| {
        block_on(async move {
            let dir = tempfile::tempdir().unwrap();
            let (data, backup) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
            for round in 0..4u64 {
                let (manual, clock) = clock();
                let kinesis = reopen(dir.path()).await;
                let stream = match kinesis.stream("s") {
                    Ok(stream) => stream,
                    Err(_) => kinesis.create_stream("s", 2).await.unwrap(),
                };
                let rules = |operation| {
                    vec![
                        Rule::on(&[operation], Effect::Fail(Failure::Unavailable)).with_probability(0.2),
                        Rule::on(&[operation], Effect::ApplyThenFail(Failure::Unavailable)).with_probability(0.2),
                    ]
                };
                let failing = |store: &Arc<InMemory>, seed| {
                    Arc::new(FaultStore::with_rules(store.clone(), seed, clock.clone(), rules(Operation::Put)))
                };
                let keeps =
                    |record: &kinesis_core::firehose::TransformRecord| {
                        match serde_json::from_slice::<serde_json::Value>(&record.data).unwrap()["id"].as_u64().unwrap()
                            % 5
                        {
                            0 => TransformResult::Dropped,
                            1 => TransformResult::failed("one in five"),
                            2 => TransformResult::ok(record.data.to_vec()),
                            _ => TransformResult::ok(String::from_utf8_lossy(&record.data).replace("\"C1\"", "\"C9\"")),
                        }
                    };
                let settings = by_day().with_source_backup(
                    SourceBackup::new("source/!{timestamp:yyyy}/").with_compression(Compression::Gzip),
                );
                let delivery = DeliveryStream::builder("d", stream.clone(), failing(&data, seed + round))
                    .with_settings(settings.with_buffer_interval(Duration::from_secs(1)))
                    .with_backup_store(failing(&backup, seed + round + 100))
                    .with_transform(transform_fn(keeps))
                    .with_clock(clock.clone())
                    .open()
                    .await
                    .unwrap();
                put_flights(&stream, round * 300..(round + 1) * 300).await;
                if round == 3 {
                    while_time_passes(&manual, delivery.flush()).await.unwrap();
                } else {
                    // A crash somewhere in the work.
                    for _ in 0..(seed * 7 + round) % 60 {
                        tokio::task::yield_now().await;
                        manual.advance(Duration::from_millis(100));
                    }
                }
                drop(delivery);
                kinesis.close().await.unwrap();
            }
            compare(&backed_up(&backup).await, 0..1_200)
        })
    });
}
