//! What happens together happens whole: conditional appends, and commits with the records they led to.

use std::collections::BTreeMap;

use durable_core::ManualClock;
use kinesis_core::{ErrorKind, HashKey, Kinesis, Producer, PutBatch, PutRecord, ShardId};

use super::stage::{numbers, put, read_shard, read_to_tip, record, small};

#[tokio::test]
async fn of_two_who_append_behind_the_same_record_one_wins() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 2).await.unwrap();
    let shard = ShardId::new(0);
    let batch = |number| PutBatch::new(vec![record(number).with_explicit_hash_key(HashKey(0))]);
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let stream = stream.clone();
            tokio::spawn(async move {
                let mut won = Vec::new();
                let mut newest = None;
                for round in 0..20 {
                    let number = task * 100 + round;
                    match stream.put_batch(batch(number).with_expected(shard, newest)).await {
                        Ok(output) => won.push((newest, output.records[0].stored().unwrap().sequence_number)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                    }
                    let (found, _) = read_to_tip(&stream, shard).await.unwrap();
                    newest = found.last().map(|record| record.sequence_number);
                }
                won
            })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        won.extend(task.await.unwrap());
    }
    won.sort();
    // Each winner stands directly behind the record that it expected.
    let found: Vec<_> = read_shard(&stream, shard).await.unwrap().iter().map(|record| record.sequence_number).collect();
    let chain: Vec<_> =
        std::iter::once(None).chain(found.iter().copied().map(Some)).zip(found.iter().copied()).collect();
    assert_eq!(won, chain);
    // A record of another shard, or of none, is not the newest.
    let other = put(&stream, [5]).await.into_iter().find(|(id, _)| *id != shard);
    if let Some((_, number)) = other {
        let error = stream.put_batch(batch(9).with_expected(shard, Some(number))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_expected_record_is_remembered_over_openings() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let batch = || PutBatch::new(vec![PutRecord::new("x", "k")]);
    let mut newest = None;
    for opening in 0..4 {
        let kinesis = small(dir.path(), &clock).open().await.unwrap();
        let stream = match kinesis.stream("s") {
            Ok(stream) => stream,
            Err(_) => kinesis.create_stream("s", 1).await.unwrap(),
        };
        let error = stream.put_batch(batch().with_expected(ShardId::new(0), None)).await;
        if let Some(newest) = newest {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Conflict);
            let output = stream.put_batch(batch().with_expected(ShardId::new(0), Some(newest))).await.unwrap();
            assert_eq!(output.stored(), 1);
        }
        newest = read_shard(&stream, ShardId::new(0)).await.unwrap().last().map(|record| record.sequence_number);
        if opening % 2 == 0 {
            kinesis.seal().await.unwrap();
        }
        kinesis.close().await.unwrap();
    }
}

#[tokio::test]
async fn positions_and_output_are_there_together_or_not_at_all() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::default());
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    let input = kinesis.create_stream("in", 1).await.unwrap();
    let (output, audit) =
        (kinesis.create_stream("out", 3).await.unwrap(), kinesis.create_stream("audit", 1).await.unwrap());
    let read = put(&input, 0..30).await;
    for (number, (shard, position)) in (0u64..).zip(&read) {
        let positions = BTreeMap::from([(*shard, *position)]);
        let transaction = kinesis
            .transaction()
            .put(&output, PutBatch::new(vec![record(number), record(number + 1000)]))
            .put(&audit, PutBatch::new(vec![record(number)]).with_producer(Producer::consecutive("p", number)))
            .commit(&input, "worker", positions, Some(number.to_string().into()));
        // Some are dropped before they are answered.
        if number % 3 == 0 {
            let mut execution = Box::pin(transaction.execute());
            let _ = futures::poll!(execution.as_mut());
        } else {
            let outputs = transaction.execute().await.unwrap();
            assert_eq!(outputs.iter().map(kinesis_core::PutRecordsOutput::stored).collect::<Vec<_>>(), [2, 1]);
        }
    }
    kinesis.flush().await.unwrap();
    let check = async |kinesis: &Kinesis| {
        let [input, output, audit] = ["in", "out", "audit"].map(|name| kinesis.stream(name).unwrap());
        let done = numbers(&audit).await;
        let mut expected: Vec<u64> = done.iter().flat_map(|number| [*number, number + 1000]).collect();
        expected.sort_unstable();
        assert_eq!(numbers(&output).await, expected);
        let state = input.consumer("worker").unwrap().unwrap();
        let last = done.last().unwrap();
        assert_eq!(state.state.unwrap(), last.to_string());
        assert_eq!(state.positions[&ShardId::new(0)], read[*last as usize].1);
    };
    check(&kinesis).await;
    kinesis.close().await.unwrap();
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    check(&kinesis).await;
    kinesis.seal().await.unwrap();
    kinesis.close().await.unwrap();
    let kinesis = small(dir.path(), &clock).open().await.unwrap();
    check(&kinesis).await;
}

#[tokio::test]
async fn a_transaction_with_a_part_that_is_refused_does_nothing() {
    let (kinesis, other) = (Kinesis::memory().open().await.unwrap(), Kinesis::memory().open().await.unwrap());
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    let foreign = other.create_stream("s", 1).await.unwrap();
    let batch = || PutBatch::new(vec![record(1)]);
    let unknown = BTreeMap::from([(ShardId::new(7), put(&foreign, [1]).await[0].1)]);
    let refused = [
        kinesis.transaction(),
        kinesis.transaction().put(&stream, batch()).put(&stream, batch()),
        kinesis.transaction().put(&stream, batch()).put(&foreign, batch()),
        kinesis.transaction().put(&stream, batch()).commit(&stream, "not a name", BTreeMap::new(), None),
        kinesis.transaction().put(&stream, batch()).commit(&stream, "c", unknown, None),
        kinesis.transaction().commit(&stream, "c", BTreeMap::new(), None).put(&stream, PutBatch::new(Vec::new())),
    ];
    for transaction in refused {
        let kind = transaction.execute().await.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::InvalidInput | ErrorKind::NotFound), "{kind}");
    }
    assert_eq!(numbers(&stream).await, [0; 0]);
    assert_eq!(stream.consumers().unwrap(), [""; 0]);
}
