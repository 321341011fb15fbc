//! Appends, conditional appends and reads of a shard are linearizable: there is an order of all calls, each at a moment between
//! its beginning and its end, in which a plain list would have answered the same.
//!
//! An append's place in that order is its record's place in the shard, a read's is behind the last record it saw, so that the
//! order is known and need not be searched for. A refused append stands anywhere but where it would have been let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kinesis_core::{DataStream, ErrorKind, IteratorType, Kinesis, PutBatch, SequenceNumber, ShardId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::{read_shard, record};

const CLIENTS: u64 = 4;
const CALLS: u64 = 200;
const SHARD: ShardId = ShardId::new(0);

/// What a call did, as its client saw it.
#[derive(Clone, Copy, Debug)]
enum Did {
    Append {
        stored: SequenceNumber,
    },
    /// On top of the newest record it knew, or of none.
    Conditional {
        expected: Option<SequenceNumber>,
        stored: SequenceNumber,
    },
    Refused {
        expected: Option<SequenceNumber>,
    },
    /// The newest record it saw.
    Read {
        newest: Option<SequenceNumber>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Call {
    begun: u64,
    ended: u64,
    did: Did,
}

/// The first call that no order explains. `order` is the shard as it is in the end.
fn contradiction(calls: &[Call], order: &[SequenceNumber]) -> Option<String> {
    // How many records there are once this one is stored.
    let length = |number: SequenceNumber| order.binary_search(&number).map(|at| at + 1);
    let lengths = |number: Option<SequenceNumber>| number.map_or(Ok(0), length);
    // The list's length before and after each call whose place is known.
    let mut placed: Vec<(Call, usize, usize)> = Vec::new();
    for call in calls {
        let place = match call.did {
            Did::Append { stored } => length(stored).map(|after| (after - 1, after)),
            Did::Conditional { expected, stored } => match (lengths(expected), length(stored)) {
                (Ok(before), Ok(after)) if before + 1 == after => Ok((before, after)),
                _ => return Some(format!("{call:?} was let in elsewhere than on top of what it expected")),
            },
            Did::Read { newest } => lengths(newest).map(|length| (length, length)),
            Did::Refused { .. } => continue,
        };
        match place {
            Ok((before, after)) => placed.push((*call, before, after)),
            Err(_) => return Some(format!("{call:?} names a record that is not there")),
        }
    }
    // What ended before another began lies before it.
    let most_before =
        |begun: u64| placed.iter().filter(|(call, ..)| call.ended < begun).map(|(.., after)| *after).max().unwrap_or(0);
    let least_behind = |ended: u64| {
        placed.iter().filter(|(call, ..)| call.begun > ended).map(|(_, before, _)| *before).min().unwrap_or(order.len())
    };
    for (call, before, _) in &placed {
        if most_before(call.begun) > *before {
            return Some(format!("{call:?} does not see what was done before it began"));
        }
    }
    for call in calls {
        let Did::Refused { expected } = call.did else { continue };
        let (from, to) = (most_before(call.begun), least_behind(call.ended));
        let would_be_let_in = lengths(expected).ok();
        if (from..=to).all(|length| Some(length) == would_be_let_in) {
            return Some(format!("{call:?} should have been let in"));
        }
    }
    None
}

async fn client(stream: DataStream, seed: u64, time: Arc<AtomicU64>) -> Vec<Call> {
    let mut random = StdRng::seed_from_u64(seed);
    let now = || time.fetch_add(1, Ordering::SeqCst);
    let mut newest: Option<SequenceNumber> = None;
    let mut calls = Vec::new();
    for number in 0..CALLS {
        if random.random_bool(0.2) {
            tokio::task::yield_now().await;
        }
        let batch = PutBatch::new(vec![record(number)]);
        let begun = now();
        let did = match random.random_range(0..3) {
            0 => {
                let output = stream.put_batch(batch).await.unwrap();
                Did::Append { stored: output.records[0].stored().unwrap().sequence_number }
            }
            1 => match stream.put_batch(batch.with_expected(SHARD, newest)).await {
                Ok(output) => {
                    Did::Conditional { expected: newest, stored: output.records[0].stored().unwrap().sequence_number }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
                    Did::Refused { expected: newest }
                }
            },
            _ => {
                let from = newest.map_or(IteratorType::TrimHorizon, IteratorType::AfterSequenceNumber);
                let iterator = stream.shard_iterator(SHARD, from).await.unwrap();
                let output = stream.get_records(&iterator, 10_000).await.unwrap();
                Did::Read { newest: output.records.last().map(|record| record.sequence_number).or(newest) }
            }
        };
        let ended = now();
        newest = match did {
            Did::Append { stored } | Did::Conditional { stored, .. } => Some(stored),
            Did::Read { newest } => newest,
            Did::Refused { .. } => newest,
        };
        calls.push(Call { begun, ended, did });
    }
    calls
}

async fn history(kinesis: &Kinesis, seed: u64) -> (Vec<Call>, Vec<SequenceNumber>) {
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let time = Arc::new(AtomicU64::new(0));
    let clients =
        (0..CLIENTS).map(|client| tokio::spawn(self::client(stream.clone(), seed * CLIENTS + client, time.clone())));
    let mut calls = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        calls.extend(client.await.unwrap());
    }
    let order = read_shard(&stream, SHARD).await.unwrap().into_iter().map(|record| record.sequence_number).collect();
    (calls, order)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn in_every_history() {
    let mut refused = 0;
    let mut conditional = 0;
    for seed in testkit::seeds::seeds(0..100) {
        // Every tenth on a disk.
        let dir = tempfile::tempdir().unwrap();
        let builder = if seed % 10 == 0 { Kinesis::at(dir.path()) } else { Kinesis::memory() };
        let kinesis = builder.open().await.unwrap();
        let (calls, order) = history(&kinesis, seed).await;
        if let Some(told) = contradiction(&calls, &order) {
            panic!("seed {seed}: {told}");
        }
        refused += calls.iter().filter(|call| matches!(call.did, Did::Refused { .. })).count();
        conditional += calls.iter().filter(|call| matches!(call.did, Did::Conditional { .. })).count();
        kinesis.close().await.unwrap();
    }
    assert!(refused > 100 && conditional > 100, "{refused} refused, {conditional} let in");
}

/// The checker finds what it looks for: a read of the past, a write out of order, a refusal without a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_history_that_is_tampered_with_is_not() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let (calls, order) = history(&kinesis, 7).await;
    assert_eq!(contradiction(&calls, &order), None);
    let last = calls.iter().map(|call| call.ended).max().unwrap();
    let after = |did| Call { begun: last + 1, ended: last + 2, did };
    let with = |call: Call| [calls.as_slice(), &[call]].concat();
    let newest = order.last().copied();
    assert_eq!(contradiction(&with(after(Did::Read { newest })), &order), None);
    assert_eq!(contradiction(&with(after(Did::Refused { expected: None })), &order), None);
    for wrong in [
        after(Did::Read { newest: order.first().copied() }),
        after(Did::Read { newest: None }),
        after(Did::Append { stored: order[order.len() / 2] }),
        after(Did::Refused { expected: newest }),
        after(Did::Conditional { expected: order.first().copied(), stored: order[order.len() - 1] }),
    ] {
        assert!(contradiction(&with(wrong), &order).is_some(), "{wrong:?}");
    }
    let swapped: Vec<SequenceNumber> = order.iter().rev().copied().collect();
    assert!(contradiction(&calls, &swapped).is_some());
    kinesis.close().await.unwrap();
}
