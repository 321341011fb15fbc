//! Holds what a stream has against what its writers were told: what was acknowledged is there, once, as it was put; what was not is
//! there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use kinesis_core::{DataStream, IteratorType, PutOutcome, Record, SequenceNumber, ShardId};
use testkit::seeds::Violation;

use super::stage::record;

/// What must be there, and what may be.
#[derive(Default)]
pub(crate) struct Expected {
    /// By number: where it was acknowledged.
    pub(crate) acknowledged: BTreeMap<u64, (ShardId, SequenceNumber)>,
    /// Batches whose outcome nobody knows.
    pub(crate) unknown: Vec<Vec<u64>>,
    /// The consumer's positions that may be committed: the last acknowledged, and unknown ones behind it.
    pub(crate) positions: Vec<BTreeMap<ShardId, SequenceNumber>>,
    next: u64,
}

impl Expected {
    /// Numbers that no record has had.
    pub(crate) fn numbers(&mut self, count: u64) -> Vec<u64> {
        self.next += count;
        (self.next - count..self.next).collect()
    }

    pub(crate) fn acknowledge(&mut self, numbers: &[u64], outcomes: &[PutOutcome]) {
        for (number, outcome) in numbers.iter().zip(outcomes) {
            if let Some(stored) = outcome.stored() {
                self.acknowledged.insert(*number, (stored.shard_id, stored.sequence_number));
            }
        }
    }
}

/// All records of all shards, in their order.
async fn read(stream: &DataStream) -> Result<BTreeMap<ShardId, Vec<Record>>, Violation> {
    let mut all = BTreeMap::new();
    for shard in stream.list_shards().map_err(|error| format!("{error:?}"))? {
        let mut records = Vec::new();
        let mut next = stream.shard_iterator(shard.id, IteratorType::TrimHorizon).await.map(Some);
        while let Some(iterator) = next.map_err(|error| format!("{error:?}"))? {
            let output = stream.get_records(&iterator, 50).await.map_err(|error| format!("{error:?}"))?;
            let tip = output.records.is_empty();
            for record in &output.records {
                if !shard.hash_key_range.contains(record.hash_key) {
                    return Err(format!("{} has a record of another range", shard.id));
                }
            }
            records.extend(output.records);
            next = Ok(output.next_iterator.filter(|_| !tip));
        }
        all.insert(shard.id, records);
    }
    Ok(all)
}

fn number_of(found: &Record) -> Result<u64, Violation> {
    let text = String::from_utf8_lossy(&found.data).into_owned();
    let number = text.split(':').next().and_then(|number| number.parse().ok()).ok_or("a record of nobody")?;
    let expected = record(number);
    match (found.data.clone(), found.partition_key.as_str()) == (expected.data, expected.partition_key.as_str()) {
        true => Ok(number),
        false => Err(format!("record {number} is not as it was put")),
    }
}

/// Holds what is there against what must be; what was unknown is known then.
pub(crate) async fn verify(stream: &DataStream, expected: &mut Expected) -> Result<(), Violation> {
    let mut found = BTreeMap::new();
    for (shard, records) in read(stream).await? {
        let mut last = None;
        for record in &records {
            let number = number_of(record)?;
            if last.replace(record.sequence_number).is_some_and(|last| last >= record.sequence_number) {
                return Err(format!("numbers of {shard} do not rise at record {number}"));
            }
            if found.insert(number, (shard, record.sequence_number)).is_some() {
                return Err(format!("record {number} is there twice"));
            }
        }
    }
    for (number, place) in &expected.acknowledged {
        if found.get(number) != Some(place) {
            return Err(format!("acknowledged record {number} at {place:?}: found {:?}", found.get(number)));
        }
    }
    let mut known: BTreeSet<u64> = expected.acknowledged.keys().copied().collect();
    for batch in std::mem::take(&mut expected.unknown) {
        let there = batch.iter().filter(|number| found.contains_key(number)).count();
        if there != 0 && there != batch.len() {
            return Err(format!("{there} of the {} records of a batch are there", batch.len()));
        }
        known.extend(&batch);
        if there > 0 {
            expected.acknowledged.extend(batch.iter().map(|number| (*number, found[number])));
        }
    }
    if let Some(stray) = found.keys().find(|number| !known.contains(number)) {
        return Err(format!("record {stray} was never put, or was taken back"));
    }
    let positions = stream.consumer("c").map_err(|error| format!("{error:?}"))?.unwrap_or_default().positions;
    if !expected.positions.is_empty() && !expected.positions.contains(&positions) {
        return Err(format!("the consumer stands at {positions:?}, committed was {:?}", expected.positions));
    }
    if !expected.positions.is_empty() {
        expected.positions = vec![positions];
    }
    Ok(())
}
