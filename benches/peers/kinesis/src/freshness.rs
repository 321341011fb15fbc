//! How old a record is once it is in the store, with a buffer interval of a second.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kinesis_core::Kinesis;
use kinesis_core::firehose::{DeliveryEvent, DeliverySettings, DeliveryStream, OutputFormat, RecordsFormat, Separator};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::pace::{pace, turn};
use crate::percentile::Times;

const INTERVAL: Duration = Duration::from_secs(1);
const RECORDS_PER_SECOND: u32 = 1_000;

pub(crate) async fn run(dir: &Path, secs: u64) {
    let kinesis = Kinesis::at(dir.join("fresh-streams")).open().await.unwrap();
    let objects = dir.join("fresh");
    std::fs::create_dir_all(&objects).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(objects).unwrap());
    let (begun, times) = (Instant::now(), Arc::new(Mutex::new(Times::default())));
    let listener = {
        let (store, times) = (store.clone(), times.clone());
        move |event| {
            let (store, times, now) = (store.clone(), times.clone(), begun.elapsed());
            async move {
                let DeliveryEvent::Delivered(delivered) = event else { return };
                let object = store.get(&delivered.path).await.unwrap().bytes().await.unwrap();
                let mut times = times.lock().unwrap();
                for put in std::str::from_utf8(&object).unwrap().lines() {
                    times.add(now.saturating_sub(Duration::from_micros(put.parse().unwrap())));
                }
            }
        }
    };
    let format = OutputFormat::Records(RecordsFormat::new().with_separator(Separator::Newline));
    let settings = DeliverySettings::new().with_buffer_interval(INTERVAL).with_format(format);
    let delivery = DeliveryStream::direct("fresh", kinesis.clone(), store)
        .with_settings(settings)
        .with_listener(listener)
        .open()
        .await
        .unwrap();
    let time = Duration::from_secs(secs);
    let pace = pace(RECORDS_PER_SECOND, time);
    while turn(Some(&pace)).await {
        delivery.put_record(Bytes::from(begun.elapsed().as_micros().to_string())).await.unwrap();
    }
    delivery.flush().await.unwrap();
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    println!(
        "freshness: {} records at {RECORDS_PER_SECOND}/s, buffered for {INTERVAL:?}, durable, to files",
        times.count()
    );
    println!("  put to delivered: p50 {} ms, p99 {} ms", times.percentile(50) / 1_000, times.percentile(99) / 1_000);
    delivery.close().await.unwrap();
    kinesis.close().await.unwrap();
}
