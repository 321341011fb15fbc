//! What a Kinesis Producer Library aggregated is read apart, and what is aggregated here its consumers read apart.

#[cfg(feature = "server")]
use std::process::Command;

use kinesis_core::{
    Aggregator, DataStream, ErrorKind, HashKey, HashKeyRange, Kinesis, PutRecord, Record, ShardId, UserRecord,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::stage::read_all;
#[cfg(feature = "server")]
use super::wire_stage::{has, script, succeed};

async fn one_shard() -> (Kinesis, DataStream) {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("s", 1).await.unwrap();
    (kinesis, stream)
}

async fn users(stream: &DataStream) -> Vec<UserRecord> {
    let all = read_all(stream).await.unwrap();
    all.values().flatten().flat_map(Record::user_records).collect()
}

fn user(number: u64) -> PutRecord {
    let record = PutRecord::new(vec![number as u8; (number * 7 % 300) as usize], format!("key-{}", number % 13));
    if number.is_multiple_of(5) {
        record.with_explicit_hash_key(HashKey(u128::from(number % 3) << 120))
    } else {
        record
    }
}

/// Data, key and hash key of each, in order by key.
fn told(users: &[UserRecord]) -> Vec<(String, Vec<u8>, HashKey)> {
    let mut told: Vec<_> = users
        .iter()
        .map(|user| {
            let record = &user.record;
            (record.partition_key.as_str().to_owned(), record.data.to_vec(), record.hash_key)
        })
        .collect();
    told.sort_by(|left, right| left.0.cmp(&right.0));
    told
}

#[tokio::test]
async fn what_is_aggregated_is_read_apart_in_order() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    for (shards, bytes_max, records_max) in
        [(1, 1 << 20, usize::MAX), (4, 5_000, usize::MAX), (3, 1 << 20, 7), (2, 1, 1)]
    {
        let stream = kinesis.create_stream("s", shards).await.unwrap();
        let mut aggregator = Aggregator::new(&stream).unwrap().with_bytes_max(bytes_max).with_records_max(records_max);
        let mut puts = Vec::new();
        for number in 0..1000 {
            puts.extend(aggregator.add(user(number)).unwrap());
        }
        puts.extend(aggregator.flush());
        assert!(aggregator.flush().is_empty());
        assert!(puts.iter().all(|put| put.payload_bytes() <= bytes_max.max(330)));
        assert!(puts.len() <= 1000.min(1000 / records_max.min(20) + 100), "{}", puts.len());
        for put in puts {
            stream.put_record(put).await.unwrap();
        }
        let found = users(&stream).await;
        // Each came to the shard that its own hash key belongs to.
        for (shard, records) in read_all(&stream).await.unwrap() {
            let range = stream.list_shards().unwrap().into_iter().find(|one| one.id == shard).unwrap().hash_key_range;
            for record in records {
                assert_eq!(record.user_records_in(range), record.user_records());
                let subs: Vec<u64> = record.user_records().iter().map(|user| user.sub_sequence_number).collect();
                assert_eq!(subs, (0..subs.len() as u64).collect::<Vec<_>>());
            }
        }
        let mut expected: Vec<_> = (0..1000)
            .map(|number| {
                let put = user(number);
                let hash_key = put.explicit_hash_key.unwrap_or_else(|| HashKey::of(&put.partition_key));
                (put.partition_key, put.data.to_vec(), hash_key)
            })
            .collect();
        expected.sort_by(|left, right| left.0.cmp(&right.0));
        if shards == 1 {
            assert_eq!(told(&found), expected);
        } else {
            // Order holds for one key and hash key: with explicit hash keys, one key is in several shards.
            let (mut found, mut expected) = (told(&found), expected);
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
        kinesis.delete_stream("s").await.unwrap();
    }
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn a_reshard_puts_no_record_into_a_shard_that_is_not_its_own() {
    let (kinesis, stream) = one_shard().await;
    let mut aggregator = Aggregator::new(&stream).unwrap();
    let mut puts = Vec::new();
    for number in 0..50 {
        puts.extend(aggregator.add(user(number)).unwrap());
    }
    stream.split_shard(ShardId::new(0), HashKey(1 << 126)).await.unwrap();
    for number in 50..100 {
        puts.extend(aggregator.add(user(number)).unwrap());
    }
    puts.extend(aggregator.flush());
    for put in puts {
        stream.put_record(put).await.unwrap();
    }
    let shards = stream.list_shards().unwrap();
    let mut count = 0;
    for (id, records) in read_all(&stream).await.unwrap() {
        let range = shards.iter().find(|shard| shard.id == id).unwrap().hash_key_range;
        for user in records.iter().flat_map(|record| record.user_records_in(range)) {
            assert!(range.contains(user.record.hash_key));
            count += 1;
        }
    }
    assert_eq!(count, 100);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn what_is_no_whole_aggregate_is_a_plain_record() {
    let (kinesis, stream) = one_shard().await;
    let mut aggregator = Aggregator::new(&stream).unwrap();
    for number in 0..20 {
        assert!(aggregator.add(user(number)).unwrap().is_empty());
    }
    let good = aggregator.flush().remove(0);
    let mut random = StdRng::seed_from_u64(7);
    let mut puts = vec![good.data[..good.data.len() - 1].to_vec(), good.data[..20].to_vec(), Vec::new()];
    for _ in 0..200 {
        let mut damaged = good.data.to_vec();
        let at = random.random_range(0..damaged.len());
        damaged[at] ^= 1 << random.random_range(0..8);
        puts.push(damaged);
    }
    for data in &puts {
        stream.put_record(PutRecord::new(data.clone(), "k")).await.unwrap();
    }
    let found = users(&stream).await;
    assert_eq!(found.len(), puts.len());
    assert!(found.iter().zip(&puts).all(|(user, put)| !user.is_aggregated && user.record.data == put[..]));
    let error = aggregator.add(PutRecord::new("x", "")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // A record as large as a stream takes goes alone.
    let large = PutRecord::new(vec![7; (1 << 20) - 1], "k");
    assert!(aggregator.add(large.clone()).unwrap().is_empty());
    assert_eq!(aggregator.add(user(1)).unwrap(), [large]);
    kinesis.close().await.unwrap();
    assert_eq!(aggregator.add(user(2)).unwrap_err().kind(), ErrorKind::Closed);
}

/// With AWS's own library for Python: what it aggregates, and what it reads apart.
#[cfg(feature = "server")]
#[tokio::test(flavor = "multi_thread")]
async fn awss_library_and_we_read_each_other() {
    if !has("awss_library_and_we_read_each_other", &["aws_kinesis_agg"], &[]).await {
        return;
    }
    let (kinesis, stream) = one_shard().await;
    let python = |what: &str, input: Option<String>| {
        let mut command = Command::new("python3");
        command.arg(script("kpl.py")).arg(what).args(input);
        command
    };
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    for line in succeed(python("aggregate", None)).await.lines() {
        let (key, data) = line.split_once(' ').unwrap();
        stream.put_record(PutRecord::new(hex(data), key)).await.unwrap();
    }
    let found = users(&stream).await;
    assert_eq!(found.len(), 50);
    for (number, user) in found.iter().enumerate() {
        assert!(user.is_aggregated);
        assert_eq!(user.record.partition_key.as_str(), format!("key-{}", number % 7));
        assert_eq!(user.record.data, format!("\u{fc}ser {number}").as_bytes());
        let hash_key = if number % 2 == 0 { HashKey(number as u128) } else { HashKey::of(&user.record.partition_key) };
        assert_eq!(user.record.hash_key, hash_key);
    }

    let mut aggregator = Aggregator::new(&stream).unwrap();
    for number in 0..30 {
        aggregator.add(PutRecord::new(format!("data {number}"), format!("key-{}", number % 4))).unwrap();
    }
    let ours = aggregator.flush().remove(0);
    let text: String = ours.data.iter().map(|byte| format!("{byte:02x}")).collect();
    let told = succeed(python("deaggregate", Some(text))).await;
    let expected: Vec<String> = (0..30).map(|number| format!("key-{} data {number}", number % 4)).collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    kinesis.close().await.unwrap();
}

#[tokio::test]
async fn by_the_rule_of_the_kcl_an_aggregate_with_a_stray_is_left_out_whole() {
    let (kinesis, stream) = one_shard().await;
    let mut aggregator = Aggregator::new(&stream).unwrap();
    for key in [1_u128, 2, 3 << 126] {
        aggregator.add(PutRecord::new("x", "k").with_explicit_hash_key(HashKey(key))).unwrap();
    }
    stream.put_record(aggregator.flush().remove(0)).await.unwrap();
    stream.put_record(PutRecord::new("plain", "k").with_explicit_hash_key(HashKey(9 << 120))).await.unwrap();
    let records = read_all(&stream).await.unwrap().remove(&ShardId::new(0)).unwrap();
    let low = HashKeyRange { starting: HashKey(0), ending: HashKey(1 << 126) };
    assert_eq!(records[0].user_records_in(low), []);
    assert_eq!(records[0].user_records_in(HashKeyRange { starting: HashKey(0), ending: HashKey::MAX }).len(), 3);
    assert_eq!(records[1].user_records_in(low).len(), 1, "a plain record is where it is");
    kinesis.close().await.unwrap();
}
