//! No acknowledged record is lost when the process is killed, and none is there twice or changed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use kinesis_core::{DataStream, Durability, Kinesis, Producer, PutBatch, Record, SequenceNumber, ShardId};
use testkit::crash::{Child, Crash, KILLS, Tally};

use super::stage::{number_of, read_all, record, small_settings};

/// Puts numbered batches from where the stream says, acknowledges each record, and commits positions, for ever.
#[tokio::main(flavor = "current_thread")]
async fn child(child: &Child) {
    // Every other child is killed from its opening on, so that recovery is killed too.
    let kinesis = if child.round().is_multiple_of(2) {
        child.ready();
        open(child.dir()).await
    } else {
        let kinesis = open(child.dir()).await;
        child.ready();
        kinesis
    };
    let stream = match kinesis.stream("s") {
        Ok(stream) => stream,
        Err(_) => kinesis.create_stream("s", 4).await.unwrap(),
    };
    // The sabotage acknowledges what is not durable yet.
    let durability = if child.mode() == "early" { Durability::Memory } else { Durability::Journal };
    loop {
        let first = stream.producer("child").unwrap().map_or(0, |last| last + 1);
        let batch = PutBatch::new((first..first + 20).map(record).collect());
        let batch = batch.with_producer(Producer::consecutive("child", first)).with_durability(durability);
        for (outcome, number) in stream.put_batch(batch).await.unwrap().records.iter().zip(first..) {
            let stored = outcome.stored().unwrap();
            child.ack(format_args!("{number} {} {}", stored.shard_id, stored.sequence_number));
        }
        if child.mode() == "early" {
            // Nothing tells this child what became durable, so it does not look.
            acknowledge_only_memory(&stream, first + 20, child).await;
        }
        let state = Some((first + 19).to_string().into());
        stream.commit("child", BTreeMap::new(), state).await.unwrap();
        child.ack(format_args!("committed {}", first + 19));
    }
}

async fn acknowledge_only_memory(stream: &DataStream, first: u64, child: &Child) {
    for first in (first..).step_by(20) {
        let batch = PutBatch::new((first..first + 20).map(record).collect());
        let batch = batch.with_producer(Producer::consecutive("child", first)).with_durability(Durability::Memory);
        for (outcome, number) in stream.put_batch(batch).await.unwrap().records.iter().zip(first..) {
            let stored = outcome.stored().unwrap();
            child.ack(format_args!("{number} {} {}", stored.shard_id, stored.sequence_number));
        }
    }
}

async fn open(dir: &Path) -> Kinesis {
    Kinesis::at(dir).with_settings(small_settings()).open().await.unwrap()
}

/// What was acknowledged, over all children.
#[derive(Default)]
struct Acked {
    records: BTreeMap<(ShardId, SequenceNumber), u64>,
    committed: Option<u64>,
}

impl Acked {
    fn add(&mut self, line: &str) {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap();
        match word() {
            "committed" => self.committed = Some(word().parse().unwrap()),
            number => {
                let at = (word().parse().unwrap(), word().parse().unwrap());
                self.records.insert(at, number.parse().unwrap());
            }
        }
    }

    /// Opens what is left and compares.
    async fn verify(&self, dir: &Path, when: &str) {
        let kinesis = open(dir).await;
        let Ok(stream) = kinesis.stream("s") else {
            assert!(self.records.is_empty(), "{when}: the stream is gone");
            // Dropped, it would let go of the directory some time after the next child opens it.
            kinesis.close().await.unwrap();
            return;
        };
        let found: BTreeMap<ShardId, Vec<Record>> = read_all(&stream).await.unwrap();
        let mut numbers = Vec::new();
        let mut unseen = self.records.clone();
        for (shard, records) in &found {
            assert!(records.is_sorted_by(|a, b| a.sequence_number < b.sequence_number), "{when}: {shard} is unordered");
            for record in records {
                // Bytes and key are those that the number was put with.
                let number = number_of(record);
                let acked = unseen.remove(&(*shard, record.sequence_number));
                assert!(acked.is_none_or(|acked| acked == number), "{when}: {acked:?} became {number}");
                numbers.push(number);
            }
        }
        let first = unseen.first_key_value();
        assert!(unseen.is_empty(), "{when}: {} acknowledged records are lost, first {first:?}", unseen.len());
        numbers.sort_unstable();
        let last = stream.producer("child").unwrap();
        assert_eq!(numbers, (0..last.map_or(0, |last| last + 1)).collect::<Vec<_>>(), "{when}: doubled or missing");
        let state = stream.consumer("child").unwrap().and_then(|consumer| consumer.state);
        let committed = state.map(|state| String::from_utf8(state.to_vec()).unwrap().parse::<u64>().unwrap());
        assert!(committed >= self.committed, "{when}: {:?} was committed, {committed:?} is left", self.committed);
        kinesis.close().await.unwrap();
    }
}

fn series(test: &str, mode: &str, kills: u32) -> (Tally, usize) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut acked = Acked::default();
    let tally = Crash::test(test).with_mode(mode).with_kills(kills).run(dir.path(), |run| {
        run.acks.iter().for_each(|line| acked.add(line));
        runtime.block_on(acked.verify(dir.path(), &run.to_string()));
    });
    (tally, acked.records.len())
}

#[test]
fn no_acknowledged_record_is_lost() {
    if let Some(process) = Child::current() {
        child(&process);
        return;
    }
    let (tally, records) = series("survives_kill::no_acknowledged_record_is_lost", "", KILLS);
    println!("{tally:?}, {records} records acknowledged");
    assert_eq!(tally.kills, KILLS);
    assert!(records > KILLS as usize * 5, "{tally:?}");
}

/// The harness sees it when records are acknowledged before they are durable.
#[test]
fn an_early_acknowledgement_is_caught() {
    if let Some(process) = Child::current() {
        child(&process);
        return;
    }
    let caught =
        catch_unwind(AssertUnwindSafe(|| series("survives_kill::an_early_acknowledgement_is_caught", "early", KILLS)));
    let message = caught.expect_err("the sabotage is caught");
    let message = message.downcast_ref::<String>().expect("an assertion's message");
    assert!(message.contains("acknowledged records are lost"), "{message}");
}
