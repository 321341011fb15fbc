//! A disk that fails at any one call, or is full: nothing is acknowledged that is not there, the error says what it was, and
//! opened anew everything goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable_core::ManualClock;
use kinesis_core::object_store::memory::InMemory;
use kinesis_core::{DataStream, ErrorKind, Kinesis, PutBatch};
use testkit::disk::SimDisk;
use testkit::seeds::Violation;

use super::auditor::{Expected, verify};
use super::stage::{on_disk, record, stream_of};

struct Run {
    disk: SimDisk,
    store: Arc<InMemory>,
    expected: Expected,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), store: Arc::new(InMemory::new()), expected: Expected::default() }
    }

    async fn open(&self) -> kinesis_core::Result<(Kinesis, DataStream)> {
        let disk = Arc::new(self.disk.clone());
        let kinesis = on_disk(self.store.clone(), disk, 64 << 10, &ManualClock::default()).open().await?;
        let stream = stream_of(&kinesis, 2).await?;
        Ok((kinesis, stream))
    }

    /// Puts and seals; answers the error that ended it, if one did.
    async fn work(&mut self) -> Result<Option<kinesis_core::Error>, Violation> {
        let (kinesis, stream) = match self.open().await {
            Ok(opened) => opened,
            Err(error) => return Ok(Some(error)),
        };
        let (mut failed, mut is_poisoned) = (None, false);
        for round in 0..12 {
            let numbers = self.expected.numbers(20);
            match stream.put_batch(PutBatch::new(numbers.iter().copied().map(record).collect())).await {
                Ok(_) if is_poisoned => return Err("a put was acknowledged behind one that failed".to_owned()),
                Ok(output) => self.expected.acknowledge(&numbers, &output.records),
                Err(error) => {
                    self.expected.unknown.push(numbers);
                    is_poisoned = true;
                    failed.get_or_insert(error);
                }
            }
            if round % 4 == 3
                && let Err(error) = kinesis.seal().await
            {
                failed.get_or_insert(error);
            }
            if round == 5
                && let Err(error) = stream.commit("c", BTreeMap::new(), Some("state".into())).await
            {
                failed.get_or_insert(error);
            }
        }
        if let Err(error) = kinesis.close().await {
            failed.get_or_insert(error);
        }
        Ok(failed)
    }

    async fn verify(&mut self) -> Result<(), Violation> {
        let (kinesis, stream) = self.open().await.map_err(|error| format!("it does not open: {error:?}"))?;
        verify(&stream, &mut self.expected).await?;
        kinesis.close().await.map_err(|error| format!("{error:?}"))
    }
}

/// The n-th call of the disk fails, for every n until there is no such call.
#[tokio::test]
async fn at_any_call() {
    let mut failures = 0;
    for call in 0.. {
        let mut run = Run::new(call);
        run.disk.fail_call(call);
        let failed = run.work().await.unwrap_or_else(|violation| panic!("call {call}: {violation}"));
        let fired = run.disk.counts().calls > call;
        if let Some(error) = &failed {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "call {call}: {error:?}");
        }
        run.disk.heal();
        // With what was not synced gone as well.
        for crash in [false, true] {
            if crash {
                run.disk.crash();
            } else {
                run.disk.kill();
            }
            run.verify().await.unwrap_or_else(|violation| panic!("call {call}, crash {crash}: {violation}"));
        }
        if !fired {
            break;
        }
        failures += u64::from(failed.is_some());
    }
    assert!(failures > 50, "{failures} calls failed with an effect");
}

/// The disk is full, and has room again.
#[tokio::test]
async fn when_it_is_full() {
    for seed in 0..50 {
        let mut run = Run::new(seed);
        run.disk.set_capacity(u64::MAX);
        assert!(run.work().await.unwrap().is_none());
        let used: u64 =
            run.disk.files().iter().filter_map(|file| run.disk.bytes(file)).map(|bytes| bytes.len() as u64).sum();
        run.disk.set_capacity(used + seed * 997);
        let mut full = None;
        for _ in 0..50 {
            full = run.work().await.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
            if full.is_some() {
                break;
            }
        }
        let full = full.unwrap_or_else(|| panic!("seed {seed}: the disk was never full"));
        assert_eq!(full.kind(), ErrorKind::LimitExceeded, "seed {seed}: {full:?}");
        run.disk.set_capacity(u64::MAX);
        run.verify().await.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(run.work().await.unwrap().is_none(), "seed {seed}: with room again it works");
        run.verify().await.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}
