//! A flush ends once what was put before it is delivered, however fast more comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use kinesis_core::firehose::{DeliveryStream, Transform, TransformOutcome, TransformRecord, TransformResult};
use kinesis_core::{DataStream, Kinesis, Result};
use object_store::memory::InMemory;

use super::firehose_rig::{by_day, delivered, flight, put_flights};

const BEFORE: u64 = 50;
const AFTER: u64 = 300;

/// A producer that is always faster: while records are read, it puts the next one.
#[derive(Clone)]
struct Faster {
    source: DataStream,
    next: Arc<AtomicU64>,
}

impl Transform for Faster {
    fn apply(&self, records: Vec<TransformRecord>) -> BoxFuture<'static, Result<Vec<TransformOutcome>>> {
        let faster = self.clone();
        Box::pin(async move {
            let next = faster.next.fetch_add(1, Ordering::Relaxed);
            // It ends some time, so that a flush that waits for the end fails instead of hanging.
            if next < BEFORE + AFTER {
                faster.source.put_record(flight(next)).await?;
            }
            let kept =
                |record: TransformRecord| TransformOutcome::new(record.record_id, TransformResult::ok(record.data));
            Ok(records.into_iter().map(kept).collect())
        })
    }
}

#[tokio::test]
async fn a_flush_does_not_wait_for_what_comes_after_it() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let source = kinesis.create_stream("s", 2).await.unwrap();
    put_flights(&source, 0..BEFORE).await;
    let store = Arc::new(InMemory::new());
    let faster = Faster { source: source.clone(), next: Arc::new(AtomicU64::new(BEFORE)) };
    let delivery = DeliveryStream::builder("d", source, store.clone())
        .with_settings(by_day())
        .with_transform(faster.clone())
        .open()
        .await
        .unwrap();
    delivery.flush().await.unwrap();
    let put = faster.next.load(Ordering::Relaxed);
    assert!(put < BEFORE + AFTER, "the flush went on until the producer had ended");
    let delivered = delivered(&*store).await;
    assert!((0..BEFORE).all(|id| delivered.contains(&id)), "{delivered:?}");
}
