//! A partition key goes where AWS sends it, and every hash key belongs to exactly one shard.

use kinesis_core::{HashKey, HashKeyRange, Kinesis, PutRecord};

#[test]
fn a_hash_key_is_the_md5_of_the_partition_key() {
    // RFC 1321's test suite, read as big-endian numbers.
    for (key, md5) in [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
    ] {
        assert_eq!(HashKey::of(key), HashKey(u128::from_str_radix(md5, 16).unwrap()), "{key}");
    }
}

#[test]
fn ranges_are_those_that_aws_gives() {
    // As AWS describes a stream of three shards.
    let ends: Vec<_> = HashKeyRange::split_evenly(3).iter().map(|range| range.ending.to_string()).collect();
    assert_eq!(
        ends,
        [
            "113427455640312821154458202477256070484",
            "226854911280625642308916404954512140969",
            "340282366920938463463374607431768211455",
        ]
    );
}

#[test]
fn ranges_cover_every_hash_key_once() {
    for shards in (1..=300).chain([1000, 4096, 9999, 10_000]) {
        let ranges = HashKeyRange::split_evenly(shards);
        assert_eq!((ranges.len(), ranges[0].starting), (shards as usize, HashKey(0)));
        assert_eq!(ranges.last().unwrap().ending, HashKey::MAX);
        for pair in ranges.windows(2) {
            assert_eq!(pair[0].ending.0 + 1, pair[1].starting.0, "{shards} shards");
            let width = |range: &HashKeyRange| range.ending.0 - range.starting.0;
            assert!(pair[1] == ranges[ranges.len() - 1] || width(&pair[0]) == width(&pair[1]), "{shards} shards");
        }
    }
}

#[tokio::test]
async fn a_record_lies_in_the_shard_that_owns_its_hash_key() {
    let kinesis = Kinesis::memory().open().await.unwrap();
    let stream = kinesis.create_stream("routes", 7).await.unwrap();
    let shards = stream.list_shards().unwrap();
    for number in 0..500 {
        let key = format!("key {number}");
        let stored = stream.put_record(PutRecord::new("", key.clone())).await.unwrap();
        let owners: Vec<_> = shards.iter().filter(|shard| shard.hash_key_range.contains(HashKey::of(&key))).collect();
        assert_eq!(owners.len(), 1);
        assert_eq!((stored.shard_id, stored.sequence_number.shard()), (owners[0].id, owners[0].id));
    }
    // The edges of every range, by explicit hash key.
    for shard in &shards {
        for edge in [shard.hash_key_range.starting, shard.hash_key_range.ending] {
            let record = PutRecord::new("edge", "any").with_explicit_hash_key(edge);
            assert_eq!(stream.put_record(record).await.unwrap().shard_id, shard.id);
        }
    }
}
