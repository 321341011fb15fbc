//! The journal stays small: one message that nobody takes, and much traffic past it, leave the disk flat.

use std::path::Path;

use mq_core::{Message, Routing, Settings};

use super::{consume, counts, next, queue, send, text};

fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("journal")).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[tokio::test]
async fn a_stuck_message_does_not_hold_the_journal() {
    const ROUNDS: usize = 40;
    const BATCH: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::default().with_checkpoint_bytes(512 << 10);
    let broker = super::at(dir.path()).settings(settings.clone()).open().await.unwrap();
    broker.declare_queue(queue("stuck")).await.unwrap();
    broker.declare_queue(queue("busy")).await.unwrap();
    send(&broker, "stuck", "waits").await;
    let mut consumer = consume(&broker, "busy", 1000).await;
    let mut most = 0;
    for _ in 0..ROUNDS {
        for _ in 0..BATCH {
            let message = Message::new(vec![1; 8 << 10]);
            drop(broker.publish_later("", "busy", message, Routing::Optional).await.unwrap());
        }
        for _ in 1..BATCH {
            next(&mut consumer).await.ack_later().await.unwrap();
        }
        next(&mut consumer).await.ack().await.unwrap();
        most = most.max(bytes_in(dir.path()));
    }
    // 32 MiB went through. Segments are written to their end and two are allocated ahead.
    assert!(most < 16 << 20, "{most} bytes lay in the journal");
    broker.close().await.unwrap();
    let broker = super::at(dir.path()).settings(settings).open().await.unwrap();
    assert_eq!((counts(&broker, "stuck"), counts(&broker, "busy")), ((1, 0), (0, 0)));
    let mut consumer = consume(&broker, "stuck", 1).await;
    assert_eq!(text(&next(&mut consumer).await), "waits");
    broker.close().await.unwrap();
}
